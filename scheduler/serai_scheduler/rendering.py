"""Which replicas the job of a version has that does not run yet. Pure."""

from collections.abc import Sequence

from serai.engine import USUAL_DRAIN_S
from serai.model import Replica
from serai_scheduler.drain_time import drain_times
from serai_scheduler.record import ApiRecord, wanted_replicas


def would_run(
    record: ApiRecord, version: str, replicas: Sequence[Replica]
) -> tuple[tuple[int, ...], float]:
    """Return the numbers of the replicas of a version, and how long its answers may take.

    `replicas` are those of the API that are known: the ones of the version that live, and as many
    more as are wanted, under numbers that none has had; at least one.
    """
    prefix = f"{record.name}.{version}."
    mine = [one for one in replicas if one.id.startswith(prefix)]
    taken = [int(one.id.removeprefix(prefix)) for one in mine]
    alive = [int(one.id.removeprefix(prefix)) for one in mine if one.alive]
    candidate = record.candidate
    on_trial = candidate is not None and candidate.version == version
    spec = candidate.spec if candidate is not None and on_trial else record.spec
    missing = max(1, wanted_replicas(record, spec)) - len(alive)
    first = max(taken, default=0) + 1
    numbers = (*sorted(alive), *range(first, first + missing))
    return numbers, drain_times(record).get(version, USUAL_DRAIN_S)
