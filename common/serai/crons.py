"""When a cron expression in a time zone comes: five fields, read as Debian's cron does.

Times are seconds since 1970. The dates themselves are found by cronsim, always going forward:
backward it misses the start in the hour that a clock change repeats.
"""

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache

from cronsim import CronSim, CronSimError

FIELDS = 5
LONGEST_CLOCK_CHANGE_S = 3 * 3600.0
_FIRST = datetime(2024, 1, 1, tzinfo=UTC)
_SPAN = timedelta(days=9 * 366)
_MOST_STARTS = 500


def cron_fault(cron: str) -> str:
    """Return what is wrong with an expression, as the end of a sentence, or an empty text."""
    if len(cron.split()) != FIELDS:
        return f"has {len(cron.split())} fields, not {FIELDS}"
    try:
        first = next(CronSim(cron, _FIRST), None)
    except CronSimError as error:
        word = str(error).removeprefix("Bad ")
        return f"its {word} cannot be read, or never comes"
    return "" if first is not None else "never comes"


def shortest_gap_s(cron: str) -> float:
    """Return the least time between two starts, infinite where there is one alone in nine years."""
    gap_s, before = float("inf"), None
    for count, start in enumerate(CronSim(cron, _FIRST)):
        if before is not None:
            gap_s = min(gap_s, (start - before).total_seconds())
        before = start
        if gap_s <= 60 or count >= _MOST_STARTS or start - _FIRST > _SPAN:
            break
    return gap_s


def starts_between(cron: str, timezone: str, after_s: float, until_s: float) -> Iterator[float]:
    """Yield the starts later than `after_s` and not later than `until_s`, in order.

    A time that a clock change skips comes when the change does; one that it repeats, only once.
    Raises zoneinfo.ZoneInfoNotFoundError where the time zone is not known here.
    """
    # Earlier by more than any clock change, because cronsim reads wall time without its fold.
    begin = datetime.fromtimestamp(after_s - LONGEST_CLOCK_CHANGE_S, zoneinfo.ZoneInfo(timezone))
    for start in CronSim(cron, begin):
        at_s = start.timestamp()
        if at_s > until_s:
            return
        if at_s > after_s:
            yield at_s


@cache
def timezone_names() -> tuple[str, ...]:
    """Return the names of all time zones that are known here."""
    return tuple(sorted(zoneinfo.available_timezones() - {"localtime", "Factory"}))


def is_timezone(name: str) -> bool:
    """Say whether this is a time zone everywhere; `localtime` differs between machines."""
    if name in ("localtime", "Factory"):
        return False
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
