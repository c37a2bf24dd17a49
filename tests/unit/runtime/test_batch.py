"""When a batch goes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai_runtime.batch import BatchLimits, batch_size

LIMITS = BatchLimits(max_size=4, max_wait_s=0.005, parallel=1)
TWO = BatchLimits(max_size=4, max_wait_s=0.005, parallel=2)


@pytest.mark.parametrize(
    ("waiting", "waited_s", "running", "limits", "goes"),
    [
        (0, 0.0, 0, LIMITS, 0),
        (1, 0.0, 0, LIMITS, 1),  # a lone request waits for nobody
        (3, 0.0, 0, LIMITS, 3),
        (9, 0.0, 0, LIMITS, 4),
        (4, 1.0, 1, LIMITS, 0),  # no room to run
        (1, 0.004, 1, TWO, 0),  # gathers while the other one runs
        (1, 0.005, 1, TWO, 1),
        (4, 0.0, 1, TWO, 4),
        (4, 9.0, 2, TWO, 0),
    ],
)
def test_how_many_go(
    waiting: int, waited_s: float, running: int, limits: BatchLimits, goes: int
) -> None:
    assert batch_size(waiting, waited_s, running, limits) == goes


@given(
    waiting=st.integers(0, 100),
    waited_s=st.floats(0, 10),
    running=st.integers(0, 5),
    size=st.integers(1, 32),
    parallel=st.integers(1, 4),
)
def test_never_too_many_and_never_stuck(
    waiting: int, waited_s: float, running: int, size: int, parallel: int
) -> None:
    limits = BatchLimits(size, 0.005, parallel)
    goes = batch_size(waiting, waited_s, running, limits)
    assert 0 <= goes <= min(waiting, size)
    if running >= parallel:
        assert goes == 0
    elif waiting and (running == 0 or waited_s >= limits.max_wait_s):
        assert goes > 0
