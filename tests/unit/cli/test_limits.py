"""What one machine refuses, in words."""

from serai.spec.types import ApiSpec, Container, Mount, Nodes, Pod
from serai_cli.embedded.limits import not_on_one_machine, without_effect


def anything(host: str) -> str | None:
    return None


def container() -> ApiSpec:
    return ApiSpec(name="box", endpoint="/box", pod=Pod(containers=(Container(image="x:1"),)))


def test_containers_need_dockerd_and_the_refusal_says_so() -> None:
    assert not_on_one_machine([container()], None, anything) == ()
    (problem,) = not_on_one_machine([container()], "no socket", anything)
    assert "no socket" in problem.message and problem.path == "box: pod.containers"


def mounting(path: str, pod: Pod) -> ApiSpec:
    mount = Mount(host="/models", path=path)
    return ApiSpec(name="m", endpoint="/m", pod=pod, mounts=(mount,))


def test_a_mount_to_another_path_cannot_be_shown_by_a_process() -> None:
    process, box = Pod(command=("serve",)), Pod(containers=(Container(image="x:1"),))
    assert not_on_one_machine([mounting("/models", process)], None, anything) == ()
    assert not_on_one_machine([mounting("/elsewhere", box)], None, anything) == ()
    (problem,) = not_on_one_machine([mounting("/elsewhere", process)], None, anything)
    assert problem.path == "m: mounts[0]" and "/models" in problem.message


def test_a_mount_that_the_operator_does_not_allow_is_refused() -> None:
    spec = mounting("/models", Pod(command=("serve",)))
    (problem,) = not_on_one_machine([spec], None, lambda host: f"not {host}")
    assert (problem.path, problem.message) == ("m: mounts[0].host", "not /models")


def test_a_spec_for_some_nodes_of_a_cluster_runs_here_too_and_is_told_so() -> None:
    wishes = Nodes(class_="gpu-large", pool="models")
    spec = ApiSpec(name="p", endpoint="/p", pod=Pod(command=("serve",)), nodes=wishes)
    assert not_on_one_machine([spec], None, anything) == ()
    assert without_effect(spec) == ("nodes: has no effect here: all replicas run on this machine",)
    assert without_effect(container()) == ()
