"""What the supervisor decides about its workers. Pure."""

from dataclasses import dataclass

BLOCKED_AFTER_S = 4.0
"""How long a serving event loop may be silent: found, reported and restarted within 5 s."""
BLOCKED_WHILE_LOADING_S = 120.0
"""Imports of large libraries hold the interpreter for long; only a stuck one takes this long."""
CRASHES_ALLOWED = 5
CRASH_WINDOW_S = 60.0
RESTART_DELAYS_S = (0.0, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Seen:
    """One worker as the supervisor sees it; times are monotonic seconds."""

    serving: bool
    beat_at_s: float


def blocked(seen: Seen, now_s: float) -> bool:
    """Say whether a worker's event loop has stopped turning."""
    limit_s = BLOCKED_AFTER_S if seen.serving else BLOCKED_WHILE_LOADING_S
    return now_s - seen.beat_at_s > limit_s


def restart_delay_s(crashes_at_s: tuple[float, ...], now_s: float) -> float | None:
    """Return how long to wait before a worker starts again, or None to give up."""
    recent = [at for at in crashes_at_s if now_s - at < CRASH_WINDOW_S]
    if len(recent) > CRASHES_ALLOWED:
        return None
    return RESTART_DELAYS_S[min(max(len(recent) - 1, 0), len(RESTART_DELAYS_S) - 1)]
