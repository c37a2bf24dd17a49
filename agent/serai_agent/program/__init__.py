"""`serai-agent`: the agent of one node of a cluster."""
