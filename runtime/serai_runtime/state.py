"""What one worker process is doing, as its probes tell it."""

from dataclasses import dataclass
from enum import StrEnum

EXIT_FAILED = 3
"""Exit status of a predictor that cannot be served: starting again would not help."""


class Phase(StrEnum):
    """Where a worker is in its life."""

    IMPORTING = "importing"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass
class WorkerState:
    """Changed on the event loop only. `open_requests` counts answers not yet finished."""

    phase: Phase = Phase.IMPORTING
    open_requests: int = 0
