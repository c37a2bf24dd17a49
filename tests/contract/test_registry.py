"""One suite for every registry: what is published is listed, and watchers hear of changes."""

import asyncio
from typing import Protocol

import pytest

from serai.memory import MemoryRegistry
from serai.registry import Publisher, Registry
from tests.unit.edge.values import server


class Both(Registry, Publisher, Protocol):
    """Both ends of one registry."""


@pytest.fixture
def registry() -> Both:
    return MemoryRegistry()


async def test_lists_what_was_published_last_whatever_the_order(registry: Both) -> None:
    one, two = server(number=1), server(number=2)
    registry.publish([two, one])
    assert (await registry.watch(0, 0)).servers == (one, two)
    registry.publish([two])
    assert (await registry.watch(-1, 0)).servers == (two,)


async def test_the_revision_rises_with_changes_and_with_nothing_else(registry: Both) -> None:
    registry.publish([server()])
    first = await registry.watch(0, 0)
    registry.publish([server()])
    assert (await registry.watch(-1, 0)).revision == first.revision
    registry.publish([])
    later = await registry.watch(first.revision, 5.0)
    assert later.revision > first.revision and later.servers == ()


async def test_a_watcher_hears_of_a_change_at_once(registry: Both) -> None:
    registry.publish([])
    before = await registry.watch(0, 0)
    async with asyncio.timeout(5.0):
        waiting = asyncio.create_task(registry.watch(before.revision, 60.0))
        registry.publish([server()])
        assert (await waiting).servers == (server(),)


async def test_a_watcher_gets_the_same_list_when_its_time_is_over(registry: Both) -> None:
    registry.publish([server()])
    before = await registry.watch(0, 0)
    assert await registry.watch(before.revision, 0.01) == before
