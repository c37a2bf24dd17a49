"""The busiest minutes of a trace of single requests, faster than they were."""

import gzip
import json
from bisect import bisect_left
from itertools import accumulate
from pathlib import Path

from serai_scheduler.replay.system import Load

FIXED_S = 0.2
IN_TOKENS_PER_S = 10_000.0
OUT_TOKENS_PER_S = 50.0
"""How long a request of so many tokens runs; the traces hold no times (see their README)."""


def busiest(path: Path, length_s: float, speed: float, every: int = 1) -> Load:
    """Return the `length_s` of a trace with the most work, all times divided by `speed`.

    Of its requests one in `every` stays. Raises ValueError for a trace of counts, which has no
    single requests.
    """
    at_s, runs_s = _read(path)
    done = [0.0, *accumulate(runs_s)]

    def work_from(first: int) -> float:
        return done[bisect_left(at_s, at_s[first] + length_s)] - done[first]

    whole = bisect_left(at_s, at_s[-1] - length_s)
    first = max(range(max(1, whole)), key=work_from)
    last = bisect_left(at_s, at_s[first] + length_s)
    return Load(
        [(one - at_s[first]) / speed for one in at_s[first:last:every]],
        [one / speed for one in runs_s[first:last:every]],
    )


def _read(path: Path) -> tuple[list[float], list[float]]:
    with gzip.open(path, "rt") as file:
        if json.loads(file.readline()[2:])["kind"] != "requests":
            raise ValueError(f"{path.name} holds counts; name a trace of single requests")
        rows = [[float(part) for part in line.split(",")] for line in file]
    at_s = [each / 1000.0 for each in accumulate(row[0] for row in rows)]
    runs_s = [FIXED_S + row[1] / IN_TOKENS_PER_S + row[2] / OUT_TOKENS_PER_S for row in rows]
    return at_s, runs_s
