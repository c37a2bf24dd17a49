"""Old, future, broken and outsized reports are refused, each with its code."""

import json
from typing import Any

import msgspec
import pytest

from serai import wire
from serai.errors import Refused
from serai.report import MAX_REPORT_BYTES, REPORT_VERSION, NodeReport
from serai.report_accept import Last, accept, newest
from serai_agent.report.beat import assemble
from tests.unit.report.parts import WHO, parts


def nobody(node: str) -> Last | None:
    """Say of any node that nothing was heard of it."""
    return None


REPORT = assemble(WHO, 7, 2000.0, parts()).report


def raw(**changes: Any) -> bytes:
    body = json.loads(wire.encode(REPORT))
    body.update(changes)
    return json.dumps({key: value for key, value in body.items() if value != "absent"}).encode()


def code_of(data: bytes, last: dict[str, Last] | None = None) -> str:
    with pytest.raises(Refused) as refused:
        accept(data, (last or {}).get)
    assert str(refused.value)
    return refused.value.code


def test_a_first_report_is_taken_whole() -> None:
    assert accept(wire.encode(REPORT), nobody) == REPORT
    assert newest(REPORT) == (1000.0, 7)


@pytest.mark.parametrize(
    ("last", "taken"),
    [
        ((1000.0, 6), True),
        ((1000.0, 7), False),
        ((1000.0, 8), False),
        ((999.0, 5000), True),
        ((1000.5, 0), False),
    ],
)
def test_only_newer_reports_are_taken(last: Last, taken: bool) -> None:
    if taken:
        assert accept(wire.encode(REPORT), {"n1": last}.get) == REPORT
    else:
        assert code_of(wire.encode(REPORT), {"n1": last}) == "report_old"


def test_two_agents_of_one_name_are_told_so() -> None:
    """The one that was started first is never heard again: its operator has only these words."""
    with pytest.raises(Refused, match="two agents have the same `node`"):
        accept(wire.encode(REPORT), {"n1": (1000.5, 0)}.get)


def test_another_node_does_not_matter() -> None:
    assert accept(wire.encode(REPORT), {"n2": (9999.0, 9)}.get) == REPORT


@pytest.mark.parametrize(
    ("version", "side"),
    [(REPORT_VERSION - 1, "agent"), (REPORT_VERSION + 1, "scheduler"), (99, "scheduler")],
)
def test_a_report_of_another_version_is_refused_though_its_fields_are_unknown(
    version: int, side: str
) -> None:
    data = raw(report_version=version, a_new_field={"x": 1}, cpu_count="absent")
    assert code_of(data) == "report_version"
    with pytest.raises(Refused, match=f"upgrade the {side}"):
        accept(data, nobody)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        b'{"report_version": "1"}',
        b'{"report_version": %d}' % REPORT_VERSION,
        raw(surprise=1),
        raw(node="absent"),
        raw(node=""),
        raw(node="n" * 257),
        raw(sequence=-1),
        raw(sequence=1.5),
        raw(started_at_s=-1.0),
        raw(cpu_count=0),
        raw(cpu_count=None),
        raw(gpus={"readings": [{"uuid": "x", "index": 0, "name": "y"}] * 65}),
        wire.encode(REPORT)[:-5],
        wire.encode(REPORT) + b"{}",
    ],
)
def test_what_is_not_a_report_is_refused(data: bytes) -> None:
    assert code_of(data) == "report_invalid"


def test_a_report_above_the_limit_is_refused_unread() -> None:
    assert code_of(b" " * (MAX_REPORT_BYTES + 1)) == "report_too_big"


def test_the_limit_itself_is_within() -> None:
    body = wire.encode(REPORT)
    assert accept(body + b" " * (MAX_REPORT_BYTES - len(body)), nobody) == REPORT


def test_the_next_report_of_a_run_follows() -> None:
    last = {REPORT.node: newest(REPORT)}
    following: NodeReport = msgspec.structs.replace(REPORT, sequence=8)
    assert accept(wire.encode(following), last.get) == following


@pytest.mark.parametrize(
    "version",
    [
        {"latency_buckets": [1, 2, 3]},
        {"latency_buckets": [0] * 30 + [-1]},
        {"in_flight": -1},
        {"outcomes": [0, 2**63, 0, 0, 0, 0]},
    ],
)
def test_counts_that_cannot_be_added_up_are_refused(version: dict[str, Any]) -> None:
    gateway = {"run": "r", "ready": True, "versions": [{"api": "a", "version": "v", **version}]}
    assert code_of(raw(gateway=gateway)) == "report_invalid"


def test_what_is_nested_too_deep_is_no_report() -> None:
    deep = b"[" * 10_000 + b"]" * 10_000
    assert code_of(raw()[:-1] + b',"more":' + deep + b"}") == "report_invalid"
