"""The benchmarks' own arithmetic: a wrong reading there would be believed."""

import json
from pathlib import Path

import pytest

from bench.load import parse_wrk, post
from bench.report import Figure, Limit, at_least, at_most, exactly, finish, interleaved, ratio

WRK = """Running 2s test @ http://127.0.0.1:1/
  1 threads and 32 connections
  Latency Distribution
     50%  850.00us
     75%    1.61ms
     90%    2.00ms
     99%    1.20s
  38000 requests in 2.00s, 5.98MB read
  Socket errors: connect 1, read 2, write 3, timeout 4
  Non-2xx or 3xx responses: 12
Requests/sec:  19001.50
"""


def test_wrks_report_is_read() -> None:
    found = parse_wrk(WRK)
    assert (found.rate, found.p50_ms, found.p99_ms) == (19001.5, 0.85, 1200.0)
    assert found.errors == 22


@pytest.mark.parametrize(
    ("limit", "good", "bad"),
    [(at_most(2), 2.0, 2.1), (at_least(2), 2.0, 1.9), (exactly(0), 0, 1)],
)
def test_limits(limit: Limit, good: float, bad: float) -> None:
    assert limit.holds(good) and not limit.holds(bad)
    assert not limit.holds(None) and not limit.holds("did not run")


def test_the_last_line_is_the_result_and_it_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures: dict[str, Figure] = {"speed": 1.23456, "why": "did not run"}
    assert not finish("x", figures, {"speed": at_least(1), "why": at_most(1)}, tmp_path)
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["ok"] is False and last["figures"]["speed"] == 1.235
    assert last["limits"]["why"] == {"limit": "<= 1", "ok": False}
    (kept,) = tmp_path.glob("x-*.json")
    assert json.loads(kept.read_text())["machine"]["cores"] >= 1


def test_variants_take_turns_and_ratios_are_within_a_round() -> None:
    turns: list[str] = []

    def measure(name: str, value: float) -> float:
        turns.append(name)
        return value * len(turns)

    found = interleaved({"a": lambda: measure("a", 2), "b": lambda: measure("b", 1)}, 2)
    assert turns == ["a", "b", "b", "a"]
    assert ratio(found, "a", "b") == pytest.approx((2 / 2 + 8 / 3) / 2)


def test_a_request_says_when_it_is_the_last() -> None:
    assert b"Connection: close\r\n\r\n{}" in post("/", b"{}", last=True)
    assert b"Connection" not in post("/", b"{}")
