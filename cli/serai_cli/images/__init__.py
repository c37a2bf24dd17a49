"""`serai image`: the image in which predictors run, and one with a whole version in it.

Here, too, the CLI imports the agent's package, when it runs: an exported image is made from what a
node would build.
"""
