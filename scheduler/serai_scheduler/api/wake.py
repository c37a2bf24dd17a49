"""The calls that wake a sleeping API and tell how far it is."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import web

from serai import wire
from serai.errors import Refused
from serai.operator import Done
from serai.waking import ENDS, WakeProgress
from serai_scheduler.autoscale.schedule import bounds_at
from serai_scheduler.record import ApiRecord
from serai_scheduler.service import Scheduler
from serai_scheduler.status import serving
from serai_scheduler.waking import DELETED, Waiting, failed, failed_ids, progress, why_not

LOOK_S = 0.25
TOLD_AGAIN_S = 5.0


async def wake(scheduler: Scheduler, name: str) -> Done:
    """Ask for a first replica; Refused where there may be none."""
    record = (await scheduler.find(name)).record
    if serving(record, scheduler.replicas_of(name)):
        return Done(message=f"{name} is awake")
    if why := why_not(record, _most(scheduler, record)):
        raise Refused(why, "not_woken")
    scheduler.autoscaler.wake(name)
    return Done(message=f"{name} is being woken")


async def looks(scheduler: Scheduler, name: str) -> AsyncGenerator[WakeProgress, None]:
    """Yield how far it is at once, with each change and every few seconds.

    It ends with a phase that is an end, or without one when nobody leads here any more. Refused
    when there is no such API.
    """
    await scheduler.find(name)
    failed_before = failed_ids(scheduler.replicas_of(name))
    wished: bool | None = None
    last, told_s = None, scheduler.clock.now()
    while not scheduler.ended.is_set():
        woken = scheduler.autoscaler.is_woken(name)
        wished = True if woken else None if wished is None else False
        now = _seen(scheduler, name, failed_before, wished)
        same = last is not None and (last.phase, last.reason) == (now.phase, now.reason)
        if not same or scheduler.clock.now() - told_s >= TOLD_AGAIN_S:
            yield now
            last, told_s = now, scheduler.clock.now()
        if now.phase in ENDS:
            return
        await scheduler.clock.sleep(LOOK_S)


async def tell(scheduler: Scheduler, request: web.Request) -> web.StreamResponse:
    """Stream the progress as JSON, one object a line."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    async with aclosing(looks(scheduler, request.match_info["api"])) as all_looks:
        async for now in all_looks:
            if not response.prepared:  # what is wrong from the start is told by a status
                await response.prepare(request)
            try:
                await response.write(wire.encode(now) + b"\n")
            except ConnectionError:  # the reader has gone
                break
    return response


def _seen(
    scheduler: Scheduler, name: str, failed_before: frozenset[str], wished: bool | None
) -> WakeProgress:
    stored = scheduler.state.apis.get(name)
    if stored is None:
        return failed(name, DELETED.format(api=name))
    return progress(
        stored.record,
        _most(scheduler, stored.record),
        scheduler.replicas_of(name),
        failed_before,
        Waiting(wished, scheduler.autoscaler.eta_s(name, stored.record.stable)),
    )


def _most(scheduler: Scheduler, record: ApiRecord) -> int:
    return bounds_at(record.spec.autoscaling, scheduler.clock.wall())[1]
