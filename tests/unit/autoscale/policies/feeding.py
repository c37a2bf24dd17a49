"""Feeds a rule one second after another."""

from collections.abc import Callable, Iterable

from serai_scheduler.autoscale.decide import Limits
from serai_scheduler.autoscale.history import Sample
from serai_scheduler.autoscale.policies.policy import Policy

TEN_SLOTS = Limits(1, 1000, 10.0)


def second(load: int, ready: int, starting: int = 0, queued: int = 0) -> Sample:
    """Return a second at whose end so many requests run."""
    return Sample(1.0, load, load, load, queued, ready, starting, 10.0, 60.0, 1000)


def wanted(
    policy: Policy, loads: Iterable[int], ready: int | None = None, limits: Limits = TEN_SLOTS
) -> Callable[[int], int]:
    """Return the count by second, from 1 on; without `ready` what is wanted is ready at once."""
    counts = [1]
    for at_s, load in enumerate(loads, start=1):
        policy.add(float(at_s), second(load, counts[-1] if ready is None else ready))
        counts.append(policy.decide(float(at_s), limits).wanted)
    return counts.__getitem__
