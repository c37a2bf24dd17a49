"""The time that a leader stamps and measures what it has begun by."""

from serai.clock import Clock


class TermClock:
    """Wall-clock time that no step reaches: the machine's at the start, and what has passed since.

    What drains, waits or is tried has its limit by stamps. A clock that is set an hour ahead would
    have all of them come to their end at once, with requests in flight.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_s = clock.wall() - clock.now()

    def now(self) -> float:
        return self._clock.now()

    def wall(self) -> float:
        return self._clock.now() + self._ahead_s

    def calendar(self) -> float:
        """Return the wall clock as it is set now: for what people have set by the calendar."""
        return self._clock.wall()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
