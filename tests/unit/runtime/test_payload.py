"""From bodies to payloads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai_runtime.errors import BodyError
from serai_runtime.payload import gathered, read


@pytest.mark.parametrize(
    ("body", "kind", "payload"),
    [
        (b'{"a": 1}', "application/json", {"a": 1}),
        (b"[1, 2]", "Application/JSON; charset=utf-8", [1, 2]),
        (b'{"a": 1}', "application/problem+json", {"a": 1}),
        (b"a=1&b=2&a=3", "application/x-www-form-urlencoded", {"a": ["1", "3"], "b": "2"}),
        (b"a=&b=%C3%A9", "application/x-www-form-urlencoded", {"a": "", "b": "é"}),
        (b"", "application/x-www-form-urlencoded", {}),
        ("grün".encode(), "text/plain", "grün"),
        ("grün".encode("latin-1"), "text/plain; charset=ISO-8859-1", "grün"),
        (b"\x00\xff", "application/octet-stream", b"\x00\xff"),
        (b"\x89PNG", "image/png", b"\x89PNG"),
        (b"{}", "application/octet-stream", b"{}"),
        (b'{"a": 1}', "", {"a": 1}),
        (b"\xff\xfe", "", b"\xff\xfe"),
        (b'{"a": "\xff"}', "", b'{"a": "\xff"}'),
        (b"", "", None),
    ],
)
def test_what_is_read(body: bytes, kind: str, payload: object) -> None:
    assert read(body, kind) == payload


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"{", "application/json", "not valid JSON: Input data was truncated"),
        (b'{"a": "\xff"}', "application/json", "not valid JSON: 'utf-8' codec"),
        (b"", "application/json", "empty, but its content type says JSON"),
        (b"[" * 100_000, "application/json", "nested too deeply"),
        (b'{"a": 1}', "application/x-www-form-urlencoded", "say so with Content-Type"),
        (b"a=\xff", "application/x-www-form-urlencoded", "not a valid form"),
        (b"\xff", "text/plain", "not utf-8 text"),
        (b"x", "text/plain; charset=klingon", "not klingon text"),
        (b"x", "text/plain; charset=undefined", "not undefined text"),
    ],
)
def test_why_a_body_is_not_read(body: bytes, kind: str, reason: str) -> None:
    with pytest.raises(BodyError, match=reason):
        read(body, kind)


@given(st.binary(max_size=200), st.sampled_from(["", "application/json", "text/plain", "x/y"]))
def test_any_bytes_are_read_or_refused(body: bytes, kind: str) -> None:
    try:
        read(body, kind)
    except BodyError as error:
        assert str(error)


def test_a_name_that_comes_again_has_a_list_even_of_lists() -> None:
    assert gathered([("a", [1]), ("a", [2]), ("b", 3)]) == {"a": [[1], [2]], "b": 3}
