"""What somebody changed by hand at the door that all requests come through. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

PUBLIC = "public"
SHUT_DOWN = "STOP"
PAUSED = "PAUSED"
RATE_LIMITS = {"connections": "ConnRateLimit", "sessions": "SessRateLimit"}


@dataclass(frozen=True)
class Front:
    """The public frontend, and the limits of the whole process; a rate limit of 0 is none.

    `hard_maxconn` is what the process began with; more it does not take.
    """

    status: str
    maxconn: int
    process_maxconn: int
    hard_maxconn: int
    rate_limits: Mapping[str, int]


def repairs(front: Front | None, maxconn: int) -> tuple[str, ...]:
    """Return the commands that let requests in again, as they were let in at the start."""
    if front is None:
        return ()
    maxconn = min(maxconn, front.hard_maxconn)
    commands = []
    if front.status == PAUSED:
        commands.append(f"enable frontend {PUBLIC}")
    if front.maxconn != maxconn:
        commands.append(f"set maxconn frontend {PUBLIC} {maxconn}")
    if front.process_maxconn != maxconn:
        commands.append(f"set maxconn global {maxconn}")
    commands += [
        f"set rate-limit {name} global 0" for name, limit in front.rate_limits.items() if limit
    ]
    return tuple(commands)


def needs_reload(front: Front | None) -> bool:
    """Say whether it was shut down, which HAProxy takes back for no command."""
    return front is not None and front.status == SHUT_DOWN
