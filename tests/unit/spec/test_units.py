import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.units import Cpu, Duration, Size


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("10m", 600),
        ("1h30m", 5400),
        ("2d", 172800),
        (5, 5),
        (0.25, 0.25),
    ],
)
def test_durations_are_read(raw: object, seconds: float) -> None:
    assert Duration.parse(raw).seconds == seconds


@pytest.mark.parametrize(
    ("raw", "count"),
    [
        ("512Mi", 512 * 2**20),
        ("32MiB", 32 * 2**20),
        ("1G", 10**9),
        ("1.5Ki", 1536),
        (7, 7),
        ("7B", 7),
    ],
)
def test_sizes_are_read(raw: object, count: int) -> None:
    assert Size.parse(raw).bytes == count


@pytest.mark.parametrize(
    ("raw", "millicores"), [("200m", 200), ("2", 2000), (0.5, 500), (3, 3000), ("0.25", 250)]
)
def test_processor_time_is_read(raw: object, millicores: int) -> None:
    assert Cpu.parse(raw).millicores == millicores


@pytest.mark.parametrize("kind", [Duration, Size, Cpu])
@pytest.mark.parametrize(
    "raw",
    [
        "",
        "x",
        "-1",
        -1,
        True,
        None,
        [],
        float("inf"),
        float("nan"),
        10**40,
        "9" * 400,
        "1e3",
        "٣s",
        "3 s",
    ],
)
def test_anything_else_is_refused(
    kind: type[Duration] | type[Size] | type[Cpu], raw: object
) -> None:
    with pytest.raises(ValueError, match="expected"):
        kind.parse(raw)


@given(st.integers(0, 10**15))
def test_durations_come_back_as_they_were(microseconds: int) -> None:
    duration = Duration.parse(microseconds / 1_000_000)
    assert Duration.parse(str(duration)) == duration


@given(st.integers(0, 2**60))
def test_sizes_come_back_as_they_were(count: int) -> None:
    assert Size.parse(str(Size(count))) == Size(count)


@given(st.integers(0, 10**9))
def test_processor_time_comes_back_as_it_was(millicores: int) -> None:
    assert Cpu.parse(str(Cpu(millicores))) == Cpu(millicores)


def test_quantities_are_values() -> None:
    assert Size(1) == Size(1) != Cpu(1)
    assert Size(1) < Size(2) <= Size(2)
    assert len({Duration(1), Duration(1.0), Size(1)}) == 2
    assert copy.deepcopy(Size(3)) == pickle.loads(pickle.dumps(Size(3))) == Size(3)
    with pytest.raises(AttributeError):
        Size(1).bytes = 2  # type: ignore[misc]
