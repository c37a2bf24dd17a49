"""What is told to whoever wakes a sleeping API: the phase of its first replica."""

from enum import StrEnum

from serai.model import Value


class WakePhase(StrEnum):
    """How far the first replica is; the order is the usual one.

    `asleep` is an end: there is none, and nobody waits for one.
    """

    ASLEEP = "asleep"
    ASKED = "asked"
    ENVIRONMENT = "environment"
    PROCESS = "process"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


ENDS = frozenset({WakePhase.ASLEEP, WakePhase.READY, WakePhase.FAILED})


class WakeProgress(Value):
    """How far it is, and why; `eta_s` is how long it usually takes from now, None if unknown."""

    api: str
    phase: WakePhase
    reason: str = ""
    eta_s: float | None = None
