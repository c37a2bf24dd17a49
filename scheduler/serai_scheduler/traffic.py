"""What the gateways' counters add up to: rates, quantiles, in flight. Pure but for its memory.

Counters arrive as totals per gateway run; differences are taken within a run only, and by the
gateway's own clock. What a gateway tells first, of a run or after it was taken to be gone, is a
base to count from: it is among the totals, but nobody knows over how long it came.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from serai.model import replica_of_server
from serai.operator import Traffic
from serai.report import LATENCY_BOUNDS_MS, GatewayReading, VersionTraffic
from serai_scheduler.demand import DemandBook
from serai_scheduler.taking import GatewayStanding, waits_for
from serai_scheduler.world import GatewayView

WINDOW_S = 60.0
FRESH_S = 5.0
"""How old a gateway's reading may be before it is silent: unknown, not zero."""
FORGET_S = 120.0
MOST_GONE = 100
BUCKETS = len(LATENCY_BOUNDS_MS) + 1

Key = tuple[str, str]


@dataclass(frozen=True)
class Counts:
    """Sums of counters: responses by class, by latency bucket, arrivals, completions, refusals.

    Refused requests are among all but the completions; `latency_sum_ms` is of what is in the
    buckets.
    """

    arrivals: int = 0
    completions: int = 0
    outcomes: tuple[int, ...] = (0,) * 6
    buckets: tuple[int, ...] = (0,) * BUCKETS
    refused: int = 0
    latency_sum_ms: float = 0.0

    def plus(self, other: "Counts", sign: int = 1) -> "Counts":
        """Return the sum, or with sign -1 the difference."""
        return Counts(
            self.arrivals + sign * other.arrivals,
            self.completions + sign * other.completions,
            _add(self.outcomes, other.outcomes, sign),
            _add(self.buckets, other.buckets, sign),
            self.refused + sign * other.refused,
            self.latency_sum_ms + sign * other.latency_sum_ms,
        )

    @property
    def mean_ms(self) -> float | None:
        """Return the mean latency; None without samples."""
        ended = sum(self.buckets)
        return max(0.0, self.latency_sum_ms) / ended if ended else None

    @property
    def negative(self) -> bool:
        """Say whether any is below zero, as no difference is of counters that have counted on."""
        counts = (self.arrivals, self.completions, self.refused, *self.outcomes, *self.buckets)
        return min(counts) < 0


NOTHING = Counts()


@dataclass(frozen=True, slots=True)
class Told:
    """Up to when a gateway has told its counters of an API, by its own clock.

    Only two that are of one `stretch` go together: between them nothing was missed.
    """

    stretch: int
    at_s: float


@dataclass
class _Gateway:
    first_at_s: float
    heard_at_s: float
    reading: GatewayReading
    before: dict[Key, Counts]
    by_api: dict[str, list[VersionTraffic]]
    carried_out: dict[str, int]
    """Route revisions; of one that has just begun again and did nothing yet, those from before."""
    told: Told
    stretches: dict[str, int]
    """The stretches of APIs whose counters have fallen within that of the gateway."""


@dataclass
class _Series:
    before: Counts = field(default_factory=Counts)
    """What gateways had counted when they were first heard, or heard anew: nobody knows over how
    long."""
    since: Counts = field(default_factory=Counts)
    """What they have counted between two readings that go together."""
    samples: deque[tuple[float, Counts]] = field(default_factory=deque)
    """The latter over time, oldest first, one per second at most, no older than the window."""


@dataclass(frozen=True)
class Counted:
    """What all gateways have counted of an API since they were first heard, and what is there now.

    `completions` ended on a replica; refused requests are among the arrivals alone. `queued` are
    those that wait, the ones held for want of a replica among them. `told` is by gateway.
    """

    arrivals: int
    completions: int
    running: int
    queued: int
    told: Mapping[str, Told]


@dataclass(frozen=True)
class Heard:
    """What the gateways have told of late; `known` is False while any of them is silent."""

    readings: tuple[GatewayReading, ...] = ()
    known: bool = False


