"""What of a snapshot is of one API: nothing is missing, and others are not looked at."""

from dataclasses import replace
from random import Random
from typing import Any

from serai_scheduler.nomad.names import JobName
from serai_scheduler.nomad.parts import Parts
from serai_scheduler.nomad.snapshot import Snapshot, failed_numbers, replicas_of
from tests.unit.nomad.test_snapshot import job, of

PREFIX = "serai"
STATES = (("running", "run"), ("failed", "run", "dead"), ("complete", "stop", "dead"))
NAMES = [
    JobName(api, version)
    for api in ("iris", "iris--two", "ocr")
    for version in ("v1-0123abcd", "v2-0123abcd")
]


class Counted(dict[str, Any]):
    """An allocation that counts how often something of any of them was read."""

    reads = 0

    def __getitem__(self, key: str) -> Any:
        Counted.reads += 1
        return super().__getitem__(key)


def snapshot_of(seed: int) -> Snapshot:
    """Return six jobs with replicas in all states, one of them gone, and a job of somebody else."""
    rng = Random(seed)
    jobs = [job(*range(1, rng.randint(2, 9)), name=name) for name in NAMES[1:]]
    ids = [f"{PREFIX}-{name.api}--{name.version}" for name in NAMES] + ["cron"]
    allocations = [
        Counted({**of(rng.randint(1, 20), index, *rng.choice(STATES)), "JobID": rng.choice(ids)})
        for index in range(10, 210)
    ]
    return Snapshot({one.body["ID"]: one for one in jobs}, tuple(allocations))


def test_a_part_tells_of_its_api_what_the_whole_does() -> None:
    for seed in range(20):
        whole, parts = snapshot_of(seed), Parts(PREFIX)
        seen, failed = replicas_of(whole, PREFIX, (), {}), failed_numbers(whole, PREFIX)
        for api in ("iris", "iris--two", "ocr", "none"):
            part = parts.of(api, whole)
            mine = [one for one in seen if one.replica.api == api]
            told = replicas_of(part, PREFIX, (), {})
            assert sorted(told, key=str) == sorted(mine, key=str), f"seed {seed}: {api}"
            jobs = {one: numbers for one, numbers in failed.items() if one in part.jobs}
            assert failed_numbers(part, PREFIX) == jobs
            assert {one for one in whole.jobs if whole.jobs[one].name.api == api} == set(part.jobs)


def test_each_list_of_allocations_is_looked_through_once() -> None:
    whole, parts = snapshot_of(1), Parts(PREFIX)
    parts.of("iris", whole)
    before = Counted.reads
    jobs = {one: held for one, held in whole.jobs.items() if held.name.api != "ocr"}
    later = replace(whole, jobs=jobs)  # as after an order
    assert parts.of("ocr", later).allocations and not parts.of("ocr", later).jobs
    assert Counted.reads == before
    newer = replace(later, allocations=())
    assert not parts.of("ocr", newer).allocations
