"""Asking the other schedulers for blobs: all at once, or one after the other."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from serai.blobs import Blobs, DiskFull
from serai.clock import Clock
from serai.errors import SeraiError, Unavailable
from serai.tasks import cancelled
from serai_scheduler.blobs.votes import majority_of, too_few, turns

AWAY_S = 20.0
"""So long one that did not answer is asked last, and only where it is needed."""
MAX_BEHIND = 4
"""So many stragglers may still be sent what a majority has; the others are filled later."""

T = TypeVar("T")
Answers = Mapping[str, T | SeraiError]
"""What each that answered said, by its URL."""


class Peers:
    """The blobs of the other schedulers, by their URL."""

    def __init__(self, peers: Mapping[str, Blobs], clock: Clock) -> None:
        self._peers = dict(peers)
        self._clock = clock
        self._away_until_s: dict[str, float] = {}
        self._behind: set[asyncio.Task[Any]] = set()
        self.total = len(peers) + 1
        """All schedulers, this one included."""

    def __getitem__(self, url: str) -> Blobs:
        return self._peers[url]

    async def close(self) -> None:
        """Leave the stragglers."""
        await cancelled(*self._behind)

    async def ask(
        self,
        call: Callable[[Blobs], Awaitable[T]],
        enough: Callable[[Answers[T]], bool] = lambda _: False,
        straggle: Callable[[Answers[T]], bool] = lambda _: False,
    ) -> Answers[T]:
        """Ask all at once, those that are away at last; return the answers once they are enough.

        Who has not answered by then may go on if `straggle` says so, else is asked no longer.
        """
        answers: dict[str, T | SeraiError] = {}
        present = [url for url in self._peers if not self.is_away(url)]
        tasks = self._begun(present, call)
        waiting = set(tasks)
        try:
            while not enough(answers) and len(answers) < len(self._peers):
                if not waiting:  # only now, so that nobody waits for those that are away
                    tasks |= self._begun([url for url in self._peers if url not in present], call)
                    waiting = {task for task, url in tasks.items() if url not in answers}
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                answers |= {tasks[task]: task.result() for task in done}
            if straggle(answers):
                self._let_go({task: tasks[task] for task in waiting})
                waiting = waiting - self._behind
            return answers
        finally:
            await cancelled(*waiting)

    def _begun(
        self, urls: Sequence[str], call: Callable[[Blobs], Awaitable[T]]
    ) -> "dict[asyncio.Task[T | SeraiError], str]":
        return {asyncio.create_task(self.said(url, call)): url for url in urls}

    def _let_go(self, stragglers: "Mapping[asyncio.Task[Any], str]") -> None:
        """Let as many go on as there is room for; who is that slow is left alone for a while."""
        for task, url in stragglers.items():
            if len(self._behind) < MAX_BEHIND:
                self._behind.add(task)
                task.add_done_callback(self._behind.discard)
            else:
                self._set_away(url)

    async def said(self, url: str, call: Callable[[Blobs], Awaitable[T]]) -> T | SeraiError:
        """Return what one answers, or its error."""
        try:
            return await call(self._peers[url])
        except SeraiError as error:
            self.note(url, error)
            return error

    def note(self, url: str, error: SeraiError) -> None:
        """Take down an error of one: who does not answer is asked last for a while."""
        if isinstance(error, Unavailable):
            self._set_away(url)

    def _set_away(self, url: str) -> None:
        self._away_until_s[url] = self._clock.now() + AWAY_S

    def turns(self, digest: str) -> list[str]:
        """Return all in the order to ask them for a blob."""
        return turns(list(self._peers), digest, {url for url in self._peers if self.is_away(url)})

    def is_away(self, url: str) -> bool:
        """Say whether one did not answer a moment ago."""
        return self._away_until_s.get(url, -math.inf) > self._clock.now()

    def awaited(self, answers: Answers[T]) -> int:
        """Return how many have not answered yet."""
        return len(self._peers) - len(answers)

    def done(self, answers: Answers[T]) -> int:
        """Return how many did what was asked, this scheduler included."""
        return 1 + len(answers) - len(errors_in(answers))

    def insist(self, what: str, answers: Answers[T]) -> None:
        """Raise DiskFull or Unavailable unless a majority, this scheduler included, did it."""
        if (done := self.done(answers)) >= majority_of(self.total):
            return
        errors = errors_in(answers)
        kind = DiskFull if any(isinstance(one, DiskFull) for one in errors) else Unavailable
        raise kind(too_few(what, done, self.total, [str(one) for one in errors]))


def errors_in(answers: Answers[T]) -> Sequence[SeraiError]:
    """Return the errors among answers."""
    return [one for one in answers.values() if isinstance(one, SeraiError)]
