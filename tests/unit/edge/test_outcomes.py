"""Lines of the log become sums; what is lost or damaged is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.report import LATENCY_BOUNDS_MS
from serai_agent.edge import outcomes
from serai_agent.edge.outcomes import (
    CLIENT_GONE,
    KEPT_WORKERS,
    LINE_STANDS_FOR,
    MOST_KEYS,
    Outcomes,
)


def line(number: int = 0, pid: int = 7, **changes: object) -> bytes:
    fields = {
        "api": "iris",
        "version": "v1",
        "status": 200,
        "ms": 12,
        "state": "--",
        "received": 100,
        "sent": 900,
        "refused": "-",
        "turn": "-",
    }
    return "|".join(str(v) for v in [*{**fields, **changes}.values(), number, pid]).encode()


def test_a_line_counts_in_its_class_bucket_and_bytes() -> None:
    sums = Outcomes()
    sums.add(line())
    sums.add(line(1, status=404, ms=1))
    sums.add(line(2, status=502, ms=700_000))
    found = sums.sums["iris", "v1"]
    assert found.outcomes == [0, 1, 0, 1, 1, 0]
    assert found.buckets[LATENCY_BOUNDS_MS.index(15)] == 1
    assert found.buckets[0] == 1 and found.buckets[-1] == 1
    assert (found.completions, found.bytes_in, found.bytes_out) == (3, 300, 2700)
    assert found.latency_sum_ms == 12 + 1 + 700_000


def test_a_line_at_its_turn_stands_for_the_successes_beside_it_and_an_error_for_itself() -> None:
    sums = Outcomes()
    sums.add(line(0, turn=0))
    sums.add(line(1, turn=0, status=500))
    sums.add(line(2, turn=5, status=500))
    found = sums.sums["iris", "v1"]
    many = LINE_STANDS_FOR
    assert found.outcomes == [0, many, 0, 0, 2, 0]
    assert (found.completions, sum(found.buckets)) == (many + 2, many + 2)
    assert (found.bytes_in, found.latency_sum_ms) == (100 * (many + 2), 12 * (many + 2))
    assert (sums.lines, sums.lost) == (3, 0)


@pytest.mark.parametrize(
    "ended",
    [
        {"status": 429, "refused": "queue"},
        {"status": 429, "state": "PR", "refused": "queue"},
        {"status": 413, "state": "LR", "refused": "body"},
        {"status": 503, "state": "LR", "refused": "hold"},
        {"status": 503, "state": "SC", "refused": "left"},
        {"status": 503, "state": "sQ"},
        {"status": 503, "state": "CQ"},
        {"status": 503, "state": "SC"},
        {"status": 408, "state": "cR"},
    ],
)
def test_what_reached_no_replica_is_no_completion(ended: dict[str, object]) -> None:
    """Its 0 seconds of service would make the mean time of service fall with every refusal."""
    sums = Outcomes()
    sums.add(line(0, ms=40))
    sums.add(line(1, 7, ms=30_000, **ended))
    found = sums.sums["iris", "v1"]
    assert (found.completions, found.refused) == (1, 1)
    assert sum(found.outcomes) == sum(found.buckets) == 2


@pytest.mark.parametrize("state", ["--", "CD", "cD", "SD", "sD", "LD", "SH", "sH", "CH", "CL", ""])
def test_what_ran_on_a_replica_is_a_completion_however_it_ended(state: str) -> None:
    sums = Outcomes()
    sums.add(line(status=504, state=state))
    assert (sums.sums["iris", "v1"].completions, sums.sums["iris", "v1"].refused) == (1, 0)


def test_clients_that_went_away_are_counted_apart() -> None:
    sums = Outcomes()
    for number, (status, state) in enumerate(((200, "CD"), (-1, "--"), (0, "CR"), (200, "cD"))):
        sums.add(line(number, status=status, state=state))
    assert sums.sums["iris", "v1"].outcomes[CLIENT_GONE] == 4


def test_a_client_that_left_while_held_is_gone() -> None:
    sums = Outcomes()
    sums.add(line(status=503, state="SC", refused="left"))
    found = sums.sums["iris", "v1"]
    assert found.outcomes[CLIENT_GONE] == 1 and found.refused == 1


def test_an_answer_that_the_server_cut_short_is_a_failure() -> None:
    sums = Outcomes()
    sums.add(line(0, state="SD"))
    sums.add(line(1, state="sD"))
    sums.add(line(2, state="LD"))
    assert sums.sums["iris", "v1"].outcomes == [0, 1, 0, 0, 2, 0]


def test_requests_without_an_answer_are_failures_once_the_number_has_settled() -> None:
    sums = Outcomes()
    owners = {"slot_1": ("iris", "v1")}
    told = []
    for now in (7, 8, 7, 7, 9, 9, 9, 9, 4, 4, 5, 5, 5):  # a worker with 5 of them ended: 9 to 4
        sums.add_unanswered({"slot_1": now, "free": now}, owners, pid=7)
        told.append(sums.sums_of("iris", "v1").outcomes[4])
    assert told == [0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 3]
    assert sums.sums_of("iris", "v1").completions == 3
    assert list(sums.sums) == [("iris", "v1")]


def test_a_path_that_nobody_has_counts_for_no_api() -> None:
    sums = Outcomes()
    sums.add(line(api="-", version="-", status=404))
    assert not sums.sums and sums.lines == 1


def test_gaps_in_the_numbers_are_lost_lines_whatever_the_order() -> None:
    sums = Outcomes()
    for number in (5, 3, 4, 9):  # 6, 7 and 8 never came
        sums.add(line(number))
    for number in (0, 1):  # another worker counts for itself
        sums.add(line(number, pid=8))
    assert sums.lost == 3


@given(st.permutations(range(30)), st.sets(st.integers(1, 28)))
def test_what_is_left_out_is_what_is_lost(order: list[int], left_out: set[int]) -> None:
    sums = Outcomes()
    for number in order:
        if number not in left_out:
            sums.add(line(number))
    assert sums.lost == len(left_out)


@given(st.binary(max_size=200))
def test_no_bytes_break_it(data: bytes) -> None:
    sums = Outcomes()
    sums.add(data)
    sums.add(line())
    assert sums.sums["iris", "v1"].completions >= 1


def test_damaged_lines_are_told_and_count_nowhere() -> None:
    sums = Outcomes()
    sums.add(line(status="what"))
    sums.add(b"iris|v1|200")
    sums.add(line(ms="soon"))
    sums.add(line(ms="nan"))
    sums.add(line(sent=10**40))
    assert sums.damaged == 5 and sums.lost == 5
    assert not any(found.completions for found in sums.sums.values())


def test_a_notice_of_haproxy_is_no_request() -> None:
    sums = Outcomes()
    sums.add(b"Server slot_030_0/iris.v1.1.0 is UP")
    assert (sums.lines, sums.lost) == (0, 0)


def test_many_reloads_keep_the_count_of_what_was_lost() -> None:
    sums = Outcomes()
    for pid in range(3 * KEPT_WORKERS):
        sums.add(line(0, pid))
        sums.add(line(2, pid))
    assert sums.lost == 3 * KEPT_WORKERS


def test_memory_is_bounded_without_forgetting_what_is_in_use() -> None:
    sums = Outcomes()
    for number in range(MOST_KEYS + 50):
        sums.add(line(number, api=f"api{number}"))
    sums.keep({("api0", "v1")})
    assert len(sums.sums) == MOST_KEYS
    assert ("api0", "v1") in sums.sums and ("api1", "v1") not in sums.sums
    assert outcomes.FIELDS == 11
