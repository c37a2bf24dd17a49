"""The ledger on a real file: what is kept, for how long, and what a bad disk costs."""

import stat
from pathlib import Path

import msgspec
import pytest

from serai.decisions import ScaleDecision
from serai_scheduler.ledger import CHANGES_KEPT_S, MOST_TOLD, QUIET_KEPT_S, Ledger
from tests.unit.autoscale.test_explain import DECIDED


def at(at_s: float, api: str = "iris", changed: bool = True) -> ScaleDecision:
    return msgspec.structs.replace(
        DECIDED, api=api, at_s=at_s, before=4 if changed else 6, wanted=6
    )


async def test_decisions_are_found_again_newest_first(tmp_path: Path) -> None:
    async with Ledger(tmp_path / "ledger.db") as ledger:
        for second in range(5):
            ledger.add(at(100.0 + second))
            ledger.add(at(100.0 + second, api="other"))
    async with Ledger(tmp_path / "ledger.db") as again:
        found = await again.since("iris", 101.0, 103.0)
        assert [one.at_s for one in found] == [103.0, 102.0, 101.0]
        assert await again.at("iris", 102.5) == at(102.0)
        assert await again.at("iris", 99.0) is None
        assert await again.since("none", 0.0, 1000.0) == ()


async def test_what_changed_nothing_goes_after_a_day_and_the_rest_after_a_week(
    tmp_path: Path,
) -> None:
    now_s = 2 * CHANGES_KEPT_S
    async with Ledger(tmp_path / "ledger.db") as ledger:
        for age_s in (CHANGES_KEPT_S + 1.0, QUIET_KEPT_S + 1.0, 60.0):
            ledger.add(at(now_s - age_s))
            ledger.add(at(now_s - age_s, changed=False))
        ledger.add(at(now_s))
        found = await ledger.since("iris", 0.0, now_s)
    ages_s = [(round(now_s - one.at_s), one.before != one.wanted) for one in found]
    assert sorted(ages_s) == [(0, True), (60, False), (60, True), (86_401, True)]


async def test_answers_are_bounded(tmp_path: Path) -> None:
    async with Ledger(tmp_path / "ledger.db") as ledger:
        for second in range(MOST_TOLD + 10):
            ledger.add(at(float(second)))
        assert len(await ledger.since("iris", 0.0, 1e9, 10**9)) == MOST_TOLD


async def test_a_file_that_cannot_be_written_costs_no_decision(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "later"
    ledger = Ledger(blocked / "ledger.db")  # its folder is not there yet
    ledger.add(at(100.0))
    await ledger.flush()
    assert "decisions not kept yet" in caplog.text
    blocked.mkdir(mode=stat.S_IRWXU)
    async with ledger:
        assert await ledger.since("iris", 0.0, 200.0) == (at(100.0),)


async def test_a_damaged_row_is_left_out(tmp_path: Path) -> None:
    import sqlite3

    async with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.add(at(100.0))
        ledger.add(at(101.0))
        await ledger.flush()
        with sqlite3.connect(tmp_path / "ledger.db") as other:
            other.execute("UPDATE decisions SET body = x'00' WHERE at_s = 100.0")
        other.close()
        assert await ledger.since("iris", 0.0, 200.0) == (at(101.0),)
