"""Slots: never more than the limit, in order, and a hung thread keeps its slot."""

import asyncio

from serai_runtime.slots import Slots, default_limit


async def enter(slots: Slots, order: list[int], number: int) -> None:
    if not slots.try_enter():
        await slots.enter()
    order.append(number)


async def settle() -> None:
    """Let every task that can run do so."""
    loop = asyncio.get_running_loop()
    for _ in range(5):
        turn: asyncio.Future[None] = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn


async def test_slots_are_handed_on_in_order() -> None:
    slots, order = Slots(2), list[int]()
    tasks = [asyncio.create_task(enter(slots, order, number)) for number in range(4)]
    await settle()
    assert (order, slots.busy) == ([0, 1], 2)
    slots.leave()
    await settle()
    assert (order, slots.busy) == ([0, 1, 2], 2)
    slots.leave()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3]


async def test_one_that_gives_up_leaves_the_queue() -> None:
    slots, order = Slots(1), list[int]()
    assert slots.try_enter()
    first = asyncio.create_task(enter(slots, order, 1))
    second = asyncio.create_task(enter(slots, order, 2))
    await settle()
    first.cancel()
    await settle()
    slots.leave()
    await second
    assert (order, slots.busy) == ([2], 1)


async def test_a_slot_handed_to_one_that_is_cancelled_at_once_is_not_lost() -> None:
    slots, order = Slots(1), list[int]()
    assert slots.try_enter()
    waiting = asyncio.create_task(enter(slots, order, 1))
    await settle()
    slots.leave()
    waiting.cancel()
    await settle()
    assert (order, slots.busy) == ([], 0)


async def test_an_abandoned_call_keeps_its_slot_until_it_ends() -> None:
    slots, order = Slots(1), list[int]()
    slots.abandoned = 1
    waiting = asyncio.create_task(enter(slots, order, 1))
    await settle()
    assert order == []
    slots.abandoned = 0
    slots.admit()
    await waiting
    assert order == [1]


def test_limits_that_were_not_told() -> None:
    assert default_limit(threads=3, is_async=False, batch_size=0) == 3
    assert default_limit(threads=1, is_async=True, batch_size=0) == 100
    assert default_limit(threads=2, is_async=False, batch_size=8) == 32
