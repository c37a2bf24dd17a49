"""What `serai-runtime` may be told; the same values travel from the supervisor to its workers."""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

DEFAULT_PORT = 8000
PATHS = frozenset({"predictor", "config", "project_dir", "status_file"})


@dataclass(frozen=True)
class Options:
    """Settings of one runtime; `concurrency` and `queue` are per process, times in seconds."""

    predictor: str
    host: str = "127.0.0.1"
    ports: tuple[int, ...] = (DEFAULT_PORT,)
    threads: int = 1
    concurrency: tuple[int, ...] = ()
    queue: int = 8
    config: str = ""
    batch_max_size: int = 0
    batch_max_wait_ms: float = 5.0
    body_max_bytes: int = 32 * 2**20
    total_timeout_s: float = 600.0
    deregistration_delay_s: float = 0.0
    drain_limit_s: float = 600.0
    project_dir: str = ""
    log_format: str = "json"
    api: str = ""
    version: str = ""
    replica: str = ""
    status_file: str = ""
    access_log: bool = False

    @property
    def processes(self) -> int:
        return len(self.ports)

    @property
    def folder(self) -> Path:
        """Return the user's folder: its working directory and where its imports are found."""
        return Path(self.project_dir) if self.project_dir else Path(self.predictor).parent

    def concurrency_of(self, process: int) -> int | None:
        """Return how many requests a process runs at once, or None when it was not told."""
        if not self.concurrency:
            return None
        return self.concurrency[min(process, len(self.concurrency) - 1)]


def to_json(options: Options) -> str:
    return json.dumps(asdict(options))


def from_json(text: str) -> Options:
    raw: dict[str, Any] = json.loads(text)
    raw["ports"] = tuple(raw["ports"])
    raw["concurrency"] = tuple(raw["concurrency"])
    return Options(**raw)


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line; wrong input ends with a usage message and status 2."""
    parser = _parser()
    found = parser.parse_args([*_from_environment(parser, os.environ), *arguments])
    values = {key: value for key, value in vars(found).items() if value is not None}
    processes = values.pop("processes", None)
    if "ports" not in values:
        values["ports"] = (int(os.environ.get("PORT", DEFAULT_PORT)),)
    for key in PATHS & values.keys():
        # The workers change to the user's folder, so what was said relative to ours must not move.
        values[key] = str(Path(values[key]).absolute())
    options = Options(**values)
    if processes and len(options.ports) == 1:
        first = options.ports[0]
        options = replace(options, ports=tuple(range(first, first + processes)))
    elif processes and processes != len(options.ports):
        parser.error(f"--processes {processes} needs as many ports, or one; got {options.ports}")
    if not Path(options.predictor).is_file():
        parser.error(f"there is no file {options.predictor}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="serai-runtime",
        description="Serve a Python predictor over HTTP.",
        epilog="example: serai-runtime predictor.py --port 9000",
        argument_default=None,
    )
    add = parser.add_argument
    add("predictor", help="a Python file with a class Predictor")
    add("--host", help="address to listen on (127.0.0.1)")
    add("--port", dest="ports", type=_integers, metavar="N[,N…]", help="one per process ($PORT)")
    add("--processes", type=_positive, help="worker processes, on consecutive ports")
    add("--threads", type=_positive, help="threads for a blocking predict, per process (1)")
    add(
        "--concurrency",
        type=_integers,
        metavar="N[,N…]",
        help="requests at once, per process "
        "(blocking: its threads; async: 100; batching: two batches)",
    )
    add("--queue", type=_natural, help="requests that wait beyond that, per process (8)")
    add("--config", metavar="FILE", help="JSON file with the constructor's config")
    add("--batch-max-size", type=_positive, help="give predict a list of up to this many payloads")
    add("--batch-max-wait-ms", type=float, help="how long a batch waits for more (5)")
    add("--body-max-bytes", type=_positive, help="largest request body (32 MiB)")
    add("--total-timeout-s", type=float, help="longest time for one request (600)")
    add("--deregistration-delay-s", type=float, help="serve on this long after SIGTERM (0)")
    add("--drain-limit-s", type=float, help="longest wait for requests in flight (600)")
    add("--project-dir", help="working directory and import path (the predictor's folder)")
    add("--log-format", choices=("json", "text"), help="how log lines look (json)")
    add("--api", help="name of the API, for logs")
    add("--version-name", dest="version", help="name of the version, for logs")
    add("--replica", help="name of the replica, for logs")
    add("--access-log", action="store_true", default=None, help="log every request (off)")
    add("--status-file", metavar="FILE", help="where to write the state of the processes as JSON")
    return parser


def _from_environment(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> list[str]:
    """Return what SERAI_RUNTIME_<OPTION> variables say, as arguments; the command line wins."""
    options = [action.option_strings[-1] for action in parser._actions if action.option_strings]
    told: list[str] = []
    for option in options:
        value = environment.get(
            "SERAI_RUNTIME_" + option.removeprefix("--").replace("-", "_").upper()
        )
        if option == "--access-log":
            told += [option] if value in ("1", "true") else []
        elif value:
            told.append(f"{option}={value}")
    return told


def _integers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers, got {text!r}") from None
    if not all(0 < number <= 65535 for number in numbers):
        raise argparse.ArgumentTypeError(f"expected numbers from 1 to 65535, got {text!r}")
    return numbers


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
    return int(text)
