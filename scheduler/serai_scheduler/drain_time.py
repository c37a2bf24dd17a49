"""How long answers of the versions of an API may take, and whether the engine knows. Pure."""

from serai_scheduler.actions import Grant
from serai_scheduler.record import ApiRecord
from serai_scheduler.world import ApiWorld


def drain_times(record: ApiRecord) -> dict[str, float]:
    """Return `timeouts.total` in seconds for each version that takes requests, or is to.

    A version that is on its way out keeps what it had.
    """
    found = {}
    if record.candidate is not None:
        found[record.candidate.version] = record.candidate.spec.timeouts.total.seconds
    if record.stable:
        found[record.stable] = record.spec.timeouts.total.seconds
    return found


def grants(world: ApiWorld, record: ApiRecord) -> tuple[Grant, ...]:
    """Return what the engine has not been told yet of versions with replicas that live."""
    return tuple(
        Grant(world.stored.versions[version], drain_s)
        for version, drain_s in drain_times(record).items()
        if world.granted.get(version) != drain_s
        and any(replica.alive for replica in world.of(version))
    )
