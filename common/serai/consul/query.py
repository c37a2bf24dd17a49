"""One blocking query of Consul, asked again and again."""

import logging
from collections.abc import Callable, Mapping
from random import Random
from typing import Generic, TypeVar

from serai.clock import Clock, backoff
from serai.consul.client import ConsulClient
from serai.errors import Refused, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

LEAST_TURN_S = 0.05
"""Between two answers of one query: a service that flaps may not keep the gateway busy."""
LONGEST_PAUSE_S = 5.0


class Query(Generic[T]):
    """Gives the answers one by one; failures are told once and waited out."""

    def __init__(
        self,
        client: ConsulClient,
        clock: Clock,
        path: str,
        wait_s: float,
        kind: type[T],
        params: Mapping[str, str | int] | None = None,
        on_failure: Callable[[str], None] = lambda why: None,
    ) -> None:
        """`on_failure` hears why, each time that there is no answer."""
        self._client = client
        self._clock = clock
        self._path = path
        self._wait_s = wait_s
        self._kind = kind
        self._params = params or {}
        self._on_failure = on_failure
        self._index = 0
        self._answered_at_s = float("-inf")

    async def next(self) -> T:
        """Return the next answer, whether or not it differs from the last."""
        pauses = backoff(Random(self._path), first_s=0.2, cap_s=LONGEST_PAUSE_S)
        failed = ""
        while True:
            early_s = self._answered_at_s + LEAST_TURN_S - self._clock.now()
            if early_s > 0:
                await self._clock.sleep(early_s)
            try:
                found = await self._ask()
            except (Unavailable, Refused) as error:
                if str(error) != failed:
                    failed = str(error)
                    log.warning(
                        "consul is not followed", extra={"query": self._path, "why": failed}
                    )
                self._on_failure(failed)
                self._index = 0  # what comes back may have lost its data
                await self._clock.sleep(next(pauses))
                continue
            if failed:
                log.info("consul is followed again", extra={"query": self._path})
            self._answered_at_s = self._clock.now()
            return found

    async def _ask(self) -> T:
        wait_s = self._wait_s if self._index else 0.0
        params = dict(self._params)
        if wait_s:
            params |= {"index": self._index, "wait": f"{round(wait_s * 1000)}ms"}
        answer = await self._client.get(self._path, params, wait_s=wait_s)
        found = answer.decoded(self._kind)
        # An index that went backwards has to be asked for from the beginning.
        self._index = answer.index if answer.index >= self._index else 0
        return found
