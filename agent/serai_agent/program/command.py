"""The command line: run the agent of this node, or let its gateway leave."""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from serai.clock import Clock, SystemClock
from serai.consul.client import ConsulClient
from serai.consul.gateways import passing
from serai.errors import ConfigError, Refused, Unavailable
from serai.logs import setup
from serai_agent.program.config import GATEWAY, AgentConfig, load_agent_config, read_secrets
from serai_agent.program.drain import HEARD_LIMIT_S, without_others
from serai_agent.program.holding import holder
from serai_agent.program.node import make_haproxy
from serai_agent.program.serve import STOP_GRACE_S, serve

DONE, FAILED = 0, 1
POLL_S = 0.1
SLACK_S = 30.0


def run() -> int:
    """Do what the command line asks for; return the exit status."""
    arguments = _parser().parse_args()
    setup("serai-agent", form=arguments.log_format)
    config = load_agent_config(arguments.config)
    if arguments.gateway:
        return asyncio.run(_become_gateway(config))
    return asyncio.run(_drain(config) if arguments.drain else serve(config))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="serai-agent",
        description="The agent of a node: reports, fetches bundles, steers HAProxy. SIGTERM ends "
        "it and leaves HAProxy serving; SIGUSR1 drains the gateway and ends both.",
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--drain", action="store_true", help="drain this node's gateway, end it, and return then"
    )
    parser.add_argument(
        "--gateway", action="store_true",
        help="be this node's HAProxy, for a unit or job of its own (with `start = false`)",
    )  # fmt: skip
    parser.add_argument("--log-format", choices=("json", "text"), default="json")
    return parser


async def _become_gateway(config: AgentConfig) -> int:
    """Become HAProxy; the agent, which is another process, attaches to it."""
    if GATEWAY not in config.roles or config.gateway.start:
        raise ConfigError(
            "--gateway: this node's agent starts HAProxy itself; set `start = false` in [gateway]"
        )
    await make_haproxy(config, SystemClock()).become()


async def _drain(config: AgentConfig) -> int:
    """Let the agent that runs drain its gateway, or do it in its place."""
    if GATEWAY not in config.roles:
        raise ConfigError("this node is no gateway: its roles name none")
    clock = SystemClock()
    running = holder(Path(config.data_dir))
    if running is None:
        if make_haproxy(config, clock).pid() is None:
            return DONE
        return await serve(config, drain_at_once=True)
    await _warn_of_the_last(config)
    os.kill(running, signal.SIGUSR1)
    return await _ended(config, running, clock)


async def _warn_of_the_last(config: AgentConfig) -> None:
    """Say who will miss this gateway. It drains all the same: whoever shuts down all means it."""
    try:
        async with ConsulClient(read_secrets(config).consul) as consul:
            why = without_others(await passing(consul), config.node)
    except (Unavailable, Refused) as error:
        why = f"whether another gateway takes requests is not known: {error}"
    if why:
        print(f"serai-agent: {why}", file=sys.stderr, flush=True)


async def _ended(config: AgentConfig, running: int, clock: Clock) -> int:
    gateway = config.gateway
    limit_s = HEARD_LIMIT_S + gateway.notice_s + gateway.drain_limit_s + STOP_GRACE_S + SLACK_S
    until_s = clock.now() + limit_s
    while holder(Path(config.data_dir)) == running:
        if clock.now() > until_s:
            print(f"serai-agent: process {running} still drains", file=sys.stderr)
            return FAILED
        await clock.sleep(POLL_S)
    return DONE
