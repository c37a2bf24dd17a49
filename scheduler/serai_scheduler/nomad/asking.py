"""Asks replicas that do not become ready why: what their checks say, Nomad does not tell."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from serai.clock import Clock
from serai.model import ReplicaState, Server, server_id
from serai.probe import Prober
from serai_scheduler.nomad.names import number_of
from serai_scheduler.nomad.reading import first_port
from serai_scheduler.nomad.snapshot import Held, Seen, Snapshot

PERIOD_S = 2.0
"""Less often than their checks: who loads a model has better things to do."""
ANSWER_LIMIT_S = 2.0
AT_ONCE = 16
MOST_ASKED = 200
"""Replicas that are asked in a turn, in the order of the jobs; the others have to wait."""


@dataclass(frozen=True)
class Question:
    """What a check in Consul asks a server; `inside` as for `Prober.ask`."""

    allocation: str
    server: Server
    path: str
    inside: int | None


class Asker:
    """Asks what `look_at` was last told of; keep `run` going.

    `changed` is called when an answer is another one. A scheduler whose network does not reach the
    nodes says so in the answers; what is ready is never asked.
    """

    def __init__(self, clock: Clock, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._questions: tuple[Question, ...] = ()
        self._said: dict[str, str] = {}

    def look_at(self, snapshot: Snapshot, replicas: Sequence[Seen]) -> tuple[Seen, ...]:
        """Note whom to ask, and return the replicas with what they last said."""
        self._questions = questions(snapshot, replicas)[:MOST_ASKED]
        return tuple(told(seen, self._said) for seen in replicas)

    async def run(self) -> None:
        prober = Prober(ANSWER_LIMIT_S)
        try:
            while True:
                await self._turn(prober)
                await self._clock.sleep(PERIOD_S)
        finally:
            await prober.close()

    async def _turn(self, prober: Prober) -> None:
        turns = asyncio.Semaphore(AT_ONCE)

        async def ask(one: Question) -> tuple[str, str]:
            async with turns:
                _, said = await prober.ask(one.server, one.path, one.inside)
                return one.allocation, said

        said = dict(await asyncio.gather(*(ask(one) for one in self._questions)))
        if said != self._said:
            self._said = said
            self._changed()


def questions(snapshot: Snapshot, replicas: Sequence[Seen]) -> tuple[Question, ...]:
    """Return what to ask of the replicas that run and have no server that is ready. Pure."""
    found = [
        _question(snapshot.jobs[seen.job], seen)
        for seen in replicas
        if seen.replica.state is ReplicaState.LOADING
        and not seen.replica.servers
        and seen.job in snapshot.jobs
    ]
    return tuple(one for one in found if one is not None)


def _question(job: Held, seen: Seen) -> Question | None:
    assert seen.allocation is not None, "it runs"
    replica, port = seen.replica, first_port(seen.allocation)
    number = number_of(seen.allocation["TaskGroup"])
    groups = [one for one in job.body["TaskGroups"] if number_of(one["Name"]) == number]
    path = next((path for group in groups for path in _checked_paths(group)), None)
    if port is None or path is None:
        return None
    server = Server(
        id=server_id(replica.id, 0),
        replica=replica.id,
        api=replica.api,
        version=replica.version,
        host=port["HostIP"],
        port=port["Value"],
        capacity=1,
    )
    return Question(seen.allocation["ID"], server, path, port.get("To") or None)


def _checked_paths(group: Mapping[str, Any]) -> list[str]:
    services = [one for task in group["Tasks"] for one in task.get("Services") or ()]
    return [check["Path"] for one in services for check in one.get("Checks") or ()]


def told(seen: Seen, said: Mapping[str, str]) -> Seen:
    """Return a replica with its answer, by allocation, as part of its reason. Pure."""
    words = said.get(seen.allocation["ID"], "") if seen.allocation is not None else ""
    if not words or seen.replica.state is not ReplicaState.LOADING or seen.replica.servers:
        return seen
    reason = f"{seen.replica.reason}: {words}"
    return replace(seen, replica=msgspec.structs.replace(seen.replica, reason=reason))
