"""Burns 1 ms of CPU time in a plain method."""

import time
from typing import Any

BURN_NS = 1_000_000


def burn() -> None:
    """Keep the processor busy; it counts this thread's CPU time, not the wall's."""
    end_ns = time.thread_time_ns() + BURN_NS
    while time.thread_time_ns() < end_ns:
        pass


class Predictor:
    def predict(self, payload: dict[str, Any]) -> dict[str, float]:
        burn()
        return {"sum": payload["a"] + payload["b"] + payload["c"]}
