"""When replicas failed, by the leader's clock: that of their node may tell any other time. Pure."""

from collections.abc import Mapping, Sequence

from serai.model import Replica, ReplicaState


def failed_at_s(
    replicas: Sequence[Replica], known: Mapping[str, float] | None, now_s: float
) -> dict[str, float]:
    """Return by replica when it failed, for those that have; `known` is what was returned before.

    A failure was just now when it is seen for the first time. Only of what a leader finds when it
    begins (`known` None) its node tells the time, which is taken for no later than now.
    """
    return {
        one.id: _at_s(one, known, now_s) for one in replicas if one.state is ReplicaState.FAILED
    }


def _at_s(replica: Replica, known: Mapping[str, float] | None, now_s: float) -> float:
    if known is None:
        return min(now_s, now_s if replica.ended_at_s is None else replica.ended_at_s)
    return known.get(replica.id, now_s)
