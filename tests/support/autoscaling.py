"""A queue before replicas for the autoscaler to steer, second by second, without any chance."""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from serai_scheduler.autoscale.decide import Decision, Limits, decide
from serai_scheduler.autoscale.history import History, Sample

QUEUE_LIMIT = 10_000


@dataclass
class Service:
    """One API: what its replicas are like, and what came of it.

    Of the replicas that are asked for beyond `come`, none ever gets ready. At the end of a second
    those who came last are refused, as many as the queue has no room for.
    """

    slots: int = 4
    service_s: float = 2.0
    start_up_s: int = 30
    ready: int = 1
    limits: Limits = field(default_factory=lambda: Limits(1, 100, 4.0))
    come: int = 10_000
    queue_limit: int = QUEUE_LIMIT
    history: History = field(default_factory=History)
    wanted: list[int] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    refused: int = 0
    now_s: int = 0
    _queue: deque[float] = field(default_factory=deque)
    _ends: list[float] = field(default_factory=list)
    _starting: list[int] = field(default_factory=list)
    _credit: float = 0.0

    def run(self, seconds: int, rate: Callable[[int], float]) -> None:
        """Go on for so long; `rate` gives the requests a second at each second from here."""
        for second in range(seconds):
            self._second(rate(second))

    def _second(self, rate: float) -> None:
        self.now_s += 1
        while self._starting and self._starting[0] <= self.now_s:
            self._starting.pop(0)
            if self.ready < self.come:
                self.ready += 1
        self._credit += rate
        arrivals = int(self._credit + 1e-9)
        self._credit -= arrivals
        self._queue.extend(self.now_s + number / max(1, arrivals) for number in range(arrivals))
        ended = self._serve(self.now_s + 1.0)
        while len(self._queue) > self.queue_limit:
            self._queue.pop()
            self.refused += 1
        sample = Sample(
            elapsed_s=1.0,
            arrivals=arrivals,
            completions=ended,
            running=len(self._ends),
            queued=len(self._queue),
            ready=self.ready,
            starting=len(self._starting),
            slots=float(self.slots),
            start_up_s=float(self.start_up_s),
            queue_limit=self.queue_limit,
        )
        self.history.add(float(self.now_s), sample)
        decision = decide(self.history, float(self.now_s), self.limits)
        self.history.standing = decision.standing
        self.decisions.append(decision)
        self._follow(decision.wanted)

    def _serve(self, until_s: float) -> int:
        """Run what there is room for, up to a moment; return how many requests ended."""
        ended = 0
        while True:
            free_at_s = 0.0
            if len(self._ends) >= self.ready * self.slots:
                free_at_s = self._ends[0] if self._ends else until_s
            starts_at_s = max(free_at_s, self._queue[0]) if self._queue else until_s
            while self._ends and self._ends[0] <= min(starts_at_s, until_s):
                heapq.heappop(self._ends)
                ended += 1
            if starts_at_s >= until_s:
                return ended
            came_at_s = self._queue.popleft()
            self.waits_s.append(starts_at_s - came_at_s)
            heapq.heappush(self._ends, starts_at_s + self.service_s)

    def _follow(self, wanted: int) -> None:
        self.wanted.append(wanted)
        missing = wanted - self.ready - len(self._starting)
        self._starting += [self.now_s + self.start_up_s] * max(0, missing)
        for _ in range(max(0, -missing)):
            if self._starting:
                self._starting.pop()
            elif self.ready:
                self.ready -= 1  # those that run on it end all the same

    def late(self, limit_s: float = 5.0) -> int:
        """Return how many requests waited longer than a limit, wait so long, or were refused."""
        waiting = sum(self.now_s - came_at_s > limit_s for came_at_s in self._queue)
        return self.refused + waiting + sum(wait_s > limit_s for wait_s in self.waits_s)

    def changes(self) -> int:
        """Return how often the wanted count changed."""
        return sum(a != b for a, b in pairwise(self.wanted))
