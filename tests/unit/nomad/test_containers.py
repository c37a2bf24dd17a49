"""A predictor's container beside its other tasks."""

from typing import Any

import msgspec

from serai.spec.types import Mount
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.nomad.tasks import tasks_of
from tests.unit.nomad.values import predictor

SETTINGS = JobSettings(predictor_image="serai-predictor:{python}", program_driver="exec")


def named(tasks: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = (task for task in tasks if task["Name"] == name)
    return found


def test_a_container_sees_its_own_parts_of_the_cache_only() -> None:
    """The task that waits looks at the whole cache, where it runs in a root of its own."""
    tasks = tasks_of(predictor(), 5.0, SETTINGS)
    assert "VolumeMounts" in named(tasks, "prepare")
    assert "VolumeMounts" not in named(tasks, "replica")


def mounts_of(*mounts: Mount) -> list[dict[str, Any]]:
    plain = predictor()
    version = msgspec.structs.replace(
        plain, content=msgspec.structs.replace(plain.content, mounts=mounts)
    )
    found: list[dict[str, Any]] = named(tasks_of(version, 5.0, SETTINGS), "replica")["Config"][
        "mount"
    ]
    return found


def test_a_mount_may_have_another_path_in_a_container() -> None:
    assert mounts_of(Mount(host="/srv/models", path="/models"))[-1] == {
        "type": "bind",
        "source": "/srv/models",
        "target": "/models",
        "readonly": True,
    }


def test_a_mount_may_be_the_folder_for_temporary_files() -> None:
    """Docker refuses two mounts in one place."""
    usual = mounts_of()
    assert [one["type"] for one in usual] == ["bind", "bind", "tmpfs"]
    own = mounts_of(Mount(host="/srv/scratch", path="/tmp", read_only=False))
    assert [one["type"] for one in own] == ["bind", "bind", "bind"]


def test_the_image_is_that_of_the_python() -> None:
    config = named(tasks_of(predictor(), 5.0, SETTINGS), "replica")["Config"]
    assert config["image"] == "serai-predictor:3.11"
