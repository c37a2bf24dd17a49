"""Keeps the newest reading of the GPUs, whatever the driver does.

The driver is spoken to by a child process (`gpu_child`) that is asked with a deadline: one that is
late is killed and another is started after a growing delay, while the report goes on with the
last readings and says how old they are. There is never more than one child: one that cannot even
be killed (stuck in the kernel) is waited for.
"""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import NoReturn

import msgspec

from serai import wire
from serai.clock import Clock, backoff
from serai.errors import ConfigError, Unavailable
from serai.report import Gpus
from serai.supervisor import every
from serai_agent.report.gpu_wire import MAX_TEXT, Answer, Question

_log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 2**20
KILL_DEADLINE_S = 2.0


@dataclass(frozen=True)
class GpuProbeSettings:
    """How the driver is asked; all times in seconds.

    `first_deadline_s` is long since a driver without persistence mode takes up to 3 s per GPU to
    wake. Without a driver a new try is made every `absent_retry_s`; after any other failure after
    `first_delay_s`, twice that, and so on up to `absent_retry_s`. `environment` is added to the
    child's (LD_LIBRARY_PATH, where the driver's library lies elsewhere).
    """

    period_s: float = 5.0
    deadline_s: float = 5.0
    first_deadline_s: float = 60.0
    first_delay_s: float = 1.0
    absent_retry_s: float = 60.0
    environment: Mapping[str, str] = field(default_factory=dict)


class ChildEnded(Unavailable):
    """The child gave no answer, or said that it was its last; `absent`: there is no driver."""

    def __init__(self, problem: str, absent: bool = False) -> None:
        super().__init__(problem)
        self.absent = absent


def unheard(late_s: float, missed: int) -> None:
    """Hear of lateness and keep nothing."""


class Child:
    """One child process and the questions to it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._number = 0

    @classmethod
    async def start(cls, environment: Mapping[str, str]) -> "Child":
        """Start a child; ChildEnded when the system refuses."""
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "serai_agent.report.gpu_child"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, **environment},
                limit=MAX_ANSWER_BYTES,
                start_new_session=True,
            )
        except OSError as error:
            raise ChildEnded(f"the GPU reader cannot be started: {error}") from error
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, deadline_s: float) -> Gpus:
        """Return a reading; ChildEnded when there is none in time."""
        assert self._process.stdin and self._process.stdout
        self._number += 1
        try:
            async with asyncio.timeout(deadline_s):
                self._process.stdin.write(wire.encode(Question(number=self._number)) + b"\n")
                await self._process.stdin.drain()
                line = await self._process.stdout.readline()
        except TimeoutError as error:
            raise ChildEnded(f"NVML gave no answer within {deadline_s:g} s") from error
        except (OSError, ValueError) as error:
            raise ChildEnded(f"the GPU reader broke off: {error}") from error
        return await self._understood(line)

    async def _understood(self, line: bytes) -> Gpus:
        if not line:
            await self.end()
            raise ChildEnded(f"the GPU reader ended with exit code {self._process.returncode}")
        try:
            answer = wire.decode(line, Answer)
        except ConfigError as error:
            raise ChildEnded(f"the GPU reader answered nonsense: {error}") from error
        if answer.number != self._number:
            raise ChildEnded("the GPU reader answered another question")
        if answer.ending:
            raise ChildEnded(answer.gpus.problem, absent=answer.absent)
        return answer.gpus

    async def end(self) -> bool:
        """Kill the child; say whether it is gone (in vain while it is stuck in the kernel)."""
        assert self._process.stdin
        self._process.stdin.close()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        try:
            async with asyncio.timeout(KILL_DEADLINE_S):
                await self._process.wait()
        except TimeoutError:
            return False
        return True


class GpuProbe:
    """Reads GPUs in the background (`run`, under a supervisor); `current` never waits.

    `on_late` is told the lateness of each question, as by `serai.supervisor.every`.
    """

    def __init__(
        self,
        clock: Clock,
        rng: Random,
        settings: GpuProbeSettings = GpuProbeSettings(),
        on_late: Callable[[float, int], None] = unheard,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._settings = settings
        self._on_late = on_late
        self._gpus = Gpus(problem="the GPUs have not been read yet")
        self._read_at_s: float | None = None
        self._told = ""
        self._child: Child | None = None
        self.children_started = 0

    def current(self) -> Gpus:
        """Return the newest readings, with their age and what is wrong now, if anything."""
        if self._read_at_s is None:
            return self._gpus
        age_s = max(0.0, self._clock.now() - self._read_at_s)
        return msgspec.structs.replace(self._gpus, age_s=round(age_s, 3))

    def count(self) -> int | None:
        """Return how many GPUs were read last, None where none were: a driver may be away."""
        return len(self._gpus.readings) or None

    @property
    def child_pid(self) -> int | None:
        """The process that speaks to the driver, if there is one."""
        return self._child.pid if self._child else None

    async def run(self) -> NoReturn:
        """Ask for ever; ends the child when cancelled."""
        delays = self._delays()
        try:
            while True:
                ended, answers = await self._one_life()
                self._remember_end(ended)
                if answers:
                    delays = self._delays()
                retry_s = self._settings.absent_retry_s
                await self._clock.sleep(retry_s if ended.absent else next(delays))
        finally:
            await self._end_child()

    def _delays(self) -> Iterator[float]:
        settings = self._settings
        return backoff(self._rng, first_s=settings.first_delay_s, cap_s=settings.absent_retry_s)

    async def _one_life(self) -> tuple[ChildEnded, int]:
        """Ask one child until it ends; return why it did, and how many answers it gave."""
        settings, answers = self._settings, 0

        async def ask() -> None:
            nonlocal answers
            deadline_s = settings.deadline_s if answers else settings.first_deadline_s
            self._remember(await child.ask(deadline_s))
            answers += 1

        try:
            child = await self._start_child()
            # The question has a deadline of its own, which comes first.
            limit_s = settings.first_deadline_s + settings.deadline_s + 10
            await every(self._clock, settings.period_s, ask, self._on_late, limit_s)
        except ChildEnded as ended:
            await self._end_child()
            return ended, answers

    async def _start_child(self) -> Child:
        if self._child is not None:
            raise ChildEnded(f"the GPU reader {self._child.pid} hangs in the driver, unkillable")
        self._child = await Child.start(self._settings.environment)
        self.children_started += 1
        return self._child

    async def _end_child(self) -> None:
        """End the child; one that cannot be ended stays ours, and no other is started."""
        if self._child is not None and await self._child.end():
            self._child = None

    def _remember(self, gpus: Gpus) -> None:
        if self._told:
            _log.info("gpus are read again", extra={"gpus": len(gpus.readings)})
        self._told = ""
        self._gpus = gpus
        self._read_at_s = self._clock.now()

    def _remember_end(self, ended: ChildEnded) -> None:
        """Keep the last readings beside the new problem, but none of a driver that is gone."""
        problem = str(ended)[:MAX_TEXT]
        readings, driver = self._gpus.readings, self._gpus.driver
        if ended.absent:
            readings, driver = (), ""
            self._read_at_s = self._clock.now()
        self._gpus = Gpus(readings=readings, driver=driver, problem=problem)
        if problem != self._told:
            level = logging.INFO if ended.absent else logging.WARNING
            _log.log(level, "gpus cannot be read", extra={"why": problem})
        self._told = problem
