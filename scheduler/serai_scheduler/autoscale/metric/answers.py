"""What Prometheus answers to an instant query: one number, or why there is none. Pure.

The format is that of https://prometheus.io/docs/prometheus/latest/querying/api.
"""

import math
import re
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from serai import wire
from serai.errors import ConfigError
from serai_scheduler.autoscale.own.answers import shortened

MOST_BYTES = 65_536
"""One number with the labels of its series needs some hundred."""
OLD_SAMPLE_S = 120.0
"""Prometheus takes the time at which it answers: an older one comes out of a cache, or the clocks
of both machines are so far apart. One ahead of the own clock is as good as new."""
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_LONGEST_NUMBER = 2_000
"""Prometheus writes all digits of the smallest numbers, without an exponent."""

Sample = tuple[float, str]
"""A time in seconds since 1970, and a number as text."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A value of 0 or more, or None and why; `invalid` if the query can never have one."""

    value: float | None
    fault: str = ""
    invalid: bool = False


class _Data(msgspec.Struct, rename="camel"):
    result_type: str
    result: msgspec.Raw


class _Body(msgspec.Struct, rename="camel"):
    status: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    error_type: str = ""
    error: str = ""


class _Series(msgspec.Struct):
    """A series without `value` has a histogram in its place."""

    value: Sample | None = None


def read(status: int, body: bytes, wall_s: float) -> Answer:
    """Return what an answer with this HTTP status means at `wall_s`; no body is an error here."""
    if len(body) > MOST_BYTES:
        return Answer(
            None,
            f"Prometheus answered more than {MOST_BYTES // 1024} KiB, where one number is asked "
            "for: the query gives many series; wrap it in sum() or max()",
        )
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return Answer(
            None,
            f"its address answered HTTP {status}, which sends on to another one; that is not "
            "followed: name the other one as `prometheus`",
        )
    try:
        told = wire.decode(body, _Body)
        if told.status != "success" or status != HTTPStatus.OK:
            return _refused(status, told)
        data = wire.decode(bytes(told.data), _Data)
        return _number_in(data, wall_s)
    except ConfigError:
        code = "" if status == HTTPStatus.OK else f" (HTTP {status})"
        return Answer(None, f"what its address answered is no answer of a Prometheus{code}")


def _refused(status: int, told: _Body) -> Answer:
    why = shortened(told.error) or "it says no more"
    invalid = status == HTTPStatus.BAD_REQUEST and told.error_type == "bad_data"
    return Answer(None, f"Prometheus answered HTTP {status}: {why}", invalid)


def _number_in(data: _Data, wall_s: float) -> Answer:
    """Return the only number of a result; raises ConfigError for what has another form."""
    if data.result_type == "scalar":
        return _judged(wire.decode(bytes(data.result), Sample), wall_s)  # type: ignore[arg-type]
    if data.result_type == "vector":
        series = wire.decode(bytes(data.result), list[_Series])
        if not series:
            return Answer(
                None,
                "Prometheus has no sample for it: nothing of that name has come in of late, or "
                "the query leaves everything out",
            )
        if len(series) > 1:
            return Answer(
                None,
                f"Prometheus gave {len(series)} samples, where one number is asked for: wrap the "
                "query in sum() or max()",
            )
        if series[0].value is None:
            return Answer(None, "Prometheus gave a histogram, where one number is asked for")
        return _judged(series[0].value, wall_s)
    if data.result_type == "matrix":
        return Answer(
            None,
            "the query gives a range of samples, where one number is asked for: take a function "
            "of the range, such as rate() or max_over_time()",
            invalid=True,
        )
    told = shortened(data.result_type)
    return Answer(None, f"the query gives a {told}, where one number is asked for", invalid=True)


def _judged(sample: Sample, wall_s: float) -> Answer:
    at_s, text = sample
    value = _value_of(text)
    if value is None:
        return Answer(None, f"its value is {shortened(text)}, which is no number of 0 or more")
    if wall_s - at_s > OLD_SAMPLE_S:
        return Answer(
            None,
            f"its sample is {wall_s - at_s:.0f} s old by the scheduler's clock: something between "
            "answers what it has kept, or the clocks of the two machines differ",
        )
    return Answer(value)


def _value_of(text: str) -> float | None:
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return abs(value) if math.isfinite(value) and value >= 0.0 else None


def unanswered(why: str) -> Answer:
    """Return that nothing was answered, and why."""
    return Answer(None, shortened(why))
