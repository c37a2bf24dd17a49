"""When a server counts as ready: hysteresis over its probes. Pure."""

from dataclasses import dataclass

from serai.readiness import Verdict


@dataclass(frozen=True)
class Health:
    """One server so far: `passed` and `failed` count the latest probes in a row."""

    up: bool = False
    was_up: bool = False
    passed: int = 0
    failed: int = 0
    last: Verdict | None = None
    said: str = ""


RETURN_AFTER = 2
"""Probes in a row that bring a server back which had been dropped: one alone may be luck."""


def after(health: Health, verdict: Verdict, failures: int, *, said: str = "") -> Health:
    """Return the health after one more probe.

    A new server is up with its first good probe; one that was up is dropped after `failures` bad
    probes in a row, at once when nobody listens any more, and comes back after RETURN_AFTER.
    """
    if verdict is Verdict.READY:
        passed = health.passed + 1
        up = health.up or not health.was_up or passed >= RETURN_AFTER
        return Health(up=up, was_up=health.was_up or up, passed=passed, last=verdict)
    failed = health.failed + 1
    up = health.up and failed < failures and verdict is not Verdict.REFUSED
    return Health(up=up, was_up=health.was_up, failed=failed, last=verdict, said=said)


def probe_period_s(health: Health, period_s: float, age_s: float) -> float:
    """Return the wait before the next probe: short while the replica starts or has doubts."""
    if health.up and not health.failed:
        return period_s
    return min(period_s, 0.05 if age_s < 5 else 0.25)
