"""The port to leadership: at most one holder, who knows in time that he is none any more."""

from typing import Protocol

from serai.model import Value

NEVER = float("-inf")


class LeaseSettings(Value):
    """How long a lease outlives its last renewal, in seconds.

    The holder stops `margin_s` before `ttl_s` has passed since it began to renew, on its own
    monotonic clock; others can have the lease only after `ttl_s`, and after `lock_delay_s` more
    when it was not given back.
    """

    ttl_s: float = 15.0
    margin_s: float = 3.0
    lock_delay_s: float = 1.0

    @property
    def renew_period_s(self) -> float:
        return self.ttl_s / 3

    @property
    def longest_answer_s(self) -> float:
        """Return what renewing may take: one renewal has to end, and the next, before it is over.

        With answers that take longer nobody can lead.
        """
        return (self.ttl_s - self.margin_s) / 2

    def safe_until_s(self, renewing_at_s: float) -> float:
        """Return until when the holder may act, on the clock that `renewing_at_s` is from."""
        return renewing_at_s + self.ttl_s - self.margin_s

    def renew_at_s(self, safe_until_s: float) -> float:
        """Return when to begin the next renewal of a lease that may be used until then."""
        return safe_until_s - self.ttl_s + self.margin_s + self.renew_period_s


class Lease(Protocol):
    """One process's view of the lease: always held on one machine, a Consul lock in a cluster."""

    @property
    def held_until_s(self) -> float:
        """Return until when this process may act as leader, on the clock's monotonic seconds.

        It lies in the past, or is minus infinity, when the lease is not held.
        """
        ...

    @property
    def held(self) -> bool:
        """Say whether this process may act as leader at this moment."""
        ...

    async def acquire(self, wait_s: float) -> bool:
        """Take the lease, waiting for it up to `wait_s`; False when somebody else has it.

        Raises Unavailable when that cannot be told.
        """
        ...

    async def renew(self) -> None:
        """Prolong it; Refused with code `lease_lost` when it is over, Unavailable as above."""
        ...

    async def release(self) -> None:
        """Give it back, if it is held, so that another can have it at once."""
        ...
