"""What a scheduler tells of itself, whoever leads: alive, ready, metrics."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CollectorRegistry

from serai.clock import Clock
from serai.errors import Refused, Unavailable
from serai.http import answer
from serai.metrics import Metrics, render
from serai.operator import Readiness
from serai_scheduler.api.handlers import healthz
from serai_scheduler.api.metrics import render as render_scheduler
from serai_scheduler.program.term import Terms

ASK_LIMIT_S = 3.0
FRESH_S = 1.0

Ask = Callable[[], Awaitable[object]]


@dataclass
class Own:
    """The calls that are each scheduler's own; `store` and `engine` ask whether they answer."""

    clock: Clock
    terms: Terms
    collectors: CollectorRegistry
    store: Ask
    engine: Ask
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _found: tuple[float, bool, bool] | None = None

    def __post_init__(self) -> None:
        metrics = Metrics("scheduler", self.collectors)
        self._leads = metrics.gauge("leading", "flag", "Whether this scheduler leads.")

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/healthz", healthz),
            web.get("/readyz", self.readyz),
            web.get("/metrics", self.metrics),
        ]

    async def readyz(self, request: web.Request) -> web.Response:
        """Answer 200 while the store answers: without the engine everything but starts works."""
        store, engine = await self._answering()
        told = Readiness(store=store, engine=engine, leads=self.terms.current is not None)
        return answer(told, 200 if store else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        scheduler = self.terms.current
        self._leads.set(scheduler is not None)
        body = render(self.collectors)
        if scheduler is not None:
            body += await render_scheduler(scheduler)
        return web.Response(body=body, content_type="text/plain")

    async def _answering(self) -> tuple[bool, bool]:
        """Return whether store and engine answer; they are asked once a second at most."""
        async with self._asking:
            found = self._found
            if found is None or self.clock.now() - found[0] > FRESH_S:
                store, engine = await asyncio.gather(_answers(self.store), _answers(self.engine))
                found = self._found = (self.clock.now(), store, engine)
            return found[1], found[2]


async def _answers(ask: Ask) -> bool:
    try:
        async with asyncio.timeout(ASK_LIMIT_S):
            await ask()
    except (Unavailable, Refused, TimeoutError):
        return False
    return True