class TrafficBook:
    """Keeps the readings of all gateways; `now_s` is monotonic.

    Until `known_from_s` nothing counts as known: a new leader has not heard all gateways yet.
    """

    def __init__(self, known_from_s: float = float("-inf")) -> None:
        self.demand = DemandBook()
        self._known_from_s = known_from_s
        self._gateways: dict[str, _Gateway] = {}
        self._gone: dict[str, _Gateway] = {}
        """Those that were silent for so long that they are not waited for, the latest last."""
        self._stretch = 0
        """The number that was given last to a stretch of any gateway."""
        self._series: dict[str, dict[str, _Series]] = {}
        """By API, then by version."""
        self._speechless: dict[str, float] = {}
        """When a node with a gateway last reported without a word of it."""

    def add(self, node: str, reading: GatewayReading, now_s: float) -> None:
        """Take in one gateway's reading."""
        known = self._gateways.get(node)
        last = known or self._gone.pop(node, None)
        before = last.before if last is not None and last.reading.run == reading.run else {}
        goes_on = known if known is not None and known.reading.run == reading.run else None
        after = {(v.api, v.version): _counts(v) for v in reading.versions}
        by_api: dict[str, list[VersionTraffic]] = {}
        for version in reading.versions:
            by_api.setdefault(version.api, []).append(version)
        stretch = goes_on.told.stretch if goes_on is not None else self._next_stretch()
        stretches = goes_on.stretches if goes_on is not None else {}
        for key, counts in after.items():
            if not self._count(key, counts, before.get(key, NOTHING), goes_on is not None):
                stretches[key[0]] = self._next_stretch()
        begins = known is not None and known.reading.run != reading.run and not reading.revisions
        carried_out = known.carried_out if known is not None and begins else reading.revisions
        first_at_s = known.first_at_s if known is not None else now_s
        told = Told(stretch, reading.read_at_s)
        self._gateways[node] = _Gateway(
            first_at_s, now_s, reading, after, by_api, carried_out, told, stretches
        )
        self._speechless.pop(node, None)
        self._sample(now_s)

    def _next_stretch(self) -> int:
        self._stretch += 1
        return self._stretch

    def _count(self, key: Key, counts: Counts, before: Counts, goes_on: bool) -> bool:
        """Add what a version has counted; False where its counters fell: they are a base then."""
        api, version = key
        series = self._series.setdefault(api, {}).setdefault(version, _Series())
        if counts == before:  # as of most versions in any second
            return True
        more = counts.plus(before, -1)
        if more.negative:
            return False
        if goes_on:
            series.since = series.since.plus(more)
        else:
            series.before = series.before.plus(more)
        return True

    def add_speechless(self, node: str, now_s: float) -> None:
        """Note that a node reported of whose gateway nothing can be read."""
        self._speechless[node] = now_s

    def waits_for(self, api: str, revision: int, now_s: float) -> str:
        """Return what keeps callers from an API as it is since `revision`, "" for nothing."""
        return waits_for(api, revision, self._standings(now_s), now_s >= self._known_from_s)

    def _standings(self, now_s: float) -> list[GatewayStanding]:
        found = []
        for node in sorted(self._gateways.keys() | self._speechless.keys()):
            gateway, told_at_s = self._gateways.get(node), self._speechless.get(node)
            # One that says nothing any more is forgotten like one whose node is silent.
            heard_at_s = told_at_s if gateway is None else gateway.heard_at_s
            if heard_at_s is None or now_s - heard_at_s >= FORGET_S:
                continue
            age_s = now_s - max(heard_at_s, told_at_s or heard_at_s)
            lives_s = now_s - gateway.first_at_s if gateway is not None else 0.0
            carried_out = gateway.carried_out if gateway is not None else {}
            found.append(
                GatewayStanding(
                    node=node,
                    age_s=age_s,
                    late=age_s > FRESH_S,
                    answers=told_at_s is None,
                    begun=bool(carried_out) or lives_s > FRESH_S,
                    revisions=carried_out,
                    problem=gateway.reading.problem if gateway is not None else "",
                )
            )
        return found

    def _sample(self, now_s: float) -> None:
        for series in (one for mine in self._series.values() for one in mine.values()):
            if not series.samples or now_s - series.samples[-1][0] >= 1.0:
                series.samples.append((now_s, series.since))
            while len(series.samples) > 1 and series.samples[1][0] <= now_s - WINDOW_S:
                series.samples.popleft()

    def forget(self, api: str) -> None:
        """Drop the history of a deleted API."""
        self._series.pop(api, None)
        self.demand.forget(api)

    def view(self, now_s: float) -> GatewayView:
        """Return what is in flight now; `known` is False while any gateway is silent."""
        return gateway_view(self.heard(now_s))

    def heard(self, now_s: float) -> Heard:
        """Return the readings of now, which nobody changes any more."""
        for node in [n for n, g in self._gateways.items() if now_s - g.heard_at_s >= FORGET_S]:
            self._gone[node] = self._gateways.pop(node)
            if len(self._gone) > MOST_GONE:
                self._gone.pop(next(iter(self._gone)))
        fresh = [g.reading for g in self._gateways.values() if now_s - g.heard_at_s <= FRESH_S]
        all_heard = now_s >= self._known_from_s and len(fresh) == len(self._gateways)
        known = all_heard and bool(fresh) and all(r.ready for r in fresh)
        return Heard(tuple(fresh), known)

    def traffic(self, api: str, now_s: float, version: str | None = None) -> Traffic:
        """Return the figures of an API, or of one of its versions."""
        total, recent, span_s = Counts(), Counts(), 0.0
        for name, series in self._series.get(api, {}).items():
            if version not in (None, name):
                continue
            total = total.plus(series.before).plus(series.since)
            first_at_s, first = series.samples[0]
            recent = recent.plus(series.since.plus(first, -1))
            span_s = max(span_s, now_s - first_at_s)
        now = [v for v in self._now(api, now_s) if version in (None, v.version)]
        return Traffic(
            requests_per_s=recent.arrivals / span_s if span_s >= 1.0 else None,
            refused_per_s=recent.refused / span_s if span_s >= 1.0 else None,
            in_flight=sum(v.in_flight for v in now),
            queued=sum(v.queued for v in now),
            held=sum(v.held for v in now),
            responses_2xx=total.outcomes[1],
            responses_4xx=total.outcomes[3],
            responses_5xx=total.outcomes[4],
            refused=total.refused,
            mean_ms=recent.mean_ms,
            p50_ms=quantile_ms(recent.buckets, 0.50),
            p99_ms=quantile_ms(recent.buckets, 0.99),
        )

    def counted(self, api: str, now_s: float) -> Counted:
        """Return the counts of an API; what runs and waits is of the gateways that are heard."""
        series = self._series.get(api, {}).values()
        now = list(self._now(api, now_s))
        return Counted(
            arrivals=sum(one.since.arrivals for one in series),
            completions=sum(one.since.completions for one in series),
            running=sum(v.in_flight for v in now),
            queued=sum(v.queued + v.held for v in now),
            told={node: _told(one, api) for node, one in self._gateways.items()},
        )

    def _now(self, api: str, now_s: float) -> Iterator[VersionTraffic]:
        for gateway in self._gateways.values():
            if now_s - gateway.heard_at_s <= FRESH_S:
                yield from gateway.by_api.get(api, ())


