"""How a replica's concurrency is divided among its processes. Pure."""

from serai.model import Version


def processes(version: Version) -> int:
    """Return how many processes, each with a port of its own, a replica has."""
    predictor = version.content.predictor
    return predictor.processes if predictor is not None else 1


def shares(total: int, parts: int) -> tuple[int, ...]:
    """Split a concurrency over processes so that the sum is exact, at least one for each."""
    whole, rest = divmod(max(total, parts), parts)
    return tuple(whole + (1 if index < rest else 0) for index in range(parts))
