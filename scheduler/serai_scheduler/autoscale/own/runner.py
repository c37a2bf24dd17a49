"""Keeps a child process for each API with a policy of one's own, and asks it.

One for each API: what one policy hangs in, leaks or breaks is nobody else's.
"""

import asyncio
import logging
from collections.abc import Iterator, Set
from dataclasses import dataclass
from random import Random
from typing import NoReturn

from serai.clock import Clock, backoff
from serai.supervisor import Supervisor
from serai_scheduler.autoscale.own.answers import Config, Observation, Said, judged
from serai_scheduler.autoscale.own.process import PolicyEnded, PolicyProcess

log = logging.getLogger(__name__)

FIRST_DELAY_S = 1.0
MAX_DELAY_S = 60.0
CALM_S = 60.0
"""After a life of so long the delays begin anew."""


@dataclass(frozen=True)
class _Asked:
    now_s: float
    observation: Observation


class PolicyRunner:
    """Asks the policy of one API in the background (`run`); `ask` and `said` never wait."""

    def __init__(self, clock: Clock, rng: Random, folder: str, target: str, config: Config) -> None:
        self._clock = clock
        self._rng = rng
        self._folder, self._target, self._config = folder, target, config
        self._child: PolicyProcess | None = None
        self._takes = False
        self._open: asyncio.Queue[_Asked] = asyncio.Queue(maxsize=1)
        self._said: Said | None = None
        self.children_started = 0

    @property
    def said(self) -> Said | None:
        return self._said

    @property
    def child_pid(self) -> int | None:
        """The process that the policy runs in, if there is one."""
        return self._child.pid if self._child is not None else None

    def ask(self, now_s: float, observation: Observation) -> bool:
        """Ask; say whether the question was taken: not while an earlier one is open."""
        if not self._takes:
            return False
        self._takes = False
        self._open.put_nowait(_Asked(now_s, observation))
        return True

    async def run(self) -> NoReturn:
        """Ask for ever, a new child after each that ended; ends the child when cancelled."""
        delays = self._delays()
        while True:
            began_s = self._clock.now()
            why = await self._one_life()
            self._said = Said(None, why)
            if self._clock.now() - began_s >= CALM_S:
                delays = self._delays()
            delay_s = next(delays)
            facts = {"api": self._config["api"], "why": why, "again_in_s": round(delay_s, 1)}
            log.warning("policy ended", extra=facts)
            await self._clock.sleep(delay_s)

    def _delays(self) -> Iterator[float]:
        return backoff(self._rng, first_s=FIRST_DELAY_S, cap_s=MAX_DELAY_S)

    async def _one_life(self) -> str:
        """Ask one child until it ends; return why it did."""
        try:
            self._child = child = await PolicyProcess.start(self._folder, self._target)
            self.children_started += 1
            await child.make(self._config)
            self._takes = True
            while True:
                asked = await self._open.get()
                self._said = judged(await child.decide(asked.now_s, asked.observation))
                self._takes = True
        except PolicyEnded as ended:
            return str(ended)
        finally:
            self._takes = False
            if self._child is not None:
                await self._child.end()
                self._child = None


class OwnPolicies:
    """The policies of all APIs that have their own; `folder` is where they are imported from.

    `run` runs under a supervisor, and ends all children when it is cancelled.
    """

    def __init__(self, clock: Clock, rng: Random, folder: str) -> None:
        self._clock = clock
        self._rng = rng
        self._folder = folder
        self._wanted: dict[str, tuple[str, PolicyRunner]] = {}
        """By API, the name of the loop and what it runs."""
        self._made = 0
        self._changed = asyncio.Event()

    def make(self, target: str, config: Config) -> PolicyRunner:
        """Return what asks a policy of an API, in place of the one that it had."""
        self._made += 1
        runner = PolicyRunner(self._clock, self._rng, self._folder, target, config)
        self._wanted[config["api"]] = (f"{config['api']}#{self._made}", runner)
        self._changed.set()
        return runner

    def keep(self, apis: Set[str]) -> None:
        """End the policies of all other APIs."""
        if gone := self._wanted.keys() - apis:
            for api in gone:
                del self._wanted[api]
            self._changed.set()

    async def run(self) -> None:
        """Run what was made, and end what is not wanted any more."""
        async with Supervisor(self._clock, self._rng) as loops:
            while True:
                self._changed.clear()
                wanted = dict(self._wanted.values())
                for gone in set(loops.running) - wanted.keys():
                    await loops.stop(gone)
                for new in wanted.keys() - set(loops.running):
                    loops.start(new, wanted[new].run)
                await self._changed.wait()


async def trial(folder: str, target: str, config: Config) -> str:
    """Return why a policy cannot be made, "" where it can."""
    try:
        child = await PolicyProcess.start(folder, target)
    except PolicyEnded as ended:
        return str(ended)
    try:
        await child.make(config)
    except PolicyEnded as ended:
        return str(ended)
    finally:
        await child.end()
    return ""
