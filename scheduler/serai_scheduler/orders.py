"""What users order, carried out on the store: read, decide purely, commit; again on a conflict."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import msgspec

from serai.errors import Refused
from serai.operator import DeployRequest, NodeRequest
from serai_scheduler.autoscale.schedule import bounds_at
from serai_scheduler.deploy import Accepted, Surroundings, new_version
from serai_scheduler.record import ApiRecord, NodeIntent, StoredApi
from serai_scheduler.route import route_of
from serai_scheduler.state import State, writes_of
from serai_scheduler.term_clock import TermClock

T = TypeVar("T")

TRIES = 10
"""How often an order is decided anew because somebody else changed the same API meanwhile."""

Decide = Callable[[DeployRequest, dict[str, StoredApi], Surroundings], tuple[Accepted, ...]]


class Orders:
    """The write side of the operator API. `kick` asks the reconciler for a pass at once."""

    def __init__(
        self, clock: TermClock, state: State, kick: Callable[[], None], epoch: int
    ) -> None:
        self._clock = clock
        self._state = state
        self._kick = kick
        self._epoch = epoch

    async def deploy(
        self, request: DeployRequest, around: Surroundings, decide: Decide
    ) -> tuple[Accepted, ...]:
        """Accept all APIs of a request or none; raise DeployRefused with every reason."""
        for attempt in range(TRIES):
            apis = await self._state.read()
            for item in request.apis:
                self._state.check(item.spec.name)
            around = replace(around, store_revision=self._state.revision)
            accepted = decide(request, apis, around)
            try:
                await self._commit(accepted)
            except Refused as refused:
                if refused.code != "conflict" or attempt == TRIES - 1:
                    raise
                continue
            return accepted
        raise AssertionError("unreachable")

    async def _commit(self, accepted: tuple[Accepted, ...]) -> None:
        writes = [
            write
            for one in accepted
            if one.record is not None
            for write in writes_of(
                one.before,
                one.record,
                route_of(one.record, self._epoch),
                versions=(one.version,) if one.version else (),
            )
        ]
        if writes:
            await self._state.commit(writes, self._epoch)
            self._kick()

    async def scale(self, api: str, replicas: int | None) -> ApiRecord:
        """Pin the count, or with None let the policy decide again.

        Raises Refused outside the API's bounds.
        """

        def decide(stored: StoredApi) -> ApiRecord:
            record = stored.record
            if replicas is None:
                return msgspec.structs.replace(record, pinned=None)
            low, high = bounds_at(record.spec.autoscaling, self._clock.calendar())
            if not low <= replicas <= high:
                raise Refused(
                    f"{api} may have {low} to {high} replicas, not {replicas}; change autoscaling "
                    "in its spec and deploy it first",
                    "out_of_bounds",
                )
            return msgspec.structs.replace(record, replicas=replicas, pinned=replicas)

        return await self._change(api, decide)

    async def delete(self, api: str) -> ApiRecord:
        """Begin to delete an API: its route goes at once, its replicas finish what they have."""

        def decide(stored: StoredApi) -> ApiRecord:
            record = stored.record
            if record.deleting_since_s is not None:
                return record
            return msgspec.structs.replace(
                record, deleting_since_s=self._clock.wall(), revision=record.revision + 1
            )

        return await self._change(api, decide)

    async def refresh(self, api: str) -> str:
        """Replace every replica by a new one of the same content; return the version's name."""
        for attempt in range(TRIES):
            stored = await self._find(api)
            record = stored.record
            if record.candidate is not None or not record.stable:
                raise Refused(f"{api} is being updated; refresh it when that has ended", "updating")
            around = Surroundings(self._clock.wall(), "", "")
            content = stored.versions[record.stable].content
            accepted = new_version(stored, record.spec, content, around, ())
            try:
                await self._commit((accepted,))
            except Refused as refused:
                if refused.code != "conflict" or attempt == TRIES - 1:
                    raise
                continue
            return accepted.plan.version
        raise AssertionError("unreachable")

    async def node(self, request: NodeRequest, node: str) -> None:
        """Keep what an operator wants of a node; the reconciler carries it out."""
        intent = NodeIntent(
            node=node, wish=request.wish, since_s=self._clock.wall(), limit_s=request.limit_s
        )
        await self._state.want(intent, self._epoch)
        self._kick()

    async def _find(self, api: str) -> StoredApi:
        stored = (await self._state.read()).get(api)
        self._state.check(api)
        if stored is None or stored.record.deleting_since_s is not None:
            raise Refused(f"there is no API {api}", "not_found")
        return stored

    async def _change(self, api: str, decide: Callable[[StoredApi], ApiRecord]) -> ApiRecord:
        for attempt in range(TRIES):
            stored = await self._find(api)
            record = decide(stored)
            try:
                await self._state.write(stored, record, route_of(record, self._epoch), self._epoch)
            except Refused as refused:
                if refused.code != "conflict" or attempt == TRIES - 1:
                    raise
                continue
            self._kick()
            return record
        raise AssertionError("unreachable")
