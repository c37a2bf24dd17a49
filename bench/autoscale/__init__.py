"""The benchmark of the autoscaler."""
