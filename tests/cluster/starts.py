"""What was started twice, or without being asked for, by what Nomad ran since then. Pure."""

from collections import Counter
from collections.abc import Collection, Mapping

from tests.cluster.sweep import Allocation


def superfluous(
    allocations: Collection[Allocation], before: Collection[str], asked: Mapping[str, int]
) -> list[str]:
    """Return a line for each start too many.

    `before` are the ids of the allocations that there were, `asked` how many replicas of each job
    were to be started since then, all of them together; nothing has failed meanwhile.
    """
    made = [one for one in allocations if one.id not in before]
    twice = [
        f"{job}: replica {group} was started {count} times"
        for (job, group), count in Counter((one.job, one.group) for one in made).items()
        if count > 1
    ]
    counts = Counter(one.job for one in made)
    more = [
        f"{job}: {count} replicas were started, {asked.get(job, 0)} were asked for"
        for job, count in counts.items()
        if count > asked.get(job, 0)
    ]
    return sorted(twice + more)
