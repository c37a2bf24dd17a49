"""HAProxy as a unit or job of its own, `serai-agent --gateway`; the agent only attaches."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.agents import Agent, ConsulAgent
from tests.cluster.nomad import CHANGE_LIMIT_S, nomad
from tests.cluster.serai_agents import Orders, SeraiAgent
from tests.support.gateways import Backend, route
from tests.support.serai import call
from tests.support.wait import auntil, until

pytestmark = pytest.mark.engines
JOBSPEC = Path(__file__).parents[3] / "jobspecs" / "gateway.nomad.hcl"


def apart(folder: Path, consul_port: int) -> SeraiAgent:
    """Return an agent that does not start HAProxy."""
    agent = SeraiAgent(folder, consul_port)
    config = folder / "agent.toml"
    config.write_text(config.read_text().replace("[gateway]", "[gateway]\nstart = false"))
    return agent


@contextmanager
def unit(agent: SeraiAgent, folder: Path) -> Iterator[Agent]:
    """Run HAProxy as a service manager does."""
    folder.mkdir()
    made = Agent(folder, [*agent.command, "--gateway"])
    made.start()
    try:
        yield made
    finally:
        made.stop()


async def test_the_agent_attaches_whenever_haproxy_comes(
    consul_agent: ConsulAgent, tmp_path: Path
) -> None:
    agent = apart(tmp_path / "apart", consul_agent.port)
    backend = Backend("one")
    await backend.start()
    try:
        agent.start()
        async with Orders(consul_agent.port) as orders:
            await orders.register(backend.server("iris"))
            await orders.order(route("iris", epoch=orders.epoch))
            assert agent.haproxy() is None and not agent.ready(), "it is not the agent's to start"
            with unit(agent, tmp_path / "unit") as first:
                await auntil(agent.ready)
                assert first.process is not None and agent.haproxy() == first.process.pid
                assert await answered(agent) == 200
                agent.kill()
                assert await answered(agent) == 200, "an agent's death is no matter"
                second = await asyncio.to_thread(become, agent)
                assert second.returncode == 2 and "serves" in second.stderr
                first.kill()
            with unit(agent, tmp_path / "again"):  # from the disk alone
                await auntil(lambda: agent.haproxy() is not None)

                async def serves() -> bool:
                    return await answered(agent) == 200

                await auntil(serves)
                agent.start()
                await auntil(agent.ready)
    finally:
        agent.stop()
        await backend.stop()


def become(agent: SeraiAgent) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*agent.command, "--gateway"], capture_output=True, text=True)


async def answered(agent: SeraiAgent) -> int | None:
    return await asyncio.to_thread(call_or_none, f"{agent.url}/iris")


def call_or_none(url: str) -> int | None:
    try:
        return call(url).status
    except OSError:
        return None


def test_an_agent_that_starts_haproxy_itself_says_so(
    consul_agent: ConsulAgent, tmp_path: Path
) -> None:
    agent = SeraiAgent(tmp_path / "own", consul_agent.port)
    done = become(agent)
    assert done.returncode == 2 and "set `start = false`" in done.stderr


def test_the_gateways_job_runs_haproxy_and_ends_it_gently(tmp_path: Path) -> None:
    with nomad(tmp_path / "engines", 'client { meta = { "serai_gateway" = "true" } }') as engine:
        agent = apart(tmp_path / "apart", engine.beside.port)
        told = [
            *("-var", f"serai={Path(agent.command[0]).parents[1]}"),
            *("-var", f"config={tmp_path / 'apart' / 'agent.toml'}"),
            *("-var", f"port={agent.gateway}"),
        ]
        done = engine.nomad_job("run", "-detach", *told, str(JOBSPEC))
        assert done.returncode == 0, done.stdout + done.stderr
        try:
            until(lambda: agent.haproxy() is not None, CHANGE_LIMIT_S)
            agent.start()
            until(lambda: call_or_none(f"{agent.url}/none") == 404, CHANGE_LIMIT_S)
            engine.call("DELETE", "/job/serai-gateway")
            until(lambda: agent.haproxy() is None, CHANGE_LIMIT_S)
        finally:
            agent.stop()
            engine.purge("serai-gateway")
