"""Where one scheduler's blobs lie, by its configuration, and what runs to keep them there."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import aiohttp
from aiohttp import web

from serai.blobs import Blobs
from serai.clock import Clock
from serai.metrics import Metrics
from serai_scheduler.blobs.fill import Filling
from serai_scheduler.blobs.majority import MajorityBlobs
from serai_scheduler.blobs.peer import PeerBlobs, peer_session
from serai_scheduler.blobs.peer_routes import peer_routes
from serai_scheduler.blobs.storage import open_blobs
from serai_scheduler.program.prepare import Prepared
from serai_scheduler.program.settings import BlobsLie
from serai_scheduler.state import State


@dataclass
class Keeping:
    """The blobs and the parts of large ones; for an `async with` block.

    `routes` are what other schedulers ask of this one, `filling` the loop that a scheduler with a
    folder of its own runs beside others.
    """

    blobs: Blobs
    parts: Blobs
    routes: Sequence[web.RouteDef] = ()
    filling: Filling | None = None
    _majority: MajorityBlobs | None = None
    _sessions: list[aiohttp.ClientSession] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._majority is not None:
            await self._majority.close()
        for session in self._sessions:
            await session.close()


def keeping(prepared: Prepared, clock: Clock, state: State, metrics: Metrics) -> Keeping:
    """Open what the configuration names; raises as `open_blobs`. `state` only reads."""
    config = prepared.config
    url = config.blobs_url
    if config.blobs_lie is BlobsLie.SHARED:
        return Keeping(open_blobs(f"{url}/blobs", clock), open_blobs(f"{url}/parts", clock))
    own, parts = open_blobs(url, clock), open_blobs(f"{config.data_dir}/parts", clock)
    # Also without peers of its own: the others may have been told of this one before.
    routes = peer_routes(own, parts)
    if config.blobs_lie is BlobsLie.LEADER:
        return Keeping(own, parts, routes)
    session = peer_session(prepared.trust)
    peers = {peer: PeerBlobs(session, peer, prepared.secrets.admin) for peer in config.others}
    blobs = MajorityBlobs(own, peers, clock)
    filling = Filling(blobs, own, state, clock, metrics)
    return Keeping(blobs, parts, routes, filling, blobs, [session])
