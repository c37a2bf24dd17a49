"""When a server counts as ready, with hysteresis. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Health:
    """What the probes of one server came to so far."""

    ready: bool = False
    failures: int = 0


def probed(health: Health, passed: bool, failures_allowed: int) -> Health:
    """Return the health after one more probe: up at once, down after some failures in a row."""
    if passed:
        return Health(ready=True)
    failures = health.failures + 1
    return Health(ready=health.ready and failures < failures_allowed, failures=failures)
