"""Who gets the places of a finite cluster, when more are wanted than there are.

Places of one pool are alike. Each replica's are given at once, to the API that gains most by each
of them; whoever was given some may be moved to another allowed pool to make room. The order never
depends on what is full, so asking again with its own answer changes nothing. Where each replica
takes one place, what fits in any way is given, and the answer is the best for that order.
"""

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import msgspec

HOLDER_FACTOR = 1.1
"""How much more another API must gain by a place than the one whose replica runs there."""
ABOVE = 1.000001
MOST_NAMES = 3
"""So many of those who have the places are named to whoever has too few."""

Turn = tuple[float, int, int]
"""One replica's: the smaller first. The last is whose turn it is, by its place in the claims."""


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What an API wants: `running` counts ready and starting replicas per pool.

    A replica takes `size` places of one pool.
    `late_per_s` are the requests that would be late without any replica; `load` is the demand and
    the queue in slots. `busy` says that it is being asked for: a first replica then comes before
    what others of its priority would gain by a further one. `timer_ended` matters only to
    `release: timer`.
    """

    name: str
    wanted: int
    least: int
    most: int
    pools: tuple[str, ...]
    running: Mapping[str, int] = {}
    priority: float = 1.0
    late_per_s: float = 0.0
    load: float = 0.0
    slots: float = 1.0
    busy: bool = False
    release: Literal["contention", "timer"] = "contention"
    timer_ended: bool = False
    size: int = 1

    @property
    def target(self) -> int:
        return min(self.most, max(self.least, self.wanted))


class Grant(msgspec.Struct, frozen=True, gc=False):
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
    full: set[int] = set()
    for _, _, at in _turns(ordered, places):
        if at not in full and not book.give(at):
            full.add(at)  # what does not fit now never will: what is full stays full
    idle, holders = _idle(ordered, book), _Holders(ordered, book)
    return {
        claim.name: _grant(claim, book.given[at], idle[at], holders)
        for at, claim in enumerate(ordered)
    }


def _turns(claims: Sequence[Claim], places: Mapping[str, int]) -> Iterator[Turn]:
    """Return the order in which places are given: least bounds by priority, the rest by gain.

    Who runs already comes a rank earlier among equals, so that equals do not swap places. Nobody
    has more turns than replicas that fit were it alone, however many it wants.
    """
    firsts = [_first_gain(claim) for claim in claims]
    levels = _levels(claims, firsts)
    least: list[Turn] = []
    more: list[Turn] = []
    for at, (claim, first) in enumerate(zip(claims, firsts, strict=True)):
        fits = sum(places.get(pool, 0) // claim.size for pool in set(claim.pools))
        target, runs = min(claim.target, fits), sum(claim.running.values())
        sure, urgency = min(claim.least, target), -claim.priority
        least += [(urgency, number - (number <= runs), at) for number in range(1, sure + 1)]
        ratio = math.exp(-claim.slots / claim.load) if claim.load > 0.0 else 0.0
        # A lower priority never takes a place in which a replica runs.
        held, level = first * HOLDER_FACTOR, levels[claim.priority]
        if claim.busy and not sure and target:  # without any it would wait for ever
            sure = 1
            more.append((-level.highest, 1 - (runs > 0), at))
        more += [
            (-max(held * ratio ** (number - 1), level.lowest), number - 1, at)
            for number in range(sure + 1, min(runs, target) + 1)
        ]
        more += [
            (-first * ratio ** (number - 1), number, at)
            for number in range(max(sure, runs) + 1, target + 1)
        ]
    return chain(sorted(least), sorted(more))


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


@dataclass(frozen=True, slots=True)
class _Level:
    """Gains of one priority: what runs has `lowest`, above all of lower priorities, at least.

    `highest` is above all that others of the priority gain.
    """

    lowest: float
    highest: float


def _levels(claims: Sequence[Claim], first: Sequence[float]) -> dict[float, _Level]:
    """Return the level of each priority; `first` are the gains of first replicas."""
    most: dict[float, float] = {}
    for claim, gain in zip(claims, first, strict=True):
        most[claim.priority] = max(most.get(claim.priority, 0.0), gain)
    levels, below = {}, 0.0
    for priority in sorted(most):
        lowest = below * ABOVE
        highest = max(below, lowest, most[priority] * HOLDER_FACTOR) * ABOVE
        levels[priority] = _Level(lowest, highest)
        below = highest
    return levels


class _Book:
    """Who has how many places of which pool."""

    def __init__(self, claims: Sequence[Claim], places: Mapping[str, int]) -> None:
        self.free = dict(places)
        self.given: list[dict[str, int]] = [{} for _ in claims]
        self._size = [claim.size for claim in claims]
        self._in: dict[str, set[int]] = {pool: set() for pool in places}
        """Who has places of a pool."""
        self._allowed = [
            [pool for pool in sorted(set(claim.pools)) if pool in places] for claim in claims
        ]
        self._home = [
            [(pool, claim.running[pool]) for pool in allowed if claim.running.get(pool)]
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
        given, free, size = self.given[at], self.free, self._size[at]
        for pool, count in self._home[at]:
            if free[pool] >= size and given.get(pool, 0) < count:
                self._enter(at, pool, size)
                return True
        unclaimed = self._unclaimed
        calmest: str | None = None
        most = -math.inf
        for pool in self._allowed[at]:
            if free[pool] >= size and unclaimed[pool] > most:
                calmest, most = pool, unclaimed[pool]
        if calmest is None:
            return self._make_room(at)
        unclaimed[calmest] -= size
        self._enter(at, calmest, size)
        return True

    def there(self, pool: str) -> Set[int]:
        """Return who has places of a pool."""
        return self._in.get(pool, set())

    def _enter(self, at: int, pool: str, size: int) -> None:
        self.free[pool] -= size
        given = self.given[at]
        if pool in given:
            given[pool] += 1
        else:
            given[pool] = 1
            self._in[pool].add(at)

    def _leave(self, at: int, pool: str) -> None:
        self.free[pool] += self._size[at]
        self.given[at][pool] -= 1
        if not self.given[at][pool]:
            del self.given[at][pool]
            self._in[pool].remove(at)

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
            self._enter(other, pool, self._size[other])
            pool = before
        self._enter(at, pool, self._size[at])


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


@dataclass(frozen=True, slots=True)
class _Held:
    """Replicas in some pools, of how many APIs, and who has most of them."""

    replicas: int
    apis: int
    most: tuple[str, ...]


class _Holders:
    """Who has the places of some pools, looked up once for each set of pools that is asked for."""

    def __init__(self, claims: Sequence[Claim], book: _Book) -> None:
        self._names = [claim.name for claim in claims]
        self._book = book
        self._known: dict[frozenset[str], _Held] = {}

    def of(self, claim: Claim) -> _Held:
        """Return who has the places that it may use, itself among them."""
        pools = frozenset(claim.pools)
        known = self._known.get(pools)
        if known is None:
            counts: dict[int, int] = {}
            for pool in pools:
                for at in self._book.there(pool):
                    counts[at] = counts.get(at, 0) - self._book.given[at][pool]
            most = sorted(zip(counts.values(), counts, strict=True))[: MOST_NAMES + 1]
            names = tuple(self._names[at] for _, at in most)
            known = self._known[pools] = _Held(-sum(counts.values()), len(counts), names)
        return known


def _grant(claim: Claim, given: dict[str, int], idle: dict[str, int], holders: _Holders) -> Grant:
    count, target = sum(given.values()), claim.target
    warm = max(0, min(claim.most, sum(claim.running.values())) - target)
    ended = claim.release == "timer" and claim.timer_ended
    taken = 0 if ended else max(0, warm - sum(idle.values()))
    reason = "" if count >= target else _why(claim, count, holders.of(claim))
    return Grant(count, given, idle, taken, reason)


def _why(claim: Claim, count: int, held: _Held) -> str:
    """Tell what was wanted, what there is, and who of `held` has most of the rest."""
    told = f"wanted {claim.target}, got {count}; "
    others = held.apis - (count > 0)
    if not others:
        return told + "the pools that it may use have no more places"
    names = ", ".join([name for name in held.most if name != claim.name][:MOST_NAMES])
    further = f" and {others - MOST_NAMES} others" if others > MOST_NAMES else ""
    places = held.replicas - count
    return told + f"{places} {'place is' if places == 1 else 'places are'} held by {names}{further}"
