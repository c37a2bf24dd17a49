"""What a scheduler is told that cannot have the lease because Consul is slow."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, cast

import pytest

from serai.clock import SimClock, SystemClock
from serai.consul.client import Answer, ConsulClient
from serai.consul.lease import ConsulLease
from serai.errors import Unavailable
from serai.lease import LeaseSettings
from serai_scheduler.leadership import lead

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
    with pytest.raises(Unavailable, match=r"a lease of 2 s, where it may take 0\.75 s: look"):
        asyncio.run(lease_of(2.5).acquire(30.0))


def test_a_key_that_stays_locked_is_no_fault_of_a_consul_that_is_quick() -> None:
    assert not asyncio.run(lease_of(0.01).acquire(3.0))


class LateConsul(ConsulClient):
    """Grants everything `late_s` after it was asked; its session lives for the lease's time."""

    def __init__(self, late_s: float) -> None:
        self._late_s, self._holder = late_s, ""

    async def put(self, path: str, body: object, params: object = None) -> Answer:
        await asyncio.sleep(self._late_s)  # noqa: TID251  # two calls at once take as long as one
        if path == "/v1/txn":
            self._holder = "session"
        return Answer(status=200, body='{"ID":"session"}')

    async def entries(
        self, key: str, *, recurse: bool, index: int = 0, wait_s: float = 0.0
    ) -> tuple[int, Sequence[Mapping[str, Any]]]:
        await asyncio.sleep(self._late_s)  # noqa: TID251
        entry = {"Session": self._holder, "ModifyIndex": 1, "Value": b""}
        return 1, (entry,) if self._holder else ()


@pytest.mark.parametrize(("part", "leads"), [(0.8, True), (1.2, False)])
async def test_it_can_be_kept_as_long_as_answers_take_less_than_they_may(
    part: float, leads: bool
) -> None:
    settings = LeaseSettings(ttl_s=0.8, margin_s=0.2, lock_delay_s=0.1)
    consul = LateConsul(part * settings.longest_answer_s)
    lease = ConsulLease(consul, SystemClock(), "serai/leader", "one", settings)
    led_s: list[float] = []
    why: list[str] = []

    async def act() -> None:
        began_s = SystemClock().now()
        try:
            await asyncio.Event().wait()
        finally:
            led_s.append(SystemClock().now() - began_s)

    leading = lead(lease, SystemClock(), settings, act, Random(1), why.append)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(leading, 4.0)
    if leads:
        assert len(led_s) == 1 and led_s[0] > 2.0 and why == [""]
    else:
        assert led_s == [] and "may take 0.3 s" in why[0]
