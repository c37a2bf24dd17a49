"""The ledger on a real file: what is kept, for how long, and what a bad disk costs."""

import stat
from pathlib import Path

import msgspec
import pytest

from serai.decisions import ScaleDecision
from serai.recorded import TRAFFIC_KEPT_S, RecordedCount
from serai.report import DemandSlot
from serai_scheduler.ledger import (
    CHANGES_KEPT_S,
    MOST_TOLD,
    QUIET_KEPT_S,
    Ledger,
)
from tests.unit.autoscale.test_explain import DECIDED


def at(at_s: float, api: str = "iris", changed: bool = True) -> ScaleDecision:
    return msgspec.structs.replace(
        DECIDED, api=api, at_s=at_s, before=4 if changed else 6, wanted=6
    )


def slot(arrivals: int) -> DemandSlot:
    return DemandSlot(arrivals=arrivals, completions=arrivals, busy_s=0.5 * arrivals, peak=1)


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
    ledger.add_traffic([("iris", 12, slot(3))])
    await ledger.flush()
    assert "decisions and traffic not kept yet" in caplog.text
    blocked.mkdir(mode=stat.S_IRWXU)
    async with ledger:
        assert await ledger.since("iris", 0.0, 200.0) == (at(100.0),)
        assert (await ledger.recorded("iris", 0.0, 200.0)).slots == {12: slot(3)}


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


async def test_traffic_is_found_again_with_the_counts_that_stood(tmp_path: Path) -> None:
    async with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.add_traffic([("iris", 9, slot(1)), ("iris", 11, slot(4)), ("other", 10, slot(7))])
        ledger.add_traffic([("iris", 12, slot(5)), ("iris", 30, slot(8))])
        for at_s, wanted in ((80.0, 2), (95.0, 3), (110.0, 3), (130.0, 1)):
            ledger.add(msgspec.structs.replace(at(at_s), wanted=wanted))
    async with Ledger(tmp_path / "ledger.db") as again:
        found = await again.recorded("iris", 100.0, 200.0)
        assert found.slots == {11: slot(4), 12: slot(5)}
        start_up_s = DECIDED.start_up_s
        assert found.counts == (
            RecordedCount(at_s=95.0, wanted=3, start_up_s=start_up_s),
            RecordedCount(at_s=130.0, wanted=1, start_up_s=start_up_s),
        )
        assert (await again.recorded("none", 0.0, 200.0)).slots == {}


async def test_a_slot_that_is_told_again_never_becomes_less(tmp_path: Path) -> None:
    async with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.add_traffic([("iris", 11, slot(4))])
        await ledger.flush()
        ledger.add_traffic([("iris", 11, slot(2)), ("iris", 11, slot(3))])
        assert (await ledger.recorded("iris", 0.0, 200.0)).slots == {11: slot(4)}
        ledger.add_traffic([("iris", 11, slot(6))])
        assert (await ledger.recorded("iris", 0.0, 200.0)).slots == {11: slot(6)}


async def test_traffic_goes_after_a_week_and_the_oldest_of_too_much(tmp_path: Path) -> None:
    week = int(TRAFFIC_KEPT_S) // 10
    async with Ledger(tmp_path / "ledger.db", most_traffic_rows=3) as ledger:
        ledger.add_traffic(("iris", number, slot(1)) for number in (1, week, week + 5))
        assert set((await ledger.recorded("iris", 0.0, 1e9)).slots) == {week, week + 5}
    async with Ledger(tmp_path / "ledger.db", most_traffic_rows=3) as ledger:
        ledger.add_traffic(("iris", week + number, slot(1)) for number in range(6, 10))
        assert set((await ledger.recorded("iris", 0.0, 1e9)).slots) == {
            week + number for number in range(7, 10)
        }
