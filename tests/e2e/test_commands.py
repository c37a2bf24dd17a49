"""What scripts and shells rely on: clean output, exit statuses, completion."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.serai import SERAI, Serai, write_predictor

HELLO = "class Predictor:\n    def predict(self, payload):\n        return 'hello'\n"


def test_json_is_all_that_a_waiting_deploy_writes_to_standard_output(
    shared: Serai, tmp_path: Path
) -> None:
    project = write_predictor(tmp_path / "piped", HELLO, name="piped")
    done = shared.run("deploy", str(project), "--wait", "-o", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["apis"][0]["action"] == "create"
    assert "piped" in done.stderr and "serves" in done.stderr
    broken = write_predictor(tmp_path / "piped", "1 / 0\n", name="piped")
    done = shared.run("deploy", str(broken), "--wait", "-o", "yaml")
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr
    assert done.stdout.startswith("apis:")


def test_names_of_apis_are_completed(shared: Serai, tmp_path: Path) -> None:
    shared.deploy(write_predictor(tmp_path / "complete-me", HELLO, name="complete-me"))

    def completed(words: str, data: Path) -> list[str]:
        asking = {
            **shared.environment,
            "SERAI_DATA_DIR": str(data),
            "_SERAI_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        done = subprocess.run([SERAI], env=asking, capture_output=True, text=True, timeout=30)
        assert done.stderr == ""
        return done.stdout.split()

    assert completed("serai logs comp", shared.data) == ["complete-me"]
    assert completed("serai des", shared.data) == ["describe"]
    assert completed("serai logs comp", tmp_path) == [], "no Serai there: no names, no error"


def test_commands_end_well_when_nobody_takes_their_output(shared: Serai) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [SERAI, "get"], env=shared.environment, stdout=full, stderr=subprocess.PIPE, timeout=30
        )
    assert done.returncode == 1
    assert done.stderr.decode().strip() == f"serai: {os.strerror(28)}"
    closed = subprocess.run(
        ["sh", "-c", f"{SERAI} get >&-; echo $?"], env=shared.environment, capture_output=True,
        timeout=30,
    )  # fmt: skip
    assert closed.stdout == b"0\n" and closed.stderr == b""


def test_wrong_words_are_wrong_input_and_name_the_help(shared: Serai) -> None:
    for words, told in (
        (("gte",), "Did you mean 'get'"),
        (("get", "-o", "xml"), "'table', 'json', 'yaml'"),
        (("scale", "x"), "--replicas"),
        (("logs", "x", "-o", "yaml"), "-o json"),
        (("get", "-e", "locl"), "did you mean local"),
        (("env", "set", "a b", "--url", "http://x"), "letters, digits"),
    ):
        done = shared.run(*words)
        assert done.returncode == 2 and told in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert shared.run("--version").stdout.startswith("serai ")
    assert shared.run("env", "set", "-h").stdout == shared.run("env", "set", "--help").stdout != ""


def test_the_first_environment_is_used_and_that_is_said(shared: Serai, tmp_path: Path) -> None:
    environment = {**shared.environment, "XDG_CONFIG_HOME": str(tmp_path)}
    said = []
    for name in ("lab", "attic"):
        done = subprocess.run(
            [SERAI, "env", "set", name, "--url", f"https://{name}.example"],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        said.append(done.stdout.strip())
    assert said[0] == "lab is https://lab.example, and in use from now on"
    assert said[1] == "attic is https://attic.example"


def test_a_part_that_is_not_installed_is_named_with_the_command_that_installs_it() -> None:
    for absent, words, part in (("typer", "get", "cli"), ("prometheus_client", "up", "up")):
        code = (
            f"import sys; sys.modules[{absent!r}] = None; sys.argv = ['serai', {words!r}]\n"
            "from serai_cli.__main__ import main; main()"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 1, done.stderr
        assert f"{absent} is not installed" in done.stderr
        assert f"pip install 'serai[{part}]'" in done.stderr


def test_an_api_is_printed_as_a_job_and_the_only_node_cannot_be_drained(
    shared: Serai, tmp_path: Path
) -> None:
    shared.deploy(write_predictor(tmp_path / "printed", HELLO, name="printed"))
    done = shared.run("render", "printed")
    assert done.returncode == 0 and done.stdout.startswith('job "serai-printed--v1-')
    job = json.loads(shared.run("render", "printed", "--format", "json").stdout)["Job"]
    assert [group["Name"] for group in job["TaskGroups"]] == ["1"]
    unknown = shared.run("render", "printed", "--version", "v9-none")
    assert unknown.returncode == 4 and "it has v1-" in unknown.stderr

    (node,) = json.loads(shared.run("nodes", "-o", "json").stdout)["nodes"]
    for word in ("drain", "cordon"):
        refused = shared.run("node", word, node["node"])
        assert refused.returncode == 4 and "nowhere to go" in refused.stderr
    unknown = shared.run("node", "cordon", "elsewhere")
    assert unknown.returncode == 4 and "see `serai nodes`" in unknown.stderr
