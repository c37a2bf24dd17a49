"""The shell around `plan`: observe once, plan each API, write what was decided, act.

What is decided is stored before it is done, so that a new leader goes on from the store alone.
"""

import asyncio
import logging
from collections.abc import Sequence

from serai.clock import Clock
from serai.engine import Engine
from serai.errors import Refused, Unavailable
from serai.model import Replica
from serai_scheduler.plan import Action, Forget, Outcome, Start, Stop, check, plan
from serai_scheduler.record import StoredApi
from serai_scheduler.route import route_of
from serai_scheduler.state import State
from serai_scheduler.traffic import TrafficBook
from serai_scheduler.world import ApiWorld, GatewayView

log = logging.getLogger(__name__)

OBSERVE_LIMIT_S = 5.0
ACT_LIMIT_S = 10.0


class Reconciler:
    """Brings the replicas of every API to what is wanted; it holds no policy of its own."""

    def __init__(
        self, clock: Clock, state: State, engine: Engine, traffic: TrafficBook, epoch: int
    ) -> None:
        self._clock = clock
        self._state = state
        self._engine = engine
        self._traffic = traffic
        self._epoch = epoch
        self._refusals: dict[str, dict[str, str]] = {}
        self._kicked = asyncio.Event()
        self.replicas: tuple[Replica, ...] = ()
        """What the engine showed at the last tick."""

    def kick(self) -> None:
        """Ask for a pass now, because something changed."""
        self._kicked.set()

    async def pause(self, period_s: float) -> None:
        """Wait for the next pass: `period_s`, or less when kicked."""
        try:
            async with asyncio.timeout(period_s):
                await self._kicked.wait()
        except TimeoutError:
            pass
        self._kicked.clear()

    async def tick(self) -> None:
        """One pass. A side that is away costs this tick, not the process."""
        try:
            async with asyncio.timeout(OBSERVE_LIMIT_S):
                apis = await self._state.read()
                self.replicas = tuple(await self._engine.observe())
        except (Unavailable, TimeoutError) as away:
            log.warning("tick skipped", extra={"why": str(away) or "no answer in time"})
            return
        view = self._traffic.view(self._clock.now())
        await self._end_strays(apis)
        by_api = _by_api(self.replicas)
        for name, stored in apis.items():
            await self._one(stored, by_api.get(name, ()), view)

    async def _one(
        self, stored: StoredApi, replicas: tuple[Replica, ...], view: GatewayView
    ) -> None:
        name = stored.record.name
        refusals = self._refusals.pop(name, {})
        world = ApiWorld(self._clock.wall(), stored, replicas, view, refusals)
        outcome = plan(world)
        check(world, outcome)
        try:
            await self._write(stored, outcome)
        except Refused as refused:
            # Somebody deployed in between: the next tick plans from what is there then.
            log.info("plan overtaken", extra={"api": name, "why": str(refused)})
            return
        except Unavailable as away:
            log.warning("plan not stored", extra={"api": name, "why": str(away)})
            return
        for message, facts in outcome.events:
            log.info(message, extra=facts)
        for action in outcome.actions:
            await self._act(name, action)

    async def _write(self, stored: StoredApi, outcome: Outcome) -> None:
        record = outcome.record
        route = route_of(record, self._epoch) if record is not None else None
        unchanged = (
            record == stored.record
            and route == self._state.route(stored.record.name)
            and not outcome.drop_versions
        )
        if not unchanged:
            await self._state.write(stored, record, route, self._epoch, outcome.drop_versions)
        if record is None:
            self._traffic.forget(stored.record.name)

    async def _act(self, api: str, action: Action) -> None:
        try:
            async with asyncio.timeout(ACT_LIMIT_S):
                match action:
                    case Start(replica, version):
                        log.info("start replica", extra={"api": api, "replica": replica})
                        await self._engine.start(replica, version, self._epoch)
                    case Stop(replica, grace_s):
                        log.info("stop replica", extra={"api": api, "replica": replica})
                        await self._engine.stop(replica, grace_s, self._epoch)
                    case Forget(name):
                        await self._engine.forget(name, self._epoch)
        except Refused as refused:
            log.warning("engine refused", extra={"api": api, "why": str(refused)})
            if isinstance(action, Start):
                self._refusals.setdefault(api, {})[action.version.name] = str(refused)
        except (Unavailable, TimeoutError) as away:
            log.warning("action failed", extra={"action": repr(action), "why": str(away)})

    async def _end_strays(self, apis: dict[str, StoredApi]) -> None:
        """End replicas that belong to no API or version that the store knows."""
        for replica in self.replicas:
            stored = apis.get(replica.api)
            if replica.alive and (stored is None or replica.version not in stored.versions):
                await self._act(replica.api, Stop(replica.id, 0.0))


def _by_api(replicas: Sequence[Replica]) -> dict[str, tuple[Replica, ...]]:
    grouped: dict[str, list[Replica]] = {}
    for replica in replicas:
        grouped.setdefault(replica.api, []).append(replica)
    return {api: tuple(mine) for api, mine in grouped.items()}
