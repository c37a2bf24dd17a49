"""`serai logs`: lines of all replicas, merged; following goes on through broken connections."""

import http.client
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from serai import wire
from serai.engine import LogLine
from serai.errors import ConfigError, Unavailable
from serai.operator import ApiDescription
from serai_cli.client import Client, api_path
from serai_cli.loglines import readable
from serai_cli.output import note
from serai_cli.text import escaped

RETRY_S = 1.0
MAX_LINE_BYTES = 2**20
LEAST_STEP_S = 1e-6


@dataclass(frozen=True)
class Query:
    """Which lines are wanted; `tail` None for all that are kept."""

    api: str
    tail: int | None
    grep: str
    replicas: tuple[str, ...]
    version: str


def known(
    described: ApiDescription, replicas: tuple[str, ...], version: str
) -> tuple[tuple[str, ...], str]:
    """Return the full names of replicas and of a version, which may be given as they are shown.

    Raises ConfigError for one that the API does not have: nothing would ever come.
    """
    api = described.status.name
    ids = [one.replica.id for one in described.replicas]
    names = [one.version.name for one in described.versions]
    full = tuple(name if name.startswith(f"{api}.") else f"{api}.{name}" for name in replicas)
    for name in full:
        if name not in ids:
            raise ConfigError(f"{api} has no replica {name}; it has {_listed(ids)}")
    if version and version not in names:
        numbered = [name for name in names if name.partition("-")[0] == version]
        if not numbered:
            raise ConfigError(f"{api} has no version {version}; it has {_listed(names)}")
        version = numbered[0]
    return full, version


def _listed(names: list[str]) -> str:
    return ", ".join(names) if names else "none"


def lines(client: Client, query: Query, follow: bool, since_s: float | None) -> Iterator[LogLine]:
    """Yield lines in time order; when following, a lost connection is taken up where it broke."""
    told = False
    while True:
        try:
            with client.open("GET", _path(query, follow, since_s)) as response:
                for line in _read(response):
                    since_s, told = line.at_s + LEAST_STEP_S, False
                    query = replace(query, tail=None)
                    yield line
        except (Unavailable, OSError, http.client.HTTPException) as error:
            away = error if isinstance(error, Unavailable) else client.away(error)
            if not follow:
                raise away from error
            if not told:
                note(f"{away}; following goes on when it answers")
                told = True
        if not follow:
            return
        threading.Event().wait(RETRY_S)


def _path(query: Query, follow: bool, since_s: float | None) -> str:
    return api_path(
        query.api,
        "/logs",
        since=since_s,
        tail=query.tail,
        grep=query.grep,
        replica=query.replicas,
        version=query.version,
        follow=1 if follow else None,
    )


def _read(response: http.client.HTTPResponse) -> Iterator[LogLine]:
    while raw := response.readline(MAX_LINE_BYTES + 1):
        if raw.strip() == b"{}":  # it shows that the other side lives
            continue
        if len(raw) > MAX_LINE_BYTES:
            raise Unavailable(f"a line of more than {MAX_LINE_BYTES} bytes came")
        try:
            yield wire.decode_answer(raw, LogLine)
        except ConfigError as error:
            raise Unavailable(f"a line cannot be read: {error}") from error


def written(line: LogLine) -> str:
    """Return a line as text with its time and replica."""
    at = datetime.fromtimestamp(line.at_s).astimezone().strftime("%H:%M:%S.%f")[:-3]
    who = line.replica.partition(".")[2]
    return f"{at} {who} " + "\n".join(readable(line.text))


def show(stream: Iterator[LogLine], as_json: bool, on_terminal: bool) -> None:
    """Print lines as they come; on a terminal nothing that a replica wrote moves the cursor."""
    for line in stream:
        text = wire.encode(line).decode() if as_json else written(line)
        if on_terminal and not as_json:
            text = "\n".join(escaped(part) for part in text.split("\n"))
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
