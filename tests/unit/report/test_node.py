"""The machine is read without blocking, and what it does not say is unknown."""

from pathlib import Path

from serai_agent.report.node import NodeReader
from tests.support.wait import auntil


async def test_this_machine_is_read(tmp_path: Path) -> None:
    reader = NodeReader(tmp_path, disk_deadline_s=10)
    first = await reader.read()
    assert first.cpu_percent is None
    assert first.cpu_count >= 1
    assert first.load is not None
    assert first.memory_total_bytes is not None
    assert first.memory_available_bytes is not None
    assert 0 < first.memory_available_bytes <= first.memory_total_bytes
    assert first.disk_total_bytes is not None
    assert first.disk_free_bytes is not None
    assert 0 <= first.disk_free_bytes <= first.disk_total_bytes
    second = await reader.read()
    assert second.cpu_percent is not None
    assert 0 <= second.cpu_percent <= 100


async def test_a_disk_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    reader = NodeReader(tmp_path / "gone", disk_deadline_s=10)
    reading = await reader.read()
    assert reading.disk_total_bytes is reading.disk_free_bytes is None
    assert reading.memory_total_bytes is not None


async def test_a_disk_that_does_not_answer_in_time_is_unknown_until_it_does(
    tmp_path: Path,
) -> None:
    reader = NodeReader(tmp_path, disk_deadline_s=0)
    assert (await reader.read()).disk_total_bytes is None

    async def known() -> bool:
        return (await reader.read()).disk_total_bytes is not None

    await auntil(known)
