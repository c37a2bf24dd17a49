"""The simulated API: one queue, first come first served, before replicas of some slots each. Pure.

How long a request runs does not depend on how many others do; no replica fails and no node is full.
"""

import heapq
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from serai.routes import HELD_AT_ONCE

LATE_S = 5.0
"""Who waits longer than that is late, where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Load:
    """When each request comes, in order, and how long it runs: seconds since the beginning."""

    arrivals_s: Sequence[float]
    services_s: Sequence[float]


@dataclass(frozen=True, slots=True)
class Room:
    """Slots of one replica, how many may wait, and how long: both while a replica is ready.

    Who waits longer than `late_s`, is refused or never starts is late.
    """

    slots: int
    queue_limit: int
    queue_timeout_s: float
    late_s: float = LATE_S


@dataclass(frozen=True, slots=True)
class Second:
    """What came and what ended on a replica in a second; what runs and waits at its end."""

    arrivals: int
    completions: int
    running: int
    queued: int


class System:
    """Takes in a load second by second; requests before `counted_from_s` are not judged."""

    def __init__(self, load: Load, room: Room, ready: int, counted_from_s: float = 0.0) -> None:
        self._load, self._room, self._counted_from_s = load, room, counted_from_s
        self.now_s = 0
        self.ready = ready
        self.late = 0
        self._free_at_s = [0.0] * (ready * room.slots)
        """When each slot of the ready replicas is free, as a heap."""
        self._starting: list[float] = []
        """When each starting replica is ready, the latest last."""
        self._draining: list[float] = []
        """When each draining replica has ended."""
        self._ends: Counter[int] = Counter()
        self._running = 0
        self._next = 0
        self._queue: deque[int] = deque()

    @property
    def starting(self) -> int:
        return len(self._starting)

    @property
    def replicas(self) -> int:
        """How many there are: starting, ready and draining."""
        return len(self._starting) + self.ready + len(self._draining)

    def pass_second(self) -> Second:
        """Let a second pass; what becomes ready within it does so at its beginning."""
        began_s, self.now_s = self.now_s, self.now_s + 1
        self._become_ready(float(began_s))
        self._draining = [end_s for end_s in self._draining if end_s > began_s]
        first, arrivals_s = self._next, self._load.arrivals_s
        while self._next < len(arrivals_s) and arrivals_s[self._next] < self.now_s:
            self._arrive(self._next)
            self._next += 1
        self._serve(float(self.now_s))
        ended = self._ends.pop(began_s, 0)
        self._running -= ended
        return Second(self._next - first, ended, self._running, len(self._queue))

    def follow(self, wanted: int, start_up_s: float) -> None:
        """Start what is missing; give up what is too much, starting replicas first."""
        missing = wanted - self.ready - len(self._starting)
        if missing > 0:
            self._starting += [self.now_s + start_up_s] * missing
            self._starting.sort()
        for _ in range(-missing):
            if self._starting:
                self._starting.pop()
            elif self.ready:
                self._drain_one()

    def finish(self) -> int:
        """Return how many of the counted requests were late, those that still wait included."""
        return self.late + sum(self._counted(one) for one in self._queue)

    def _become_ready(self, now_s: float) -> None:
        while self._starting and self._starting[0] <= now_s:
            self._starting.pop(0)
            self.ready += 1
            for _ in range(self._room.slots):
                heapq.heappush(self._free_at_s, now_s)

    def _drain_one(self) -> None:
        # Requests go where the fewest are, so each replica has its share of early and late slots.
        ordered = sorted(self._free_at_s)
        going = ordered[self.ready - 1 :: self.ready]
        del ordered[self.ready - 1 :: self.ready]
        self._free_at_s = ordered  # what is in order is a heap
        self.ready -= 1
        if going[-1] > self.now_s:
            self._draining.append(going[-1])

    def _arrive(self, one: int) -> None:
        at_s = self._load.arrivals_s[one]
        self._serve(at_s)
        if not self._queue and self._free_at_s and self._free_at_s[0] <= at_s:
            self._start(one, at_s)
        elif len(self._queue) >= self._most_waiting():
            self.late += self._counted(one)
        else:
            self._queue.append(one)

    def _most_waiting(self) -> int:
        limit = self._room.queue_limit
        return limit if self.ready else max(limit, HELD_AT_ONCE)

    def _serve(self, until_s: float) -> None:
        """Start what waits, as far as slots become free until then."""
        queue, arrivals_s = self._queue, self._load.arrivals_s
        while queue and self._free_at_s:
            came_s = arrivals_s[queue[0]]
            starts_s = max(self._free_at_s[0], came_s)
            gives_up_s = came_s + self._room.queue_timeout_s
            if min(starts_s, gives_up_s) >= until_s:
                return
            one = queue.popleft()
            if gives_up_s < starts_s:
                self.late += self._counted(one)
            else:
                self._start(one, starts_s)

    def _start(self, one: int, at_s: float) -> None:
        end_s = at_s + self._load.services_s[one]
        heapq.heapreplace(self._free_at_s, end_s)
        self._running += 1
        self._ends[int(end_s)] += 1
        if at_s - self._load.arrivals_s[one] > self._room.late_s:
            self.late += self._counted(one)

    def _counted(self, one: int) -> bool:
        return self._load.arrivals_s[one] >= self._counted_from_s
