"""The parts of a snapshot: what of it is of one API, so that an order looks through that alone."""

from collections.abc import Mapping, Sequence

from serai_scheduler.nomad.names import parse_id
from serai_scheduler.nomad.snapshot import Allocation, Snapshot


class Parts:
    """Keeps the allocations by API, sorted once for each list of them."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._sorted: tuple[Allocation, ...] = ()
        self._by_api: Mapping[str, Sequence[Allocation]] = {}

    def of(self, api: str, snapshot: Snapshot) -> Snapshot:
        """Return the jobs and allocations of one API; the nodes are left out."""
        if snapshot.allocations is not self._sorted:
            self._sorted = snapshot.allocations
            self._by_api = by_api(snapshot.allocations, self._prefix)
        jobs = {job: held for job, held in snapshot.jobs.items() if held.name.api == api}
        return Snapshot(jobs=jobs, allocations=tuple(self._by_api.get(api, ())))


def by_api(allocations: Sequence[Allocation], prefix: str) -> dict[str, list[Allocation]]:
    """Return our allocations by API, those of one in their order. Pure."""
    names = {job: parse_id(prefix, job) for job in {one["JobID"] for one in allocations}}
    found: dict[str, list[Allocation]] = {}
    for one in allocations:
        if (name := names[one["JobID"]]) is not None:
            found.setdefault(name.api, []).append(one)
    return found
