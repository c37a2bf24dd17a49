"""What one machine refuses, in words."""

from serai.spec.types import ApiSpec, Container, Mount, Pod
from serai_cli.embedded.limits import not_on_one_machine


def container() -> ApiSpec:
    return ApiSpec(name="box", endpoint="/box", pod=Pod(containers=(Container(image="x:1"),)))


def test_containers_need_dockerd_and_the_refusal_says_so() -> None:
    assert not_on_one_machine([container()], None) == ()
    (problem,) = not_on_one_machine([container()], "no socket")
    assert "no socket" in problem.message and problem.path == "box: pod.containers"


def test_a_mount_to_another_path_cannot_be_shown_by_a_process() -> None:
    def mounting(path: str) -> ApiSpec:
        mount = Mount(host="/models", path=path)
        return ApiSpec(name="m", endpoint="/m", pod=Pod(command=("serve",)), mounts=(mount,))

    assert not_on_one_machine([mounting("/models")], None) == ()
    (problem,) = not_on_one_machine([mounting("/elsewhere")], None)
    assert problem.path == "m: mounts[0]" and "/models" in problem.message
