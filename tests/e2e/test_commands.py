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
