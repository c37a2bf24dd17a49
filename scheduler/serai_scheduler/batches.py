"""A plan's actions as orders to the engine: what concerns one version goes together. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serai.model import Version
from serai_scheduler.actions import Action, Forget, Grant, Start, Stop


@dataclass(frozen=True)
class StartAll:
    """Start these replicas of a version, whose answers may take `drain_s`."""

    replicas: tuple[str, ...]
    version: Version
    drain_s: float

    def __str__(self) -> str:
        return f"start {', '.join(self.replicas)}"


@dataclass(frozen=True)
class StopAll:
    """End these replicas of one version."""

    replicas: tuple[str, ...]
    grace_s: float

    def __str__(self) -> str:
        return f"stop {', '.join(self.replicas)}"


Order = StartAll | Grant | StopAll | Forget


def orders_of(actions: Sequence[Action], version_of: Mapping[str, str]) -> tuple[Order, ...]:
    """Return the orders: starts, grants, stops, each in the sequence of the actions.

    `version_of` names the version of each replica that the engine has shown.
    """
    starts: dict[str, list[Start]] = {}
    stops: dict[tuple[str, float], list[str]] = {}
    grants: list[Grant] = []
    forgets: list[Forget] = []
    for action in actions:
        match action:
            case Start():
                starts.setdefault(action.version.name, []).append(action)
            case Grant():
                grants.append(action)
            case Stop(replica, grace_s):
                stops.setdefault((version_of.get(replica, ""), grace_s), []).append(replica)
            case Forget():
                forgets.append(action)
    return (
        *(_start_all(some) for some in starts.values()),
        *grants,
        *(StopAll(tuple(some), grace_s) for (_, grace_s), some in stops.items()),
        *forgets,
    )


def _start_all(starts: Sequence[Start]) -> StartAll:
    newest = starts[-1]
    return StartAll(tuple(one.replica for one in starts), newest.version, newest.drain_s)
