"""How long a replica takes from asked for to ready, learned.

What is known of the very API, node class and cache state is told; for want of it what is known of
the API and class, of the API, of all. Nothing here reads a clock: times come from the caller.
"""

import math
from typing import Literal

import msgspec

from serai_scheduler.autoscale.windows import Count

Cache = Literal["cold", "warm"]

PRIOR_S = 30.0
"""Told before any replica has ever started."""
QUANTILE = 0.75
TIMES_KEPT = 8
TIMES_OF_ALL = 64
PLACES_KEPT = 8
"""Pairs of node class and cache state of one API; the one that was heard of longest ago goes."""
ENOUGH = 3
"""So many times outweigh what is known more generally."""
OLD_AFTER_S = 14 * 86_400.0
LONGEST_S = 86_400.0
CLASS_LENGTH = 24
KEPT_BYTES = 1536
VERSION = 1


class KeptTime(msgspec.Struct, array_like=True, frozen=True):
    """One start: how long it took, and how long ago it was, both in seconds."""

    took_s: float
    age_s: Count


class KeptPlace(msgspec.Struct, array_like=True, frozen=True):
    node_class: str
    cache: Cache
    times: tuple[KeptTime, ...]


class KeptStartUp(msgspec.Struct, frozen=True):
    """What a new leader is told of one API's starts: ages, since clocks differ."""

    places: tuple[KeptPlace, ...] = ()
    version: int = VERSION


class Times:
    """The last times, oldest first, each with when it was heard."""

    __slots__ = ("_kept", "_times")

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._times: list[tuple[float, float]] = []

    def add(self, at_s: float, took_s: float) -> None:
        self._times.append((at_s, took_s))
        del self._times[: -self._kept]

    def since(self, at_s: float) -> list[tuple[float, float]]:
        return [each for each in self._times if each[0] >= at_s]

    @property
    def heard_at_s(self) -> float:
        return self._times[-1][0] if self._times else -math.inf


class StartUp:
    """The starts of one API; `everyone` is shared by all APIs."""

    def __init__(self, everyone: Times | None = None) -> None:
        self._everyone = everyone or Times(TIMES_OF_ALL)
        self._places: dict[tuple[str, Cache], Times] = {}

    def add(self, at_s: float, node_class: str, cache: Cache, took_s: float) -> None:
        """Take in that a replica became ready; a time that cannot be is left out."""
        if not 0.0 <= took_s <= LONGEST_S:
            return
        place = (node_class[:CLASS_LENGTH], cache)
        self._places.setdefault(place, Times(TIMES_KEPT)).add(at_s, took_s)
        if len(self._places) > PLACES_KEPT:
            del self._places[min(self._places, key=lambda each: self._places[each].heard_at_s)]
        self._everyone.add(at_s, took_s)

    def told_s(self, at_s: float, node_class: str = "", cache: Cache | None = None) -> float:
        """Return how long a start takes; without a class or state, over all that were seen.

        Each step from the general to the particular counts the more, the more it has seen.
        """
        since = at_s - OLD_AFTER_S
        told = PRIOR_S
        node_class = node_class[:CLASS_LENGTH]
        own = [(place, times.since(since)) for place, times in self._places.items()]
        levels = [
            self._everyone.since(since),
            [each for _, times in own for each in times],
            [each for place, times in own if place[0] == node_class for each in times],
            [each for place, times in own if place == (node_class, cache) for each in times],
        ]
        wanted = 2 if not node_class else 3 if cache is None else 4
        for level in levels[:wanted]:
            if level:
                share = min(1.0, len(level) / ENOUGH)
                told += share * (quantile([took_s for _, took_s in level]) - told)
        return told

    @property
    def heard(self) -> bool:
        """Say whether any start of the API itself is known."""
        return bool(self._places)

    def keep(self, at_s: float) -> KeptStartUp:
        """Return what is to outlive a restart: as JSON at most KEPT_BYTES, the latest first."""
        places: list[KeptPlace] = []
        latest = sorted(self._places.items(), key=lambda each: (-each[1].heard_at_s, each[0]))
        for (node_class, cache), times in latest:
            kept = tuple(
                KeptTime(round(took_s, 1), max(0, round(at_s - heard_at_s)))
                for heard_at_s, took_s in times.since(at_s - OLD_AFTER_S)
            )
            if kept:
                places.append(KeptPlace(node_class, cache, kept))
        while len(msgspec.json.encode(KeptStartUp(tuple(places)))) > KEPT_BYTES:
            places.pop()
        return KeptStartUp(tuple(places))

    def restore(self, at_s: float, kept: KeptStartUp) -> None:
        """Take in what was kept; another version's is left out."""
        if kept.version != VERSION:
            return
        times = [
            (at_s - each.age_s, place.node_class, place.cache, each.took_s)
            for place in kept.places
            for each in place.times
        ]
        for each in sorted(times, key=lambda each: each[0]):
            self.add(*each)


def quantile(times_s: list[float]) -> float:
    """Return the time that most starts need at most; one wild value among many moves it little."""
    ordered = sorted(times_s)
    return ordered[min(len(ordered) - 1, int(QUANTILE * len(ordered)))]
