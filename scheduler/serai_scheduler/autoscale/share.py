"""Who gets the places of a finite cluster, when more are wanted than there are.

Places of one pool are alike. Each replica's are given at once, to the API that gains most by each
of them; whoever was given some may be moved to another allowed pool to make room. The order never
depends on what is full, so asking again with its own answer changes nothing. Where each replica
takes one place, what fits in any way is given, and the answer is the best for that order.
"""

import heapq
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

HOLDER_FACTOR = 1.1
"""How much more another API must gain by a place than the one whose replica runs there."""
ABOVE = 1.000001

Key = tuple[int, float, int, int]


@dataclass(frozen=True, slots=True)
class Claim:
    """What an API wants: `running` counts ready and starting replicas per pool.

    A replica takes `size` places of one pool.
    `late_per_s` are the requests that would be late without any replica; `load` is the demand and
    the queue in slots. `timer_ended` matters only to `release: timer`.
    """

    name: str
    wanted: int
    least: int
    most: int
    pools: tuple[str, ...]
    running: Mapping[str, int] = field(default_factory=dict)
    priority: float = 1.0
    late_per_s: float = 0.0
    load: float = 0.0
    slots: float = 1.0
    release: Literal["contention", "timer"] = "contention"
    timer_ended: bool = False
    size: int = 1

    @property
    def target(self) -> int:
        return min(self.most, max(self.least, self.wanted))


@dataclass(frozen=True, slots=True)
class Grant:
    """What an API gets: replicas that it wants per pool, and warm ones that nobody needs yet."""

    count: int
    pools: Mapping[str, int]
    idle: Mapping[str, int]
    taken_back: int
    """Idle warm replicas that end because others need their places."""
    reason: str = ""

    @property
    def total(self) -> int:
        return self.count + sum(self.idle.values())


def share(claims: Sequence[Claim], places: Mapping[str, int]) -> dict[str, Grant]:
    """Return what each API gets of the places, least bounds first; `claims` differ in name."""
    ordered = sorted(claims, key=lambda claim: claim.name)
    book = _Book(ordered, places)
    keys = _Keys(ordered)
    targets = [claim.target for claim in ordered]
    heap = [(keys.next(at, 1), 1) for at, target in enumerate(targets) if target]
    heapq.heapify(heap)
    while heap:
        (_, _, _, at), number = heap[0]
        if book.give(at) and number < targets[at]:
            heapq.heapreplace(heap, (keys.next(at, number + 1), number + 1))
        else:  # what does not fit now never will: what is full stays full
            heapq.heappop(heap)
    idle, holders = _idle(ordered, book), _Holders(ordered, book)
    return {
        claim.name: _grant(claim, book.given[at], idle[at], holders)
        for at, claim in enumerate(ordered)
    }


class _Keys:
    """The order in which places are given: the smaller key first."""

    def __init__(self, claims: Sequence[Claim]) -> None:
        self._least = [claim.least for claim in claims]
        self._urgency = [-claim.priority for claim in claims]
        self._runs = [sum(claim.running.values()) for claim in claims]
        self._first = [_first_gain(claim) for claim in claims]
        self._ratio = [
            math.exp(-claim.slots / claim.load) if claim.load > 0.0 else 0.0 for claim in claims
        ]
        raised = _raised(claims, self._first)
        self._raised = [raised[claim.priority] for claim in claims]

    def next(self, at: int, number: int) -> Key:
        """Return the key of an API's replica of this number (from 1)."""
        held = number <= self._runs[at]
        rank = number - held
        if number <= self._least[at]:
            return 0, self._urgency[at], rank, at
        gain = self._first[at] * self._ratio[at] ** (number - 1)
        if held:  # a lower priority never takes a place in which a replica runs
            gain = max(gain * HOLDER_FACTOR, self._raised[at])
        return 1, -gain, rank, at


def _first_gain(claim: Claim) -> float:
    """Return what the first replica avoids, times priority; each further one avoids less.

    It is told for each place that the replica takes.
    Of the late requests a share of exp(-slots / load) stays late with each replica more, since
    arrivals come in bursts and the last replica is not needed all the time.
    """
    if claim.load <= 0.0:
        return 0.0
    avoided = claim.late_per_s * -math.expm1(-claim.slots / claim.load)
    return claim.priority * avoided / claim.size


def _raised(claims: Sequence[Claim], first: Sequence[float]) -> dict[float, float]:
    """Return per priority a gain above all that lower priorities may have."""
    highest: dict[float, float] = {}
    for claim, gain in zip(claims, first, strict=True):
        highest[claim.priority] = max(highest.get(claim.priority, 0.0), gain)
    raised, below = {}, 0.0
    for priority in sorted(highest):
        raised[priority] = below * ABOVE
        below = max(below, raised[priority], highest[priority] * HOLDER_FACTOR)
    return raised


