"""What a scheduler is told that cannot have the lease because Consul is slow."""

import asyncio
from typing import Any, cast

import pytest

from serai.clock import SimClock
from serai.consul.client import ConsulClient
from serai.consul.lease import ConsulLease
from serai.errors import Unavailable
from serai.lease import LeaseSettings

LEASE = LeaseSettings(ttl_s=2.0, margin_s=0.5, lock_delay_s=0.2)


class _Answer:
    """A session's id; every lock is refused: the session has ended when Consul looks."""

    def __init__(self, status: int) -> None:
        self.status = status

    def decoded(self, kind: type) -> dict[str, Any]:
        return {"ID": "session"}


class SlowConsul:
    """Answers each write `late_s` after it was asked; nobody holds the key."""

    def __init__(self, clock: SimClock, late_s: float) -> None:
        self._clock, self._late_s = clock, late_s

    async def put(self, path: str, body: object, params: object = None) -> _Answer:
        await self._clock.sleep(self._late_s)
        return _Answer(200 if path == "/v1/session/create" else 404)

    async def entries(self, key: str, **_: object) -> tuple[int, tuple[dict[str, Any], ...]]:
        await self._clock.sleep(0.01)
        return 1, ()


def lease_of(late_s: float) -> ConsulLease:
    clock = SimClock()
    consul = cast(ConsulClient, SlowConsul(clock, late_s))
    return ConsulLease(consul, clock, "serai/leader", "one", LEASE)


def test_a_consul_too_slow_for_the_lease_is_told_in_place_of_waiting_without_a_word() -> None:
    with pytest.raises(Unavailable, match=r"too slowly for a lease of 2 s: look at the network"):
        asyncio.run(lease_of(2.5).acquire(30.0))


def test_a_key_that_stays_locked_is_no_fault_of_a_consul_that_is_quick() -> None:
    assert not asyncio.run(lease_of(0.01).acquire(3.0))
