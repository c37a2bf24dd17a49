"""What a job says, seen from what must hold of it."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.errors import ConfigError
from serai.model import Version
from serai.spec.types import Compute, Container, Mount
from serai.units import Cpu, Size
from serai_scheduler.nomad.job import job_of, numbers_of, with_drain, with_replicas
from serai_scheduler.nomad.names import parse_id
from serai_scheduler.nomad.places import places_of
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.nomad.text import literal, template_of_json
from tests.unit.nomad.values import SHAPES, batching, containers, predictor, program

SETTINGS = JobSettings()
NUMBERS = st.sets(st.integers(1, 10_000), min_size=1, max_size=5)
VERSIONS = st.sampled_from([make() for make in SHAPES.values()])


def changed(version: Version, **changes: object) -> Version:
    content = msgspec.structs.replace(version.content, **changes)
    return msgspec.structs.replace(version, content=content)


def tasks(version: Version, settings: JobSettings = SETTINGS) -> dict[str, dict[str, Any]]:
    (group,) = job_of(version, [1], settings)["TaskGroups"]
    return {task["Name"]: task for task in group["Tasks"]}


@given(VERSIONS, NUMBERS)
def test_replicas_differ_in_the_names_of_their_groups_only(
    version: Version, numbers: set[int]
) -> None:
    job = job_of(version, numbers, SETTINGS)
    assert numbers_of(job) == numbers
    names = [group.pop("Name") for group in job["TaskGroups"]]
    assert names == [str(number) for number in sorted(numbers)]
    assert all(group == job["TaskGroups"][0] for group in job["TaskGroups"])


@given(VERSIONS, st.floats(0, 1e9), NUMBERS)
def test_when_a_version_was_made_is_nowhere(
    version: Version, at_s: float, numbers: set[int]
) -> None:
    later = msgspec.structs.replace(version, created_at_s=at_s)
    assert job_of(later, numbers, SETTINGS) == job_of(version, numbers, SETTINGS)


@given(VERSIONS, st.floats(0, 86_400))
def test_the_time_to_end_is_all_that_a_drain_time_changes(version: Version, drain_s: float) -> None:
    """Nomad changes it in place; a difference in a task's config would restart the replicas."""
    job, usual = job_of(version, [1], SETTINGS, drain_s), job_of(version, [1], SETTINGS)
    for task in (*job["TaskGroups"][0]["Tasks"], *usual["TaskGroups"][0]["Tasks"]):
        assert 0 < task.pop("KillTimeout") <= SETTINGS.max_kill_timeout_s * 1e9
    assert job == usual


@given(VERSIONS, NUMBERS, st.floats(0, 86_400))
def test_a_job_gets_another_drain_time_as_if_it_had_been_made_with_it(
    version: Version, numbers: set[int], drain_s: float
) -> None:
    held = job_of(version, numbers, SETTINGS)
    text = json.dumps(held)
    assert with_drain(held, drain_s, SETTINGS) == job_of(version, numbers, SETTINGS, drain_s)
    assert json.dumps(held) == text


def test_a_drain_time_is_no_longer_than_what_the_job_was_registered_with() -> None:
    """Nomad refuses a task that may take longer to end than a deployment."""
    held = job_of(predictor(), [1], SETTINGS)
    groups = [
        {**group, "Update": {"ProgressDeadline": 700 * 10**9}} for group in held["TaskGroups"]
    ]
    ours = {**held, "TaskGroups": [*groups, {**groups[0], "Name": "by-hand"}]}
    made, by_hand = with_drain(ours, 3000, SETTINGS)["TaskGroups"]
    assert {task["Name"]: task["KillTimeout"] for task in made["Tasks"]}["replica"] == 700 * 10**9
    assert by_hand == {**groups[0], "Name": "by-hand"}


@given(VERSIONS, NUMBERS, NUMBERS, NUMBERS)
def test_replicas_come_and_go_in_what_nomad_holds(
    version: Version, before: set[int], add: set[int], remove: set[int]
) -> None:
    held = {**job_of(version, before, SETTINGS), "ModifyIndex": 7, "Stop": False}
    text = json.dumps(held)
    made = with_replicas(held, add, remove)
    left = (before - remove) | (add - before)
    assert numbers_of(made) == left
    if left:
        fresh = {group["Name"]: group for group in job_of(version, left, SETTINGS)["TaskGroups"]}
        assert {group["Name"]: group for group in made.pop("TaskGroups")} == fresh
        assert made == {key: held[key] for key in made} and len(made) == len(held) - 1
    else:
        assert made == {**held, "Stop": True}
    assert json.dumps(held) == text


def test_what_runs_is_not_built_anew() -> None:
    """Another release or an operator may have made it differ: it goes on as it is."""
    ours = {"Name": "1", "Count": 1, "Tasks": ["as it was"]}
    scaled = {"Name": "2", "Count": 3, "Tasks": ["as it was"]}
    emptied = {"Name": "3", "Count": 0, "Tasks": ["as it was"]}
    theirs = {"Name": "by hand", "Count": 3}
    held = {"TaskGroups": [ours, scaled, emptied, theirs]}
    assert numbers_of(held) == {1, 2}
    made = with_replicas(held, [7])
    assert made["TaskGroups"] == [ours, {**ours, "Name": "2"}, theirs, {**ours, "Name": "7"}]
    assert with_replicas(held, [], [1, 2])["TaskGroups"] == [theirs]
    assert numbers_of({**held, "Stop": True}) == set()


