"""The command line of `serai-runtime`, and the environment variables that stand in for it."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from serai_runtime.options import DEFAULT_PORT, Options

LAST_PORT = 65535
PATHS = frozenset({"predictor", "config", "project_dir", "status_file"})


def parse(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Options:
    """Read the command line; wrong input ends with a usage message and status 2."""
    environment = os.environ if environment is None else environment
    parser = _parser()
    found = parser.parse_args([*_from_environment(parser, environment), *arguments])
    values = {key: value for key, value in vars(found).items() if value is not None}
    processes = values.pop("processes", None)
    if "ports" not in values:
        told = environment.get("PORT") or str(DEFAULT_PORT)
        try:
            values["ports"] = _integers(told)
        except argparse.ArgumentTypeError as error:
            parser.error(f"the environment variable PORT: {error}")
    for key in PATHS & values.keys():
        # The workers change to the user's folder, so what was said relative to ours must not move.
        values[key] = str(Path(values[key]).absolute())
    options = Options(**values)
    if processes and len(options.ports) == 1:
        first = options.ports[0]
        options = replace(options, ports=tuple(range(first, first + processes)))
    elif processes and processes != len(options.ports):
        parser.error(f"--processes {processes} needs as many ports, or one; got {options.ports}")
    if max(options.ports) > LAST_PORT:
        parser.error(f"there is no port {max(options.ports)}: the last one is {LAST_PORT}")
    if not Path(options.predictor).is_file():
        parser.error(f"there is no file {options.predictor}")
    if not options.folder.is_dir():
        parser.error(f"there is no folder {options.folder} (--project-dir)")
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
    add("--batch-max-wait-ms", type=_duration, help="how long a batch waits for more (5)")
    add("--body-max-bytes", type=_positive, help="largest request body (32 MiB)")
    add("--total-timeout-s", type=_seconds, help="longest time for one request (600)")
    add("--deregistration-delay-s", type=_duration, help="serve on this long after SIGTERM (0)")
    add("--drain-limit-s", type=_seconds, help="longest wait for requests in flight (600)")
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


def _duration(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"expected a time of at least 0, got {text!r}")
    return value


def _seconds(text: str) -> float:
    value = _duration(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, got {text!r}")
    return value
