"""`serai-scheduler`: one of a cluster's schedulers, wired together and kept going."""
