"""What the supervisor decides."""

import pytest

from serai_runtime.watch import (
    Crash,
    Seen,
    blocked,
    ended_in_words,
    oom_kills,
    restart_delay_s,
    signal_name,
)


@pytest.mark.parametrize(
    ("serving", "silent_s", "verdict"),
    [(True, 3.9, False), (True, 4.1, True), (False, 60.0, False), (False, 121.0, True)],
)
def test_a_silent_loop_is_blocked_sooner_when_it_serves(
    serving: bool, silent_s: float, verdict: bool
) -> None:
    assert blocked(Seen(serving, beat_at_s=100.0), 100.0 + silent_s) is verdict


def crashes(*rows: tuple[float, bool]) -> tuple[Crash, ...]:
    return tuple(Crash(at_s, was_ready) for at_s, was_ready in rows)


def test_pauses_grow_and_old_crashes_are_forgotten() -> None:
    assert restart_delay_s(crashes((0, True)), 0) == 0.0
    assert restart_delay_s(crashes((0, True), (1, True), (2, True)), 2) == 1.0
    assert restart_delay_s(crashes((0, True), (1, True), (90, True)), 90) == 0.0


def test_what_never_becomes_ready_is_given_up_after_five_times() -> None:
    assert restart_delay_s(crashes(*((n, False) for n in range(4))), 4) is not None
    assert restart_delay_s(crashes(*((n, False) for n in range(5))), 5) is None


def test_what_serves_and_falls_over_is_never_given_up() -> None:
    assert restart_delay_s(crashes(*((n, True) for n in range(20))), 20) == 8.0
    mixed = crashes(*((n, False) for n in range(4)), (5, True), (6, False))
    assert restart_delay_s(mixed, 7) is not None


@pytest.mark.parametrize(
    ("status", "out_of_memory", "words"),
    [
        (7, False, "exit code 7"),
        (-11, False, "killed by SIGSEGV"),
        (-9, False, "killed by SIGKILL, which nothing here sent: often a lack of memory"),
        (-9, True, "killed by SIGKILL: the system ran out of memory"),
        (-200, False, "killed by signal 200"),
    ],
)
def test_how_a_process_ended(status: int, out_of_memory: bool, words: str) -> None:
    assert ended_in_words(status, out_of_memory) == words


def test_signal_names() -> None:
    assert (signal_name(0), signal_name(-15), signal_name(-200)) == (None, "SIGTERM", "signal 200")


def test_oom_kills_are_read_from_vmstat() -> None:
    assert oom_kills("pgfault 12\noom_kill 3\nother 4\n") == 3
    assert oom_kills("pgfault 12\n") == 0
