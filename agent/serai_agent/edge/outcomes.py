"""HAProxy's log lines added up per API and version. Pure but for its sums."""

from bisect import bisect_left
from dataclasses import dataclass, field

from serai.report import LATENCY_BOUNDS_MS

FIELDS = 9
CLIENT_GONE = 5
_BUCKETS = len(LATENCY_BOUNDS_MS) + 1


@dataclass
class Sums:
    """Counters of one API version since the aggregation began."""

    completions: int = 0
    outcomes: list[int] = field(default_factory=lambda: [0] * 6)
    refused: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * _BUCKETS)
    latency_sum_ms: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0


class Outcomes:
    """Takes log lines `API|VERSION|STATUS|MS|STATE|IN|OUT|WAIT|REFUSED`."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, str], Sums] = {}
        self.lines = 0
        self.damaged = 0

    def add(self, line: bytes) -> None:
        """Count one line; a damaged one is counted as such."""
        parts = line.rstrip(b"\n").split(b"|")
        if len(parts) == 1:
            return  # a notice of HAProxy about itself
        self.lines += 1
        if len(parts) != FIELDS:
            self.damaged += 1
            return
        api, version, status, milliseconds, state, received, sent, _, refused = parts
        if api in (b"-", b""):
            return  # no API: a path that nobody has
        key = (api.decode(), version.decode() if version != b"-" else "")
        sums = self.sums.get(key)
        if sums is None:
            sums = self.sums[key] = Sums()
        try:
            code, took_ms = int(status), float(milliseconds)
            sums.bytes_in += int(received)
            sums.bytes_out += int(sent)
        except ValueError:
            self.damaged += 1
            return
        sums.completions += 1
        gone = state[:1] == b"C" or not 100 <= code <= 599
        sums.outcomes[CLIENT_GONE if gone else code // 100 - 1] += 1
        if refused not in (b"-", b""):
            sums.refused += 1
        took_ms = max(took_ms, 0.0)
        sums.buckets[bisect_left(LATENCY_BOUNDS_MS, took_ms)] += 1
        sums.latency_sum_ms += took_ms

    def forget(self, api: str) -> None:
        """Drop the sums of an API that is gone."""
        for key in [key for key in self.sums if key[0] == api]:
            del self.sums[key]
