"""Closes nodes to new replicas, and opens them again, in the background."""

import asyncio
from collections.abc import Mapping, Sequence

from serai.engine import Engine
from serai.errors import Refused, Unavailable
from serai.tasks import cancelled
from serai_scheduler.nodeplan import Take

AT_ONCE = 4
"""How many nodes the engine is spoken to about at the same time: half of what Nomad is at all."""
ORDER_LIMIT_S = 10.0
LIMIT_S = 0.5
"""How long a pass waits for what it has ordered; what is carried out later is seen later."""


class Tending:
    """Gives the orders for nodes: of each one at a time, and none that is not wanted any more.

    A slow engine, or many nodes, hold up no pass.
    """

    def __init__(self, engine: Engine, epoch: int) -> None:
        self._engine = engine
        self._epoch = epoch
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._wanted: Mapping[str, bool] = {}
        self._giving: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, str] = {}

    async def aclose(self) -> None:
        """Order nothing any more."""
        await cancelled(*self._giving.values())
        self._giving.clear()  # one that had not begun yet did not take itself out

    async def give(self, orders: Sequence[Take]) -> dict[str, str]:
        """Begin to carry these out in place of those before, and wait a moment.

        Returns by node why it is not as wanted, as far as an order for it has failed.
        """
        self._wanted = {order.node: order.takes for order in orders}
        begun = []
        for node in self._wanted:
            if node not in self._giving:
                self._giving[node] = asyncio.create_task(self._give(node))
                begun.append(self._giving[node])
        if begun:
            await asyncio.wait(begun, timeout=LIMIT_S)
        self._failed = {node: why for node, why in self._failed.items() if node in self._wanted}
        return dict(self._failed)

    async def _give(self, node: str) -> None:
        try:
            async with self._turns:
                if node in self._wanted:
                    await self._order(node, self._wanted[node])
        finally:
            del self._giving[node]

    async def _order(self, node: str, takes: bool) -> None:
        try:
            async with asyncio.timeout(ORDER_LIMIT_S):
                await self._engine.take(node, takes, self._epoch)
        except (Refused, Unavailable, TimeoutError) as error:
            self._failed[node] = str(error) or "no answer in time"
        else:
            self._failed.pop(node, None)
