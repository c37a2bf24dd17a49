"""Since when a replica is ready, as one that ends and is started again in place shows."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec
import pytest

from serai.clock import SimClock
from serai.model import Replica, ReplicaState
from serai_scheduler.nomad.client import NomadClient, NomadSettings
from serai_scheduler.nomad.memory import Memory
from serai_scheduler.nomad.snapshot import Seen
from tests.support.scheduling import replica

UNUSED_PORT = 1


@dataclass
class Looking:
    """Looks once a second; what is ready or waits is not asked of Nomad."""

    memory: Memory
    clock: SimClock

    async def at(self, state: ReplicaState, restarts: int = 0) -> float | None:
        """Return since when it is ready, by the time that has passed."""
        one = msgspec.structs.replace(replica("v1", 1, state), restarts=restarts)
        found = await self.see(one)
        return found.ready_at_s and found.ready_at_s - self.clock.wall()

    async def see(self, one: Replica) -> Replica:
        await self.clock.sleep(1.0)
        (found,) = await self.memory.completed([Seen("job", one, {"ID": "a1"})])
        return found


@pytest.fixture
async def looking() -> AsyncIterator[Looking]:
    client, clock = NomadClient(NomadSettings(port=UNUSED_PORT)), SimClock()
    yield Looking(Memory(client, clock), clock)
    await client.close()


async def test_it_is_ready_since_it_was_first_seen_so(looking: Looking) -> None:
    assert await looking.at(ReplicaState.LOADING) is None
    assert await looking.at(ReplicaState.READY) == 0.0
    assert await looking.at(ReplicaState.READY) == -1.0
    assert await looking.at(ReplicaState.DRAINING) == -2.0


@pytest.mark.parametrize("between", [ReplicaState.STARTING, ReplicaState.LOADING])
async def test_one_that_ended_is_ready_since_it_is_again(
    looking: Looking, between: ReplicaState
) -> None:
    assert await looking.at(ReplicaState.READY) == 0.0
    assert await looking.at(between, restarts=1) is None
    assert await looking.at(ReplicaState.READY, restarts=1) == 0.0


async def test_one_that_was_not_ready_for_a_while_has_not_ended(looking: Looking) -> None:
    assert await looking.at(ReplicaState.READY) == 0.0
    assert await looking.at(ReplicaState.LOADING) == -1.0
    assert await looking.at(ReplicaState.READY) == -2.0


async def test_an_end_between_two_looks_is_seen(looking: Looking) -> None:
    assert await looking.at(ReplicaState.READY, restarts=1) == 0.0
    assert await looking.at(ReplicaState.READY, restarts=2) == 0.0


async def test_one_that_was_ready_stays_so_while_any_process_serves(looking: Looking) -> None:
    ready, loading = replica("v1"), replica("v1", 1, ReplicaState.LOADING)
    half = msgspec.structs.replace(loading, servers=ready.servers)
    assert (await looking.see(half)).state is ReplicaState.LOADING, "the other one still loads"
    await looking.see(ready)
    assert (await looking.see(half)).state is ReplicaState.READY
    assert (await looking.see(loading)).state is ReplicaState.LOADING
    ended = msgspec.structs.replace(half, restarts=1)
    assert (await looking.see(ended)).state is ReplicaState.LOADING, "both of them load anew"
