"""What the gateways' counters add up to: rates, quantiles, in flight. Pure but for its memory.

Counters arrive as totals per gateway run; differences are taken within a run only, so a gateway
that starts again neither loses what was counted nor makes a negative rate.
"""

from collections import deque
from dataclasses import dataclass, field

from serai.operator import Traffic
from serai.report import LATENCY_BOUNDS_MS, GatewayReading, VersionTraffic
from serai_scheduler.world import GatewayView

WINDOW_S = 60.0
FRESH_S = 5.0
"""How old a gateway's reading may be before it is silent: unknown, not zero."""
FORGET_S = 120.0
BUCKETS = len(LATENCY_BOUNDS_MS) + 1

Key = tuple[str, str]


@dataclass(frozen=True)
class Counts:
    """Sums of counters: responses by class, by latency bucket, arrivals."""

    arrivals: int = 0
    outcomes: tuple[int, ...] = (0,) * 6
    buckets: tuple[int, ...] = (0,) * BUCKETS

    def plus(self, other: "Counts", sign: int = 1) -> "Counts":
        """Return the sum, or with sign -1 the difference."""
        return Counts(
            self.arrivals + sign * other.arrivals,
            _add(self.outcomes, other.outcomes, sign),
            _add(self.buckets, other.buckets, sign),
        )


@dataclass
class _Gateway:
    heard_at_s: float
    reading: GatewayReading
    before: dict[Key, Counts] = field(default_factory=dict)


@dataclass
class _Series:
    total: Counts = field(default_factory=Counts)
    samples: deque[tuple[float, Counts]] = field(default_factory=deque)
    """Totals over time, oldest first, one per second at most, no older than the window."""


class TrafficBook:
    """Keeps the readings of all gateways; `now_s` is monotonic."""

    def __init__(self) -> None:
        self._gateways: dict[str, _Gateway] = {}
        self._series: dict[Key, _Series] = {}

    def add(self, node: str, reading: GatewayReading, now_s: float) -> None:
        """Take in one gateway's reading."""
        known = self._gateways.get(node)
        same_run = known is not None and known.reading.run == reading.run
        before = known.before if known is not None and same_run else {}
        after = {(v.api, v.version): _counts(v) for v in reading.versions}
        for key, counts in after.items():
            series = self._series.setdefault(key, _Series())
            series.total = series.total.plus(counts.plus(before.get(key, Counts()), -1))
        self._gateways[node] = _Gateway(now_s, reading, after)
        self._sample(now_s)

    def _sample(self, now_s: float) -> None:
        for series in self._series.values():
            if not series.samples or now_s - series.samples[-1][0] >= 1.0:
                series.samples.append((now_s, series.total))
            while len(series.samples) > 1 and series.samples[1][0] <= now_s - WINDOW_S:
                series.samples.popleft()

    def forget(self, api: str) -> None:
        """Drop the history of a deleted API."""
        for key in [key for key in self._series if key[0] == api]:
            del self._series[key]

    def view(self, now_s: float) -> GatewayView:
        """Return what is in flight now; `known` is False while any gateway is silent."""
        self._gateways = {
            node: g for node, g in self._gateways.items() if now_s - g.heard_at_s < FORGET_S
        }
        fresh = [g.reading for g in self._gateways.values() if now_s - g.heard_at_s <= FRESH_S]
        known = bool(fresh) and len(fresh) == len(self._gateways) and all(r.ready for r in fresh)
        in_flight: dict[str, int] = {}
        queued: dict[Key, int] = {}
        for reading in fresh:
            for server in reading.servers:
                in_flight[server.server] = in_flight.get(server.server, 0) + server.in_flight
            for version in reading.versions:
                key = (version.api, version.version)
                queued[key] = queued.get(key, 0) + version.queued
        routed = frozenset(api for reading in fresh for api in reading.revisions)
        return GatewayView(known, _lowest_revisions(fresh), in_flight, queued, routed)

    def traffic(self, api: str, now_s: float, version: str | None = None) -> Traffic:
        """Return the figures of an API, or of one of its versions."""
        keys = [k for k in self._series if k[0] == api and version in (None, k[1])]
        total, recent, span_s = Counts(), Counts(), 0.0
        for key in keys:
            series = self._series[key]
            total = total.plus(series.total)
            first_at_s, first = series.samples[0]
            recent = recent.plus(series.total.plus(first, -1))
            span_s = max(span_s, now_s - first_at_s)
        now = [
            v
            for g in self._gateways.values()
            if now_s - g.heard_at_s <= FRESH_S
            for v in g.reading.versions
            if v.api == api and version in (None, v.version)
        ]
        return Traffic(
            requests_per_s=recent.arrivals / span_s if span_s >= 1.0 else None,
            in_flight=sum(v.in_flight for v in now),
            queued=sum(v.queued for v in now),
            held=sum(v.held for v in now),
            responses_2xx=total.outcomes[1],
            responses_4xx=total.outcomes[3],
            responses_5xx=total.outcomes[4],
            p50_ms=quantile_ms(recent.buckets, 0.50),
            p99_ms=quantile_ms(recent.buckets, 0.99),
        )


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
    return Counts(version.arrivals, tuple(version.outcomes), tuple(buckets))


def _add(one: tuple[int, ...], other: tuple[int, ...], sign: int) -> tuple[int, ...]:
    return tuple(a + sign * b for a, b in zip(one, other, strict=True))


def _lowest_revisions(readings: list[GatewayReading]) -> dict[str, int]:
    if not readings:
        return {}
    everywhere = set(readings[0].revisions).intersection(*(r.revisions for r in readings))
    return {api: min(r.revisions[api] for r in readings) for api in everywhere}
