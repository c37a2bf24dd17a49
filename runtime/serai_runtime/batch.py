"""When a micro-batch goes: a pure decision."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchLimits:
    """How large a batch may grow and how long its first request waits."""

    max_size: int
    max_wait_s: float


def batch_size(waiting: int, waited_s: float, running: int, limits: BatchLimits) -> int:
    """Return how many of the waiting requests go now; 0 means that they wait on.

    A lone request goes at once when nothing runs: waiting for company that may never come would
    only add latency. While a batch runs the next one gathers, and goes when it is full, when the
    running one ends, or when its oldest request has waited `max_wait_s`.
    """
    if waiting == 0:
        return 0
    if waiting >= limits.max_size or running == 0 or waited_s >= limits.max_wait_s:
        return min(waiting, limits.max_size)
    return 0
