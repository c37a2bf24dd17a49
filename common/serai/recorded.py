"""What the scheduler keeps of an API's past: its traffic by ten seconds, and its counts."""

from serai.model import Value
from serai.report import DemandSlot

TRAFFIC_KEPT_S = 7 * 86_400.0


class RecordedCount(Value):
    """A count that stood from a moment on (wall clock), and how long a start took by then."""

    at_s: float
    wanted: int
    start_up_s: float


class RecordedTraffic(Value):
    """What is kept of an API between two moments (wall clock, seconds since 1970).

    `slots` are by number (the time divided by ten seconds), summed over the gateways; idle ones are
    absent, as are those of times in which no scheduler listened. `counts` is oldest first, each
    where count or start-up time changed; the first may have begun before `since_s`.
    """

    api: str
    since_s: float
    until_s: float
    slots: dict[int, DemandSlot]
    counts: tuple[RecordedCount, ...]
