"""How much a count may change within a minute, where the spec limits that."""

from collections import deque

from serai.spec.scaling import Autoscaling, most_change

MINUTE_S = 60.0


class Steps:
    """Remembers the counts of the last minute; `now_s` is monotonic."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: deque[tuple[float, int]] = deque()
        """When each count began to stand. The first may have begun before the minute."""

    def limited(self, now_s: float, count: int, scaling: Autoscaling) -> int:
        """Return the count that may stand now on the way to `count`."""
        counts = self._counts
        while len(counts) > 1 and counts[1][0] <= now_s - MINUTE_S:
            counts.popleft()
        if not counts:
            return count
        lowest, highest = min(one for _, one in counts), max(one for _, one in counts)
        up = scaling.up.limit if scaling.up is not None else None
        down = scaling.down.limit if scaling.down is not None else None
        if (more := most_change(up, lowest)) is not None:
            count = min(count, max(lowest + more, counts[-1][1]))
        if (fewer := most_change(down, highest)) is not None:
            count = max(count, min(highest - fewer, counts[-1][1]))
        return count

    def stands(self, now_s: float, count: int) -> None:
        """Note which count stands from now on."""
        if not self._counts or self._counts[-1][1] != count:
            self._counts.append((now_s, count))
