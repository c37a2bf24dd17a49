"""What is read from the store and what is forgotten there."""

import msgspec

from serai.memory import MemoryStore
from serai.operator import NodeWish
from serai_scheduler.record import NodeIntent
from serai_scheduler.state import State

EPOCH = 0
OPEN = NodeIntent(node="a", wish=NodeWish.OPEN, since_s=1.0)


async def test_what_is_fulfilled_is_forgotten() -> None:
    state = State(MemoryStore())
    await state.want(OPEN, EPOCH)
    await state.read()
    await state.fulfilled(OPEN, EPOCH)
    await state.read()
    assert state.intents == {}


async def test_what_an_operator_wanted_since_stays() -> None:
    """A node was opened; while the engine took its time, a drain was ordered and read."""
    state = State(MemoryStore())
    await state.want(OPEN, EPOCH)
    await state.read()
    drain = msgspec.structs.replace(OPEN, wish=NodeWish.DRAIN, since_s=2.0)
    await state.want(drain, EPOCH)
    await state.read()
    await state.fulfilled(OPEN, EPOCH)
    await state.read()
    assert state.intents == {"a": drain}