def _told(gateway: _Gateway, api: str) -> Told:
    stretch = gateway.stretches.get(api)
    return gateway.told if stretch is None else Told(stretch, gateway.told.at_s)


def gateway_view(heard: Heard) -> GatewayView:
    """Add up what the gateways have told."""
    by_server: dict[str, int] = {}
    in_flight: dict[str, int] = {}
    queued: dict[Key, int] = {}
    for reading in heard.readings:
        for one in reading.servers:
            by_server[one.server] = by_server.get(one.server, 0) + one.in_flight
        for version in reading.versions:
            key = (version.api, version.version)
            queued[key] = queued.get(key, 0) + version.queued
    for server, count in by_server.items():
        replica = replica_of_server(server)
        in_flight[replica] = in_flight.get(replica, 0) + count
    routed = frozenset(api for reading in heard.readings for api in reading.revisions)
    return GatewayView(heard.known, _lowest_revisions(heard.readings), in_flight, queued, routed)


def quantile_ms(buckets: tuple[int, ...], share: float) -> float | None:
    """Return a quantile in milliseconds, linear within its bucket; None without samples.

    What is slower than the last bound counts as the last bound.
    """
    rank = share * sum(buckets)
    if rank == 0:
        return None
    seen = 0.0
    for index, count in enumerate(buckets[:-1]):
        if count and seen + count >= rank:
            low = LATENCY_BOUNDS_MS[index - 1] if index else 0
            high = LATENCY_BOUNDS_MS[index]
            return low + (high - low) * (rank - seen) / count
        seen += count
    return float(LATENCY_BOUNDS_MS[-1])


def _counts(version: VersionTraffic) -> Counts:
    buckets = version.latency_buckets or (0,) * BUCKETS
    return Counts(
        version.arrivals,
        version.completions,
        tuple(version.outcomes),
        tuple(buckets),
        version.refused,
        version.latency_sum_ms,
    )


def _add(one: tuple[int, ...], other: tuple[int, ...], sign: int) -> tuple[int, ...]:
    return tuple(a + sign * b for a, b in zip(one, other, strict=True))


def _lowest_revisions(readings: tuple[GatewayReading, ...]) -> dict[str, int]:
    if not readings:
        return {}
    everywhere = set(readings[0].revisions).intersection(*(r.revisions for r in readings))
    return {api: min(r.revisions[api] for r in readings) for api in everywhere}
