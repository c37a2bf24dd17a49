"""When a micro-batch goes: a pure decision."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchLimits:
    """How large a batch may grow, how long its first request waits, how many run at once."""

    max_size: int
    max_wait_s: float
    parallel: int = 1


def batch_size(waiting: int, waited_s: float, running: int, limits: BatchLimits) -> int:
    """Return how many of the waiting requests go now; 0 means that they wait on.

    A lone request goes at once when nothing runs: waiting for company that may never come would
    only add latency. While a batch runs the next one gathers, and goes as soon as there is room
    for it to run and it is full or its oldest request has waited `max_wait_s`.
    """
    if waiting == 0 or running >= limits.parallel:
        return 0
    if running == 0 or waiting >= limits.max_size or waited_s >= limits.max_wait_s:
        return min(waiting, limits.max_size)
    return 0