def test_a_new_replica_is_a_copy_of_one_of_ours_wherever_that_stands() -> None:
    held = job_of(batching(), [1], SETTINGS)
    (group,) = held["TaskGroups"]
    theirs = {**group, "Name": "by-hand", "Tasks": []}
    for groups in ([theirs, group], [group, theirs]):
        made = with_replicas({**held, "TaskGroups": groups}, [2])
        assert made["TaskGroups"] == [*groups, {**group, "Name": "2"}]
        moved = with_replicas({**held, "TaskGroups": groups}, [2], [1])
        assert moved["TaskGroups"] == [theirs, {**group, "Name": "2"}]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_job_is_json_that_its_name_tells(shape: str) -> None:
    version = SHAPES[shape]()
    job = job_of(version, [1], SETTINGS)
    assert json.loads(json.dumps(job)) == job
    name = parse_id("serai", job["ID"])
    assert name is not None and (name.api, name.version) == (version.api, version.name)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_container_is_privileged_or_in_the_nodes_network(shape: str) -> None:
    for task in tasks(SHAPES[shape]()).values():
        assert "privileged" not in task["Config"]
        assert task["Config"].get("network_mode", "") != "host"


def test_each_process_has_a_port_a_service_and_its_share() -> None:
    (group,) = job_of(batching(), [1], SETTINGS)["TaskGroups"]
    labels = [port["Label"] for port in group["Networks"][0]["DynamicPorts"]]
    found = tasks(batching())["replica"]["Services"]
    assert [one["PortLabel"] for one in found] == labels == ["http_0", "http_1"]
    assert [one["Meta"]["capacity"] for one in found] == ["17", "16"]


def test_containers_share_what_a_replica_needs() -> None:
    two = tasks(containers())
    assert sum(task["Resources"]["CPU"] for task in two.values()) == 1001
    assert sum(task["Resources"]["MemoryMB"] for task in two.values()) == 1024
    assert two["container-1"]["Config"]["network_mode"] == "container:replica-${NOMAD_ALLOC_ID}"
    assert "ports" not in two["container-1"]["Config"] and "Services" not in two["container-1"]


def test_tasks_of_containers_have_different_names() -> None:
    specs = [Container(image="a:1", name=name) for name in ("replica", "1", "", "2-x", "prepare")]
    assert len(tasks(containers(*specs))) == len(specs)


@given(st.integers(20, 1_024_000), st.integers(20 * 2**20, 2**46), st.integers(1, 16))
def test_no_resource_is_less_than_asked(millicores: int, size: int, parts: int) -> None:
    compute = Compute(cpu=Cpu(millicores), mem=Size(size))
    version = changed(containers(*(parts * [Container(image="a:1")])), compute=compute)
    found = [task["Resources"] for task in tasks(version).values()]
    settings_mhz = SETTINGS.mhz_per_core
    assert sum(one["CPU"] for one in found) * 1000 >= millicores * settings_mhz
    assert sum(one["MemoryMB"] for one in found) * 2**20 >= size
    assert all(one["CPU"] >= 10 and one["MemoryMB"] >= 10 for one in found)


def test_without_a_limit_the_usual_memory_is_asked() -> None:
    assert tasks(predictor())["replica"]["Resources"] == {"CPU": 200, "MemoryMB": 512}


def test_the_logs_of_all_tasks_fit_on_the_disk_that_is_asked() -> None:
    for make in SHAPES.values():
        (group,) = job_of(make(), [1], SETTINGS)["TaskGroups"]
        logs = [one["LogConfig"] for one in group["Tasks"]]
        most = sum(2 * one["MaxFiles"] * one["MaxFileSizeMB"] for one in logs)
        assert most < group["EphemeralDisk"]["SizeMB"]


def test_a_program_without_a_bundle_waits_for_nothing() -> None:
    assert list(tasks(program())) == ["replica"]


def test_a_predictor_without_its_parts_is_refused() -> None:
    for missing in ("bundle", "lock"):
        with pytest.raises(ConfigError, match="needs a bundle and a lock"):
            places_of(changed(predictor(), **{missing: ""}), SETTINGS)


def test_a_version_with_nothing_to_run_is_refused() -> None:
    with pytest.raises(ConfigError, match="neither a predictor nor a command"):
        job_of(changed(program(), pod=None), [1], SETTINGS)


def test_a_program_sees_a_folder_only_where_it_is() -> None:
    there = changed(program(), mounts=(Mount(host="/srv", path="/srv"),))
    elsewhere = changed(program(), mounts=(Mount(host="/srv", path="/data"),))
    assert tasks(there)["replica"]["Driver"] == "raw_exec"
    with pytest.raises(ConfigError, match="/srv cannot be shown as /data"):
        job_of(elsewhere, [1], SETTINGS)
    with pytest.raises(ConfigError, match="the driver raw_exec"):
        job_of(there, [1], JobSettings(program_driver="exec"))


@given(st.recursive(st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner)))
def test_json_in_a_template_is_no_template_and_the_same_json(value: object) -> None:
    text = template_of_json(json.dumps({"{{ a": value}))
    assert "{{" not in text and json.loads(text) == {"{{ a": value}


def test_braces_that_nomad_would_read_are_written_as_themselves() -> None:
    assert literal("${HOME} $HOME %{if}") == "$${HOME} $HOME %%{if}"
