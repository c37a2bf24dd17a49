"""What an answer of Prometheus is taken for: one number, or nothing and why."""

import json
from typing import Any

import pytest

from serai_scheduler.autoscale.metric.answers import MOST_BYTES, OLD_SAMPLE_S, Answer, read

NOW_S = 1_700_000_000.0
UP = {"__name__": "up", "job": "prometheus", "instance": "localhost:9090"}


def answered(result: Any, kind: str = "vector", status: int = 200, **more: Any) -> Answer:
    body = {"status": "success", "data": {"resultType": kind, "result": result}, **more}
    return read(status, json.dumps(body).encode(), NOW_S)


def vector(*values: Any, at_s: float = NOW_S) -> list[dict[str, Any]]:
    return [{"metric": UP | {"n": str(n)}, "value": [at_s, v]} for n, v in enumerate(values)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7900", 7900.0),
        ("0", 0.0),
        ("-0", 0.0),
        ("0.25", 0.25),
        ("1e+06", 1e6),
        ("1" + "0" * 308, 1e308),
        ("0." + "0" * 320 + "5", 5e-321),
    ],
)
def test_a_number_is_one(text: str, value: float) -> None:
    assert answered(vector(text)) == Answer(value)
    assert answered([NOW_S, text], "scalar") == Answer(value)
    assert answered(vector(text), warnings=["a part was away"], infos=["a counter?"]).value == value


@pytest.mark.parametrize(
    "text", ["NaN", "+Inf", "-Inf", "-1", "-0.001", "many", "", " 1", "1_000", "0x10", "1e999", "٣"]
)
def test_what_is_no_number_of_0_or_more_is_none(text: str) -> None:
    told = answered(vector(text))
    assert told.value is None and f"its value is {text.strip()}" in told.fault
    assert "no number of 0 or more" in told.fault and not told.invalid


@pytest.mark.parametrize(
    ("result", "kind", "words", "invalid"),
    [
        ([], "vector", "no sample for it", False),
        (vector("1", "2", "3"), "vector", "3 samples, where one number is asked for", False),
        ([{"metric": UP, "values": [[NOW_S, "1"]]}], "matrix", "such as rate()", True),
        ([NOW_S, "text"], "string", "the query gives a string", True),
        ([{"metric": UP, "histogram": [NOW_S, {"count": "1"}]}], "vector", "a histogram", False),
        (None, "vector", "no answer of a Prometheus", False),
        (vector(3), "vector", "no answer of a Prometheus", False),
        ([NOW_S], "scalar", "no answer of a Prometheus", False),
        ({}, "scalar", "no answer of a Prometheus", False),
    ],
)
def test_what_is_not_one_sample_is_none(result: Any, kind: str, words: str, invalid: bool) -> None:
    told = answered(result, kind)
    assert told.value is None and words in told.fault and told.invalid is invalid


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b"<html>a page</html>", "no answer of a Prometheus"),
        (200, b"", "no answer of a Prometheus"),
        (200, b"\xff\xfe", "no answer of a Prometheus"),
        (200, b"[" * 60_000, "no answer of a Prometheus"),
        (200, b'{"status":"success"}', "no answer of a Prometheus"),
        (200, b'{"status":"success","data":null}', "no answer of a Prometheus"),
        (404, b"not here", "no answer of a Prometheus (HTTP 404)"),
        (400, b"The plain HTTP request was sent to HTTPS port", "(HTTP 400)"),
        (302, b"", "sends on to another one"),
        (200, b" " * (MOST_BYTES + 1), "more than 64 KiB"),
        (
            503,
            b'{"status":"error","errorType":"timeout","error":"too\\nslow"}',
            "HTTP 503: too slow",
        ),
        (422, b'{"status":"error","errorType":"execution","error":"many to many"}', "many to many"),
        (200, b'{"status":"error","errorType":"internal","error":"x"}', "HTTP 200: x"),
    ],
)
def test_what_is_no_answer_is_told_and_refuses_no_deploy(
    status: int, body: bytes, words: str
) -> None:
    told = read(status, body, NOW_S)
    assert told.value is None and words in told.fault and not told.invalid


def test_only_what_prometheus_cannot_parse_is_invalid() -> None:
    body = {
        "status": "error",
        "errorType": "bad_data",
        "error": 'invalid parameter "query": 1:5: parse error: unclosed left parenthesis',
    }
    told = read(400, json.dumps(body).encode(), NOW_S)
    assert told.invalid and "unclosed left parenthesis" in told.fault
    long = read(400, json.dumps(body | {"error": "e\x1b" * 9000}).encode(), NOW_S)
    assert len(long.fault) < 400 and long.fault.isprintable()


def test_a_sample_of_long_ago_is_none_and_one_of_a_clock_ahead_is_new() -> None:
    old = answered(vector("5", at_s=NOW_S - OLD_SAMPLE_S - 1.0))
    assert old.value is None and "121 s old by the scheduler's clock" in old.fault
    assert answered(vector("5", at_s=NOW_S - OLD_SAMPLE_S + 1.0)).value == 5.0
    assert answered(vector("5", at_s=NOW_S + 9000.0)).value == 5.0
