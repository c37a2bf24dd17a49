"""A policy's child process, and the questions to it: each with a deadline."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from serai import wire
from serai.errors import Unavailable
from serai_scheduler.autoscale.own.answers import (
    MAX_LINE_BYTES,
    Answer,
    Config,
    Observation,
    Question,
    judged,
    read,
)

CHILD = Path(__file__).with_name("child.py")
DEADLINE_S = 0.5
MAKE_DEADLINE_S = 10.0
"""For the imports of a policy and its factory."""
KILL_DEADLINE_S = 2.0
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ")
"""Of the environment: nothing that a token might stand in."""


class PolicyEnded(Unavailable):
    """The child cannot be asked any more: it was late, wrote nonsense, raised or ended."""


class PolicyProcess:
    """One child; every error of it is a PolicyEnded, and then it is to be ended."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._number = 0

    @classmethod
    async def start(cls, folder: str, target: str) -> "PolicyProcess":
        """Start a child for `module:factory`, importable from `folder`."""
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", str(CHILD), folder, target),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
                cwd="/",
                limit=MAX_LINE_BYTES,
                start_new_session=True,
            )
        except OSError as error:
            raise PolicyEnded(f"its process cannot be started: {error}") from error
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def make(self, config: Config) -> None:
        """Have the policy made."""
        await self._asked(Question(number=self._next(), config=config), MAKE_DEADLINE_S)

    async def decide(self, now_s: float, observation: Observation) -> Answer:
        """Return the policy's answer, whatever it is."""
        question = Question(number=self._next(), now_s=now_s, observation=observation)
        return await self._asked(question, DEADLINE_S)

    def _next(self) -> int:
        self._number += 1
        return self._number

    async def _asked(self, question: Question, deadline_s: float) -> Answer:
        assert self._process.stdin and self._process.stdout
        try:
            async with asyncio.timeout(deadline_s):
                self._process.stdin.write(wire.encode(question) + b"\n")
                await self._process.stdin.drain()
                line = await self._process.stdout.readline()
        except TimeoutError as error:
            raise PolicyEnded(f"it gave no answer within {deadline_s:g} s") from error
        except (OSError, ValueError) as error:  # a line without an end is a ValueError
            raise PolicyEnded(f"its process broke off: {error}") from error
        if not line:
            await self.end()
            raise PolicyEnded(f"its process ended with exit code {self._process.returncode}")
        answer = read(line, question.number)
        if isinstance(answer, str):
            raise PolicyEnded(answer)
        if answer.fault:
            raise PolicyEnded(judged(answer).fault)
        return answer

    async def end(self) -> None:
        """Kill the child with all that it started; in vain only while it is stuck in the kernel."""
        assert self._process.stdin
        self._process.stdin.close()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_DEADLINE_S):
                await self._process.wait()
