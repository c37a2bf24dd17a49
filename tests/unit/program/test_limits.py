"""What a cluster cannot run, told at the deploy."""

import msgspec
import pytest

from serai.spec import Problem
from serai.spec.types import ApiSpec, Mount, Predictor
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.program.limits import not_in_cluster
from tests.support.scheduling import spec


def problems(one: ApiSpec, roots: tuple[str, ...], driver: str = "raw_exec") -> list[Problem]:
    settings = msgspec.convert({"program_driver": driver}, JobSettings)
    return list(not_in_cluster([spec("fine"), one], settings, roots, "3.11"))


def mounting(host: str, path: str = "") -> ApiSpec:
    return msgspec.structs.replace(spec("iris"), mounts=(Mount(host=host, path=path or host),))


@pytest.mark.parametrize("host", ["/srv/models", "/srv/models/a", "/srv/models/../models/b"])
def test_folders_below_a_root_may_be_mounted(host: str) -> None:
    assert problems(mounting(host), ("/data", "/srv/models/")) == []


@pytest.mark.parametrize(
    "host", ["/srv", "/srv/models-of-others", "/srv/models/../x", "//srv/models"]
)
def test_others_may_not(host: str) -> None:
    (found,) = problems(mounting(host), ("/data", "/srv/models"))
    assert found.path == "iris: mounts[0].host" and found.found == host
    assert "/data, /srv/models" in found.message


def test_without_roots_nothing_may_be_mounted() -> None:
    (found,) = problems(mounting("/srv"), ())
    assert "allows no mounts" in found.message


def test_what_no_job_can_be_made_of_is_told() -> None:
    (found,) = problems(mounting("/srv/models", "/models"), ("/srv/models",))
    assert found.path == "iris" and "cannot be shown as /models" in found.message
    (found,) = problems(mounting("/srv/models"), ("/srv/models",), "exec")
    assert "without a container" in found.message


def test_a_predictor_is_not_refused_for_what_a_spec_does_not_tell() -> None:
    one = msgspec.structs.replace(spec("p"), pod=None, predictor=Predictor(path="predictor.py"))
    assert problems(one, ()) == []
