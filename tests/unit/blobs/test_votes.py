"""When a majority of the schedulers holds a blob: of all, whether they live or not."""

from itertools import product

import pytest

from serai.model import digest_of
from serai_scheduler.blobs.votes import is_settled, majority_of, tally, too_few, turns


@pytest.mark.parametrize(
    ("total", "least"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)]
)
def test_a_majority_is_of_all(total: int, least: int) -> None:
    assert majority_of(total) == least
    assert 2 * least > total, "any two of them have one in common"


@pytest.mark.parametrize("total", range(1, 8))
def test_it_is_settled_when_no_answer_to_come_changes_it(total: int) -> None:
    least = majority_of(total)
    for done in range(total + 1):
        for failed in range(total + 1 - done):
            left = total - done - failed
            outcomes = {done + more >= least for more in range(left + 1)}
            assert is_settled(done, failed, total) is (len(outcomes) == 1)


def test_one_alone_is_a_majority() -> None:
    assert tally(["a", "b"], [{"a"}], 0, 1) == (frozenset("a"), True)


@pytest.mark.parametrize(
    ("answers", "awaited", "held", "settled"),
    [
        ([{"a", "b"}], 2, "", False),
        ([{"a", "b"}, {"a"}], 1, "a", False),  # the third may have b
        ([{"a", "b"}, {"a", "b"}], 1, "ab", True),
        ([set(), set()], 1, "", True),
        ([{"a", "b"}, {"a"}], 0, "a", True),
        ([{"a"}], 0, "", True),
        ([set()], 1, "", False),  # nothing can be held, but a majority has yet to hear of the use
        ([{"c"}, {"c"}], 0, "", True),  # which nobody asked about
    ],
)
def test_held_is_what_a_majority_of_three_has(
    answers: list[set[str]], awaited: int, held: str, settled: bool
) -> None:
    assert tally(["a", "b"], answers, awaited, 3) == (frozenset(held), settled)


@pytest.mark.parametrize("total", [3, 4, 5])
def test_answers_to_come_change_nothing_that_is_settled(total: int) -> None:
    for holds in product((True, False), repeat=total):
        answers = [{"a"} if one else set() for one in holds]
        for heard in range(1, total + 1):
            early = tally(["a"], answers[:heard], total - heard, total)
            if early.settled:
                assert early.held == tally(["a"], answers, 0, total).held


def test_who_is_asked_first_is_spread_and_who_is_away_comes_last() -> None:
    urls = ["one", "two", "three"]
    firsts = {turns(urls, digest_of(bytes([n])), ())[0] for n in range(50)}
    assert firsts == set(urls)
    for number in range(50):
        found = turns(urls, digest_of(bytes([number])), {"two"})
        assert sorted(found) == sorted(urls) and found[-1] == "two"
    assert turns([], digest_of(b""), ()) == []


def test_a_refusal_names_each_reason_once_and_a_way_out() -> None:
    told = too_few("store the upload", 1, 3, ["s2: refused", "s3: no route", "s2: refused"])
    assert told.startswith("1 of 3 schedulers can store the upload, 2 are needed: s2: refused; s3:")
    assert told.count("s2: refused") == 1
    assert "deploy again" in told and "`peers`" in told and "what runs goes on" in told
