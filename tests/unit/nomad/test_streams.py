"""The lines of a task as Nomad keeps them."""

import pytest

from serai_scheduler.nomad.client import NomadClient, NomadSettings
from serai_scheduler.nomad.streams import MOST_TEXT_BYTES, Stream

STREAM = Stream("r", "v", "allocation", "stderr", 1.0, NomadClient(NomadSettings()))


def test_the_runtimes_lines_tell_their_time() -> None:
    line = STREAM.parse(b'{"at": "2026-11-27T00:00:01.500+00:00", "event": "ready"}', 7.0)
    assert line is not None and (line.at_s, line.stream) == (1795737601.5, "err")
    assert line.text.endswith('"event": "ready"}')


@pytest.mark.parametrize(
    "raw",
    [
        b"plain",
        b"",
        b'{"at": "yesterday"}',
        b'{"at": 5}',
        b'{"at"',
        b"[]",
        b'{"at": ' + b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_other_lines_have_the_time_that_they_are_given(raw: bytes) -> None:
    line = STREAM.parse(raw, 7.0)
    assert line is not None and line.at_s == 7.0


def test_a_long_line_is_cut() -> None:
    line = STREAM.parse(b"x" * (MOST_TEXT_BYTES + 1), 7.0)
    assert line is not None and len(line.text) == MOST_TEXT_BYTES
