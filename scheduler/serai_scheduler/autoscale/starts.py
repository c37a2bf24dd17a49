"""The replicas of one API that start: how far each has come, and how long it will take yet.

What happens between two looks counts as of the second. All times are monotonic seconds of the
caller; when the engine made a replica (wall clock, maybe of another machine) is believed only
within the time since the look before. Pure but for its memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from serai.model import Replica, ReplicaState
from serai.operator import StartProgress
from serai_scheduler.autoscale.start_up import Cache, StartUp, Times

PHASES = ("placed", "environment", "process", "loaded", "ready")
"""What a start comes to, in order: a node; its environment and bundle there; a process; the first
process that serves; all of them."""
_REACHED = {ReplicaState.PENDING: 1, ReplicaState.STARTING: 2, ReplicaState.LOADING: 3}
OVERDUE_FACTOR = 3.0
OVERDUE_LEAST_S = 30.0
PLACING_S = 5.0
"""No start waits longer for a place where there is room; beyond it, it tells of a full cluster."""
SEEN_LATE_S = 5.0
"""A start that is so old when it is first seen has phases that nobody has timed."""
BEEN_KEPT = 1000
ASKED_AGAIN_S = 10.0


@dataclass(slots=True)
class Start:
    """A replica that was asked for; `reached` holds since when it is known to be in each phase.

    One that was ready before, and is to be again, teaches nothing of starts; nor does one that a
    new leader finds in its middle.
    """

    version: str
    asked_at_s: float
    again: bool = False
    node: str = ""
    node_class: str = ""
    cache: Cache = "cold"
    reached: dict[str, float] = field(default_factory=dict)

    def lasts_s(self, now_s: float) -> float:
        """Return for how long it starts, without what it waited for room in a full cluster."""
        placed_at_s = self.reached.get(PHASES[0], now_s)
        return min(PLACING_S, placed_at_s - self.asked_at_s) + now_s - placed_at_s

    def took_s(self, now_s: float) -> dict[str, float]:
        """Return how long each phase took that was reached, and the one that it is in so far."""
        took: dict[str, float] = {}
        before_s = self.asked_at_s
        for phase in PHASES:
            if phase not in self.reached:
                return took | {phase: now_s - before_s}
            took[phase] = self.reached[phase] - before_s
            before_s = self.reached[phase]
        return took


class Starts:
    """Follows the starts of an API and learns from those that came; `everyone` is of all APIs."""

    def __init__(self, everyone: Times | None = None) -> None:
        self.learned = StartUp(everyone)
        self._under_way: dict[str, Start] = {}
        self._there: frozenset[str] = frozenset()
        """The replicas at the last look."""
        self._looked_at_s: float | None = None
        self._usual: tuple[float, float] | None = None
        """When it was last asked how long a start takes, and the answer."""
        self._been: dict[tuple[str, str], None] = {}
        """On which nodes which versions were ready: those have what another start needs."""

    def note(
        self,
        now_s: float,
        replicas: Sequence[Replica],
        classes: Mapping[str, str],
        wall_s: float = 0.0,
    ) -> None:
        """Take in the replicas as they are; `classes` tells that of a node.

        `wall_s` is compared with when the engine made them.
        """
        under_way: dict[str, Start] = {}
        looked_at_s, self._looked_at_s = self._looked_at_s, now_s
        for one in replicas:
            if one.state is ReplicaState.READY:
                start = self._under_way.get(one.id)
                if start is None and looked_at_s is not None and one.id not in self._there:
                    start = _begun(one, now_s, wall_s, looked_at_s)  # ready within one look
                if start is not None and not start.again:
                    self._follow(start, one, now_s, classes)
                    self.learned.add(now_s, start.node_class, start.cache, start.lasts_s(now_s))
                    self._usual = None
                self._note_been(one.node, one.version)
            elif one.alive and one.state is not ReplicaState.DRAINING:
                start = self._under_way.get(one.id)
                if start is None:
                    start = _begun(one, now_s, wall_s, looked_at_s)
                    self._follow(start, one, start.asked_at_s, classes)
                else:
                    self._follow(start, one, now_s, classes)
                under_way[one.id] = start
        self._under_way = under_way
        self._there = frozenset(one.id for one in replicas)

    def usual_s(self, now_s: float) -> float:
        """Return how long a start takes; what others learn changes it only now and then."""
        if self._usual is None or now_s - self._usual[0] >= ASKED_AGAIN_S:
            self._usual = now_s, self.learned.told_s(now_s)
        return self._usual[1]

    def learned_s(self, now_s: float) -> float | None:
        """Return how long a start takes, None while none of this API is known."""
        return self.usual_s(now_s) if self.learned.heard else None

    def eta_s(self, now_s: float, version: str) -> float | None:
        """Return how long until one of a version is ready, the first or one asked for now.

        None while no start of this API is known, and where all take far longer than usual.
        """
        if not self.learned.heard:
            return None
        mine = [one for one in self._under_way.values() if one.version == version]
        if not mine:
            return self.usual_s(now_s)
        left = [self._progress(one, now_s).left_s for one in mine]
        return min((left_s for left_s in left if left_s is not None), default=None)

    def coming(self, now_s: float, version: str) -> tuple[int, int]:
        """Return how many of a version will come in the usual time, and how many are overdue."""
        mine = [one for one in self._under_way.values() if one.version == version]
        overdue = sum(self._is_overdue(one, now_s) for one in mine)
        return len(mine) - overdue, overdue

    def progress(self, now_s: float) -> dict[str, StartProgress]:
        """Return by replica how far each start has come."""
        return {name: self._progress(one, now_s) for name, one in self._under_way.items()}

    def _progress(self, start: Start, now_s: float) -> StartProgress:
        left_s = None
        waits_s = start.lasts_s(now_s) if start.node else now_s - start.asked_at_s
        if not self._lasts_long(start, now_s, waits_s):
            left_s = max(0.0, self._due_s(start, now_s) - start.lasts_s(now_s))
        return StartProgress(took_s=start.took_s(now_s), left_s=left_s, cache=start.cache)

    def _is_overdue(self, start: Start, now_s: float) -> bool:
        """Say whether it is not to be waited for; one without a place would gain none by that."""
        return self._lasts_long(start, now_s, start.lasts_s(now_s))

    def _lasts_long(self, start: Start, now_s: float, lasts_s: float) -> bool:
        return lasts_s > max(OVERDUE_LEAST_S, OVERDUE_FACTOR * self._due_s(start, now_s))

    def _due_s(self, start: Start, now_s: float) -> float:
        cache = start.cache if start.node else None
        return self.learned.told_s(now_s, start.node_class, cache)

    def _follow(self, start: Start, one: Replica, now_s: float, classes: Mapping[str, str]) -> None:
        if one.node != start.node:  # placed, or placed anew
            start.node, start.node_class = one.node, classes.get(one.node, "")
            start.cache = "warm" if (one.node, one.version) in self._been else "cold"
            start.reached.clear()
        for phase in phases_of(one):
            start.reached.setdefault(phase, now_s)

    def _note_been(self, node: str, version: str) -> None:
        if (node, version) in self._been:
            return
        self._been[node, version] = None
        if len(self._been) > BEEN_KEPT:
            del self._been[next(iter(self._been))]


def _begun(one: Replica, now_s: float, wall_s: float, looked_at_s: float | None) -> Start:
    """Return the start of a replica that is seen for the first time, after a look without it."""
    age_s = max(0.0, wall_s - one.created_at_s) if one.node else 0.0
    if looked_at_s is not None:
        age_s = min(age_s, now_s - looked_at_s)
    was_ready = one.ready_at_s is not None and one.state is not ReplicaState.READY
    again = was_ready or one.restarts > 0 or age_s >= SEEN_LATE_S
    return Start(one.version, now_s - age_s, again)


def phases_of(one: Replica) -> Sequence[str]:
    """Return the phases that a replica has reached; none before it has a node."""
    if one.state is ReplicaState.READY:
        return PHASES
    if not one.node:
        return ()
    serves_in_part = one.state is ReplicaState.LOADING and bool(one.servers)
    return PHASES[: _REACHED.get(one.state, 1) + serves_in_part]
