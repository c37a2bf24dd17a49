"""Which ended replicas are kept, and what their last lines tell. Pure."""

from collections.abc import Iterable, Sequence

from serai.model import Replica

PORT_TAKEN = ("address already in use", "eaddrinuse")


def surplus(ended: Sequence[Replica], kept: int) -> list[Replica]:
    """Return the ended replicas of one API that need not be kept: the oldest."""
    oldest_first = sorted(ended, key=lambda replica: (replica.ended_at_s or 0.0, replica.id))
    return oldest_first[: max(0, len(oldest_first) - kept)]


def found_its_port_taken(lines: Iterable[str]) -> bool:
    """Say whether a program tells in its last lines that another one has its port."""
    return any(words in line.lower() for line in lines for words in PORT_TAKEN)
