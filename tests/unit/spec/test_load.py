from pathlib import Path

import pytest

from serai.errors import ConfigError
from serai.spec import SpecError, embedded_problems, find_file, load_file, load_text, validate
from serai.spec.types import ApiSpec, Container, Pod, Predictor

GOOD = "name: iris\npredictor: {path: predictor.py}\n"


def problems_of(text: str) -> list[str]:
    with pytest.raises(SpecError) as raised:
        load_text(text, "s.yaml")
    return [str(problem) for problem in raised.value.problems]


def write(folder: Path, text: str = GOOD, name: str = "serai.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_folder_means_its_serai_yaml_before_its_cortex_yaml(tmp_path: Path) -> None:
    cortex = write(tmp_path, name="cortex.yaml")
    assert find_file(tmp_path) == cortex
    assert find_file(cortex) == cortex
    assert find_file(tmp_path) != write(tmp_path) == find_file(tmp_path)


def test_no_file_is_an_error_that_names_both(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither serai\.yaml nor cortex\.yaml"):
        find_file(tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        find_file(tmp_path / "nothing.yaml")


def test_files_that_are_named_must_be_there(tmp_path: Path) -> None:
    text = "name: iris\npredictor:\n  path: predictor.py\n  requirements: reqs.txt\n"
    (tmp_path / "predicter.py").touch()
    (tmp_path / "reqs.txt").mkdir()
    with pytest.raises(SpecError) as raised:
        load_file(write(tmp_path, text))
    first, second = raised.value.problems
    assert (first.line, first.column, first.path) == (3, 9, "iris: predictor.path")
    assert first.hint == "predicter.py"
    assert first.message == f"names a file that is not in {tmp_path}"
    assert (second.line, second.message) == (4, "is a folder, not a file")


def test_files_in_folders_are_found(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "predictor.py").touch()
    file = write(tmp_path, "name: a\npredictor: {path: src/predictor.py}\n")
    assert load_file(file).apis[0].name == "a"


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside.py").touch()
    (inside / "predictor.py").symlink_to(tmp_path / "outside.py")
    with pytest.raises(SpecError, match="leads out of the folder by a link"):
        load_file(write(inside))


def test_a_wrong_path_is_not_looked_up(tmp_path: Path) -> None:
    long = "x" * 600 + "/" + "y" * 300 + ".py"
    for path in ("../up.py", "/etc/up.py", "x.txt", '"a\\0b.py"', long):
        with pytest.raises(SpecError) as raised:
            load_file(write(tmp_path, f"name: iris\npredictor: {{path: {path}}}\n"))
        assert len(raised.value.problems) == 1, str(raised.value)


def test_a_file_that_cannot_be_read_says_where(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_file(tmp_path / "serai.yaml")
    (tmp_path / "serai.yaml").write_bytes(b"name: a\nx: \xff\n")
    with pytest.raises(SpecError, match=r"serai\.yaml:2:4: the file is not UTF-8"):
        load_file(tmp_path / "serai.yaml")
    write(tmp_path, "#" * (2**20 + 1))
    with pytest.raises(SpecError, match="larger than 1 MiB"):
        load_file(tmp_path / "serai.yaml")


def test_defaults_that_depend_on_others() -> None:
    text = "name: a\npredictor: {path: p.py, processes: 2, threads: 3}\n"
    (spec,) = load_text(text + "autoscaling: {min_replicas: 4}\n", "").apis
    assert spec.endpoint == "/a"
    assert spec.concurrency.per_replica == 6
    assert spec.autoscaling.init_replicas == 4


def test_what_is_written_is_not_replaced_by_a_default() -> None:
    text = (
        GOOD + "concurrency: {per_replica: 5}\nendpoint: /x/y/\nautoscaling: {init_replicas: 3}\n"
    )
    (spec,) = load_text(text, "").apis
    assert spec.concurrency.per_replica == 5
    assert spec.endpoint == "/x/y"
    assert spec.autoscaling.init_replicas == 3


def test_text_that_looks_like_a_number_stays_as_it_is_written() -> None:
    text = (
        "name: a\npredictor: {path: p.py, python: 3.20}\nenv: {A: 010, B: yes, C: 1.50, D: 0x1F}\n"
    )
    (spec,) = load_text(text, "").apis
    assert spec.predictor is not None and spec.predictor.python == "3.20"
    assert spec.env == {"A": "010", "B": "yes", "C": "1.50", "D": "0x1F"}


def test_what_could_not_be_read_causes_no_second_problem() -> None:
    assert len(problems_of("name: a\npredictor: 5\n")) == 1
    assert len(problems_of("name: a\npredictr: {path: p.py}\n")) == 1
    assert len(problems_of("nmae: a\npredictor: {path: p.py}\n")) == 1
    assert len(problems_of(GOOD + "autoscaling: {min_replicas: 20, max_replicas: x}\n")) == 1
    assert len(problems_of(GOOD + "compute: {mem: x, shm: 1Gi}\n")) == 1


def test_all_problems_of_all_apis_come_in_the_order_of_the_file() -> None:
    text = "- name: A\n  predictor: {path: p}\n- name: b\n  retry: x\n  pod: {}\n"
    text += "---\nname: c\ncpu: 1\n"
    lines = [int(problem.split(":")[1]) for problem in problems_of(text)]
    assert lines == [1, 2, 4, 5, 7, 8]


def test_more_apis_than_a_deploy_takes_are_refused() -> None:
    text = "".join(f"- {{name: a{index}, pod: {{command: [x]}}}}\n" for index in range(41))
    assert problems_of(text) == [
        "s.yaml:41:3: the file holds 41 APIs; a deploy takes 40: split the file"
    ]
    assert len(load_text(text.rpartition("- ")[0], "").apis) == 40


def test_more_than_a_thousand_problems_are_counted() -> None:
    problems = problems_of(GOOD + "".join(f"k{index}: 1\n" for index in range(3000)))
    assert len(problems) == 1001
    assert problems[-1] == "s.yaml:1003:1: 2000 more problems from here on are not shown"


def test_environments_of_both_forms_are_joined() -> None:
    both = "name: a\npredictor: {path: p.py, env: {A: 1}}\nenv: {B: 2}\n"
    assert load_text(both, "").apis[0].env == {"A": "1", "B": "2"}
    (problem,) = problems_of(both.replace("B", "A"))
    assert problem.startswith("s.yaml:2:34: a: predictor.env.A: is the same as `env.A`")


def test_a_spec_too_large_for_the_store_is_refused() -> None:
    (problem,) = problems_of(GOOD.replace(".py", f".py, config: {{a: {'x' * 300_000}}}"))
    assert "the spec is too large; found 300" in problem


def test_specs_that_came_as_values_meet_the_same_rules() -> None:
    wrong = ApiSpec(
        name="A\n", endpoint="//", predictor=Predictor(path="../x"), env={"SERAI_X": "", "Y": "\0"}
    )
    found = {problem.path for problem in validate([wrong, wrong])}
    assert found == {
        f"apis[{index}]: {path}"
        for index in (0, 1)
        for path in ("name", "endpoint", "predictor.path", "env.SERAI_X", "env.Y")
    }
    assert {problem.line for problem in validate([wrong])} == {0}
    assert validate(load_text(GOOD, "").apis) == ()


def test_two_values_of_one_name_or_endpoint_are_refused() -> None:
    one, two = (
        ApiSpec(name=name, endpoint="/x", predictor=Predictor(path="p.py")) for name in ("a", "b")
    )
    assert [str(problem) for problem in validate([one, one, two])] == [
        'a: name: another API here has the same name; found "a"',
        'b: endpoint: the API "a" here has the same endpoint; found "/x"',
    ]


def test_several_containers_are_valid_but_not_embedded() -> None:
    containers = (Container(image="a"), Container(image="b"))
    several = ApiSpec(name="a", pod=Pod(containers=containers))
    single = ApiSpec(name="b", pod=Pod(containers=containers[:1]))
    assert validate([several, single]) == ()
    (problem,) = embedded_problems([several, single])
    assert str(problem).startswith("a: pod.containers: `serai up` runs one container per replica")
