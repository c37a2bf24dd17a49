"""From results to bodies."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai_runtime.answer import (
    NotSerialisable,
    body_of,
    chunk_of,
    error_body,
    event_of,
    stream_type,
    to_json,
)


class Scalar:
    """What a numpy value looks like from outside: its module's name and `tolist`."""

    def __init__(self, value: object) -> None:
        self._value = value

    def tolist(self) -> object:
        return self._value


Scalar.__module__ = "numpy"


@pytest.mark.parametrize(
    ("result", "body", "kind"),
    [
        (b"\x00", b"\x00", "application/octet-stream"),
        (bytearray(b"ab"), b"ab", "application/octet-stream"),
        (memoryview(b"ab"), b"ab", "application/octet-stream"),
        ("grün", "grün".encode(), "text/plain; charset=utf-8"),
        ({"a": [1, None, True]}, b'{"a":[1,null,true]}', "application/json"),
        (None, b"null", "application/json"),
        ({1: 2}, b'{"1":2}', "application/json"),
        ({"when": datetime(2026, 1, 2, tzinfo=UTC)}, b'{"when":"2026-01-02T00:00:00Z"}', None),
        ({"set": {1}}, b'{"set":[1]}', "application/json"),
        ({"big": 2**70}, b'{"big":1180591620717411303424}', "application/json"),
        ({"n": Scalar(1.5), "m": [Scalar([[1], [2]])]}, b'{"n":1.5,"m":[[[1],[2]]]}', None),
        (Scalar(3), b"3", "application/json"),
        ({"nan": float("nan")}, b'{"nan":null}', "application/json"),
        ({True: datetime(2026, 1, 2, tzinfo=UTC)}, b'{"true": "2026-01-02T00:00:00Z"}', None),
        ({True: Scalar([float("inf")]), Scalar(3): {1}}, b'{"true": [null], "3": [1]}', None),
    ],
)
def test_what_is_sent(result: object, body: bytes, kind: str | None) -> None:
    assert body_of(result) == (body, kind or "application/json")


class Strange:
    pass


@pytest.mark.parametrize("result", [Strange(), {"a": Strange()}, [{"deep": Strange()}], print])
def test_what_cannot_be_sent_is_named(result: object) -> None:
    with pytest.raises(NotSerialisable, match=r"Strange|builtin"):
        body_of(result)


def test_a_value_that_holds_itself_is_refused() -> None:
    ring: list[object] = []
    ring.append(ring)
    with pytest.raises(NotSerialisable):
        to_json(ring)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values)
def test_json_comes_back_as_it_was(value: object) -> None:
    assert json.loads(to_json(value)) == value


@pytest.mark.parametrize(
    ("item", "event"),
    [
        ("hello", b"data: hello\n\n"),
        ("two\nlines", b"data: two\ndata: lines\n\n"),
        ("carriage\r\nreturn\rs", b"data: carriage\ndata: return\ndata: s\n\n"),
        ("", b"data: \n\n"),
        ({"token": "a\nb"}, b'data: {"token":"a\\nb"}\n\n'),
        (b"raw", b"data: raw\n\n"),
        (7, b"data: 7\n\n"),
    ],
)
def test_events(item: object, event: bytes) -> None:
    assert event_of(item) == event


def test_chunks_and_their_content_type() -> None:
    assert (chunk_of("a"), stream_type("a")) == (b"a", "text/plain; charset=utf-8")
    assert (chunk_of(b"a"), stream_type(b"a")) == (b"a", "application/octet-stream")
    assert (chunk_of({"a": 1}), stream_type({})) == (b'{"a":1}\n', "application/x-ndjson")


def test_an_error_body_is_json_whatever_the_message() -> None:
    body = json.loads(error_body("bad", 'quote " and \n', "id-1"))
    assert body == {"error": {"code": "bad", "message": 'quote " and \n', "request_id": "id-1"}}


def test_a_number_that_python_has_no_kind_for_becomes_a_float() -> None:
    class Long:
        def tolist(self) -> "Long":
            return self

        def __float__(self) -> float:
            return 0.5

    Long.__module__ = "numpy"
    assert to_json({"a": Long()}) == b'{"a":0.5}'
