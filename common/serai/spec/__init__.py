"""Reading, checking and describing `serai.yaml`."""

VERSION_KEYS = (
    "predictor",
    "pod",
    "compute",
    "env",
    "concurrency.per_replica",
    "readiness",
    "mounts",
)
"""Keys that make a new version when they change: what a replica is made from."""

SETTINGS_KEYS = (
    "endpoint",
    "autoscaling",
    "concurrency.queue",
    "concurrency.queue_timeout",
    "concurrency.body_max",
    "timeouts",
    "retry",
)
"""Keys that change without touching a replica."""