class _Book:
    """Who has how many places of which pool."""

    def __init__(self, claims: Sequence[Claim], places: Mapping[str, int]) -> None:
        self.free = dict(places)
        self.given: list[dict[str, int]] = [{} for _ in claims]
        self._size = [claim.size for claim in claims]
        self._in: dict[str, set[int]] = {pool: set() for pool in places}
        self._allowed = [
            [pool for pool in sorted(set(claim.pools)) if pool in places] for claim in claims
        ]
        self._home = [
            {pool: claim.running[pool] for pool in allowed if claim.running.get(pool)}
            for claim, allowed in zip(claims, self._allowed, strict=True)
        ]
        self._unclaimed = dict(places)
        """Free places less those in which replicas run: a new one goes where it disturbs least."""
        for claim in claims:
            for pool, count in claim.running.items():
                if pool in places:
                    self._unclaimed[pool] -= count * claim.size
        self._full: dict[int, set[str]] = {claim.size: set() for claim in claims}
        """By size, the pools from which no moves lead to so many free places, ever again."""

    def give(self, at: int) -> bool:
        """Give an API the places of one replica more; say whether there were any."""
        home, given, free, size = self._home[at], self.given[at], self.free, self._size[at]
        for pool, count in home.items():
            if given.get(pool, 0) < count and free[pool] >= size:
                self._enter(at, pool)
                return True
        calmest: str | None = None
        most = -math.inf
        for pool in self._allowed[at]:
            if free[pool] >= size and self._unclaimed[pool] > most:
                calmest, most = pool, self._unclaimed[pool]
        if calmest is None:
            return self._make_room(at)
        self._unclaimed[calmest] -= size
        self._enter(at, calmest)
        return True

    def there(self, pool: str) -> Set[int]:
        """Return who has places of a pool."""
        return self._in.get(pool, frozenset())

    def _enter(self, at: int, pool: str) -> None:
        self.free[pool] -= self._size[at]
        self.given[at][pool] = self.given[at].get(pool, 0) + 1
        self._in[pool].add(at)

    def _leave(self, at: int, pool: str) -> None:
        self.free[pool] += self._size[at]
        self.given[at][pool] -= 1
        if not self.given[at][pool]:
            del self.given[at][pool]
            self._in[pool].discard(at)

    def _make_room(self, at: int) -> bool:
        """Move others along the shortest way from an allowed pool to one with free places."""
        sizes, size = self._size, self._size[at]
        full = self._full[size]
        queue = [pool for pool in self._allowed[at] if pool not in full]
        came: dict[str, tuple[int, str] | None] = dict.fromkeys(queue)
        needed = dict.fromkeys(queue, size)
        for pool in queue:  # grows while it is read
            for other in sorted(self._in[pool]):
                if self.free[pool] + sizes[other] < needed[pool]:
                    continue
                for beyond in self._allowed[other]:
                    if beyond in came or (sizes[other] == size and beyond in full):
                        continue
                    came[beyond], needed[beyond] = (other, pool), sizes[other]
                    if self.free[beyond] >= sizes[other]:
                        self._move(at, beyond, came)
                        return True
                    queue.append(beyond)
        full.update(pool for pool in came if needed[pool] == size)
        return False

    def _move(self, at: int, pool: str, came: Mapping[str, tuple[int, str] | None]) -> None:
        while (step := came[pool]) is not None:
            other, before = step
            self._leave(other, before)
            self._enter(other, pool)
            pool = before
        self._enter(at, pool)


def _idle(claims: Sequence[Claim], book: _Book) -> list[dict[str, int]]:
    """Return the warm replicas beyond what is wanted that may stay, by priority."""
    idle: list[dict[str, int]] = [{} for _ in claims]
    for at in sorted(range(len(claims)), key=lambda at: (-claims[at].priority, at)):
        claim, given = claims[at], book.given[at]
        if claim.release == "timer" and claim.timer_ended:
            continue
        runs = min(claim.most, sum(claim.running.values()))
        spare = runs - sum(given.values())
        for pool in sorted(set(claim.pools)):
            more = claim.running.get(pool, 0) - given.get(pool, 0)
            count = min(spare, more, book.free.get(pool, 0) // claim.size)
            if count > 0:
                idle[at][pool] = count
                book.free[pool] -= count * claim.size
                spare -= count
    return idle


class _Holders:
    """Who has the places of some pools, looked up once for each set of pools that is asked for."""

    def __init__(self, claims: Sequence[Claim], book: _Book) -> None:
        self._names = [claim.name for claim in claims]
        self._book = book
        self._known: dict[frozenset[str], list[tuple[int, str]]] = {}

    def of(self, claim: Claim) -> list[tuple[int, str]]:
        """Return (less than 0: its replicas there, name) of each other API, most replicas first."""
        pools = frozenset(claim.pools)
        known = self._known.get(pools)
        if known is None:
            counts: dict[int, int] = {}
            for pool in pools:
                for at in self._book.there(pool):
                    counts[at] = counts.get(at, 0) - self._book.given[at][pool]
            known = sorted((count, self._names[at]) for at, count in counts.items())
            self._known[pools] = known
        return [one for one in known if one[1] != claim.name]


def _grant(claim: Claim, given: dict[str, int], idle: dict[str, int], holders: _Holders) -> Grant:
    count = sum(given.values())
    warm = max(0, min(claim.most, sum(claim.running.values())) - claim.target)
    ended = claim.release == "timer" and claim.timer_ended
    taken = 0 if ended else max(0, warm - sum(idle.values()))
    reason = "" if count >= claim.target else _why(claim, count, holders.of(claim))
    return Grant(count, given, idle, taken, reason)


def _why(claim: Claim, count: int, held: Sequence[tuple[int, str]]) -> str:
    """Tell what was wanted, what there is, and who has most of the rest."""
    told = f"wanted {claim.target}, got {count}; "
    if not held:
        return told + "the pools that it may use have no more places"
    names = ", ".join(name for _, name in held[:3])
    others = f" and {len(held) - 3} others" if len(held) > 3 else ""
    places = -sum(theirs for theirs, _ in held)
    return told + f"{places} {'place is' if places == 1 else 'places are'} held by {names}{others}"
