"""Hysteresis of readiness: when a server joins, leaves and returns."""

import pytest

from serai.readiness import Verdict
from serai_agent.local.health import Health, after, probe_period_s

MARKS = {"+": Verdict.READY, "-": Verdict.NOT_READY, "?": Verdict.SILENT, "x": Verdict.REFUSED}


def run(probes: str, failures: int = 3) -> str:
    """Return U or d for each probe: whether the server is up after it."""
    health, shown = Health(), ""
    for mark in probes:
        health = after(health, MARKS[mark], failures)
        shown += "U" if health.up else "d"
    return shown


@pytest.mark.parametrize(
    ("probes", "expected"),
    [
        ("+", "U"),
        ("xx-+", "dddU"),
        ("+--+", "UUUU"),
        ("+---", "UUUd"),
        ("+?-?", "UUUd"),
        ("+---+", "UUUdd"),
        ("+---++", "UUUddU"),
        ("+---+-+", "UUUdddd"),
        ("+x", "Ud"),
        ("+x++", "UddU"),
        ("+--+--", "UUUUUU"),
    ],
)
def test_up_and_down(probes: str, expected: str) -> None:
    assert run(probes) == expected


def test_one_failure_is_enough_when_one_is_allowed() -> None:
    assert run("+-", failures=1) == "Ud"


def test_a_new_or_doubtful_server_is_probed_more_often() -> None:
    up = after(Health(), Verdict.READY, 3)
    assert probe_period_s(up, 1.0, 100.0) == 1.0
    assert probe_period_s(after(up, Verdict.SILENT, 3), 1.0, 100.0) == 0.25
    assert probe_period_s(Health(), 1.0, 1.0) == 0.05
    assert probe_period_s(Health(), 0.01, 1.0) == 0.01
