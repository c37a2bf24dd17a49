"""Schedulers of a cluster for tests: the real program on a real Consul, replicas simulated."""

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from serai import wire
from serai.clock import SystemClock
from serai.config import load_config
from serai.engine import LogLine, LogQuery
from serai_scheduler.program.engine import EngineSide, RunningEngine
from serai_scheduler.program.prepare import prepare
from serai_scheduler.program.serve import serve
from serai_scheduler.program.settings import SchedulerConfig
from tests.cluster.agents import Agent
from tests.sim.cluster import SimEngine
from tests.support.ports import free_port
from tests.support.wait import auntil

ADMIN, AGENT = "the-token-of-the-admin", "the-token-of-all-agents"
STEP_S = 0.02
LINES_S = 0.05


class _Prompt(Random):
    """Everything takes the least time that it may."""

    def uniform(self, a: float, b: float) -> float:
        return a


class LiveEngine(SimEngine):
    """The simulation's engine on the real clock; its replicas write a line now and then."""

    async def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        number = 0
        while query.follow or number < 3:
            yield LogLine(
                at_s=float(number), replica="r", version="v", stream="out", text=f"line {number}"
            )
            number += 1
            await SystemClock().sleep(LINES_S)


def simulated() -> tuple[LiveEngine, EngineSide]:
    """Return an engine, and it as the side that any number of schedulers share."""
    engine = LiveEngine(_Prompt(1), SystemClock())

    async def step() -> None:
        while True:
            engine.step()
            await SystemClock().sleep(STEP_S)

    async def ask() -> None:
        return None

    return engine, EngineSide(lambda leading, changed: RunningEngine(engine, {"step": step}), ask)


@dataclass(frozen=True)
class Answer:
    """What a scheduler answered; `body` is decoded JSON where it is JSON."""

    status: int
    body: Any
    headers: Any

    @property
    def code(self) -> str:
        return str(self.body["code"])


@dataclass
class Caller:
    """Calls one scheduler."""

    url: str
    session: aiohttp.ClientSession
    trust: ssl.SSLContext | bool = True

    async def call(
        self, method: str, path: str, body: object = None, token: str = ADMIN, **headers: str
    ) -> Answer:
        raw = body if isinstance(body, bytes | None) else wire.encode(body)
        data = None if raw is None else BytesIO(raw)
        sent = {"Authorization": f"Bearer {token}", **headers}
        async with self.session.request(
            method, self.url + path, data=data, headers=sent, ssl=self.trust
        ) as response:
            told = await response.read()
            if response.content_type.endswith("json") and "ndjson" not in response.content_type:
                return Answer(response.status, json.loads(told), response.headers)
            return Answer(response.status, told, response.headers)

    async def leads(self) -> bool:
        try:
            return bool((await self.call("GET", "/readyz")).body["leads"])
        except aiohttp.ClientError:
            return False


@dataclass
class Scheduler(Caller):
    """One in this process."""

    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None

    async def stop(self) -> None:
        self.stopping.set()
        assert self.task is not None
        await self.task


class SchedulerProcess(Agent):
    """One in a process of its own, with a simulated engine of its own."""

    def __init__(self, config: Path, session: aiohttp.ClientSession) -> None:
        module = "tests.support.scheduler_process"
        super().__init__(config.parent, [sys.executable, "-m", module, str(config)])
        self.caller = Caller(address_in(config), session)

    async def answers(self) -> bool:
        """Say whether it knows a leader, itself or another."""
        assert self.process is not None and self.process.poll() is None, self.log()
        return await _serves(self.caller, 200)


def address_in(config: Path) -> str:
    """Return the URL at which a scheduler of this configuration is called."""
    return load_config(config, SchedulerConfig).address


def write_config(
    folder: Path,
    consul_port: int,
    prefix: str,
    more: str = "",
    consul_token_file: str = "",
    **top: str,
) -> Path:
    """Write the configuration of a scheduler on a free port.

    `top` are lines of its top level, `more` are tables; `[listen]` and `[lease]` have defaults.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "admin").write_text(ADMIN + "\n")
    (folder / "agent").write_text(AGENT + "\n")
    lines = {
        "data_dir": json.dumps(str(folder / "data")),
        "gateway_url": '"http://gateway.example:8080"',
        **top,
    }
    path = folder / "scheduler.toml"
    path.write_text(
        "\n".join(f"{key} = {value}" for key, value in lines.items())
        + f"""
[tokens]
admin = "{folder}/admin"
agent = "{folder}/agent"
[consul]
port = {consul_port}
prefix = "{prefix}"
token_file = "{consul_token_file}"
"""
        + (more if "[lease]" in more else LEASE + more)
        + ("" if "[listen]" in more else f"[listen]\nport = {free_port()}\n")
    )
    return path


LEASE = "[lease]\nttl_s = 6.0\nmargin_s = 2.0\nlock_delay_s = 0.1\n"
SHORT_LEASE = "[lease]\nttl_s = 2.0\nmargin_s = 0.5\nlock_delay_s = 0.1\n"
LONG_LEASE = "[lease]\nttl_s = 20.0\nmargin_s = 3.0\nlock_delay_s = 0.1\n"


@asynccontextmanager
async def running(
    configs: Sequence[Path],
    side: EngineSide,
    trust: ssl.SSLContext | bool = True,
    lead: bool = True,
) -> AsyncIterator[list[Scheduler]]:
    """Run schedulers in this process, one after the other, so that the first one leads.

    With `lead` False nobody can.
    """
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        found: list[Scheduler] = []
        stack.push_async_callback(_all_stopped, found)
        for path in configs:
            prepared = prepare(load_config(path, SchedulerConfig))
            one = Scheduler(prepared.config.address, session, trust)
            one.task = asyncio.create_task(serve(prepared, one.stopping, side))
            found.append(one)
            await auntil(partial(_serves, one, 200 if lead else 503), 20.0)
        yield found


async def _all_stopped(found: list[Scheduler]) -> None:
    for one in found:
        one.stopping.set()
    await asyncio.gather(*(one.task for one in found if one.task is not None))


async def _serves(one: Caller, status: int) -> bool:
    if isinstance(one, Scheduler) and one.task is not None and one.task.done():
        one.task.result()
    try:
        return (await one.call("GET", "/v1/info")).status == status
    except aiohttp.ClientError:
        return False
