"""The command line and the environment."""

from pathlib import Path

import pytest

from serai_runtime.arguments import parse
from serai_runtime.options import from_json, to_json


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "predictor.py"
    path.write_text("class Predictor: ...\n")
    return str(path)


def test_defaults(file: str) -> None:
    options = parse([file], {})
    assert (options.ports, options.threads, options.queue) == ((8000,), 1, 8)
    assert (options.concurrency_of(0), options.total_timeout_s) == (None, 600.0)
    assert options.folder == Path(file).parent


def test_ports_for_processes(file: str) -> None:
    assert parse([file, "--port", "9000", "--processes", "3"], {}).ports == (9000, 9001, 9002)
    assert parse([file, "--port", "9000,9005"], {}).ports == (9000, 9005)
    assert parse([file], {"PORT": "7000"}).ports == (7000,)


def test_concurrency_for_each_process(file: str) -> None:
    options = parse([file, "--port", "1,2,3", "--concurrency", "4,5"], {})
    assert [options.concurrency_of(n) for n in range(3)] == [4, 5, 5]


def test_the_environment_stands_in_and_the_command_line_wins(file: str) -> None:
    told = {
        "SERAI_RUNTIME_THREADS": "4",
        "SERAI_RUNTIME_QUEUE": "2",
        "SERAI_RUNTIME_ACCESS_LOG": "1",
    }
    options = parse([file, "--queue", "0"], told)
    assert (options.threads, options.queue, options.access_log) == (4, 0, True)


def test_paths_do_not_depend_on_where_the_workers_go(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(file).parent)
    options = parse(["predictor.py", "--status-file", "state.json"], {})
    assert options.predictor == file
    assert options.status_file == str(Path(file).parent / "state.json")


def test_options_reach_the_workers_as_they_are(file: str) -> None:
    options = parse([file, "--port", "1,2", "--concurrency", "3", "--api", "a"], {})
    assert from_json(to_json(options)) == options


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--port", "x"], "expected numbers, got 'x'"),
        (["--port", "70000"], "expected numbers from 1 to 65535"),
        (["--threads", "0"], "expected a number of at least 1, got '0'"),
        (["--queue", "-1"], "expected"),
        (["--port", "1,2", "--processes", "3"], "--processes 3 needs as many ports"),
        (["--port", "65535", "--processes", "2"], "there is no port 65536"),
        (["--total-timeout-s", "0"], "expected seconds above 0"),
    ],
)
def test_wrong_input_is_told(
    file: str, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([file, *arguments], {})
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_a_missing_file_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["/nowhere/p.py"], {})
    assert "there is no file /nowhere/p.py" in capsys.readouterr().err
