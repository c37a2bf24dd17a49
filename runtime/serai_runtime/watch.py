"""What the supervisor decides about its workers. Pure."""

import signal
from dataclasses import dataclass

BLOCKED_AFTER_S = 4.0
"""How long a serving event loop may be silent: found, reported and restarted within 5 s."""
BLOCKED_WHILE_LOADING_S = 120.0
"""Imports of large libraries hold the interpreter for long; only a stuck one takes this long."""
UNREADY_CRASHES_ALLOWED = 4
CRASH_WINDOW_S = 60.0
RESTART_DELAYS_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Seen:
    """One worker as the supervisor sees it; times are monotonic seconds."""

    serving: bool
    beat_at_s: float


@dataclass(frozen=True)
class Crash:
    """When a worker ended that was not told to, and whether it had become ready."""

    at_s: float
    was_ready: bool


def blocked(seen: Seen, now_s: float) -> bool:
    """Say whether a worker's event loop has stopped turning."""
    limit_s = BLOCKED_AFTER_S if seen.serving else BLOCKED_WHILE_LOADING_S
    return now_s - seen.beat_at_s > limit_s


def restart_delay_s(crashes: tuple[Crash, ...], now_s: float) -> float | None:
    """Return how long to wait before a worker starts again, or None to give up.

    One that never becomes ready is given up; one that serves and falls over now and then goes on,
    with pauses that grow.
    """
    recent = [crash for crash in crashes if now_s - crash.at_s < CRASH_WINDOW_S]
    unready = 0
    for crash in reversed(recent):
        if crash.was_ready:
            break
        unready += 1
    if unready > UNREADY_CRASHES_ALLOWED:
        return None
    return RESTART_DELAYS_S[min(max(len(recent) - 1, 0), len(RESTART_DELAYS_S) - 1)]


def signal_name(returncode: int) -> str | None:
    """Return the name of the signal that ended a process, or None when none did."""
    if returncode >= 0:
        return None
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


def ended_in_words(returncode: int, out_of_memory: bool) -> str:
    """Say how a process ended."""
    name = signal_name(returncode)
    if name is None:
        return f"exit code {returncode}"
    if out_of_memory:
        return f"killed by {name}: the system ran out of memory"
    if name == "SIGKILL":
        return f"killed by {name}, which nothing here sent: often a lack of memory"
    return f"killed by {name}"


def oom_kills(vmstat: str) -> int:
    """Return how many processes the system has killed for memory, from the text of /proc/vmstat."""
    for line in vmstat.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return int(value)
    return 0
