"""`serai logs`: lines of all replicas, merged; following goes on through broken connections."""

import http.client
import sys
import threading
from collections.abc import Iterator
from datetime import datetime

from serai import wire
from serai.engine import LogLine
from serai.errors import ConfigError, Unavailable
from serai_cli.client import Client, api_path
from serai_cli.loglines import readable

RETRY_S = 1.0
HEARTBEAT_LIMIT_S = 40.0


def lines(
    client: Client,
    api: str,
    follow: bool,
    since_s: float | None,
    tail: int | None,
    grep: str,
    replicas: tuple[str, ...],
    version: str,
) -> Iterator[LogLine]:
    """Yield lines in time order; when following, a lost connection is taken up where it broke."""
    while True:
        path = api_path(
            api, "/logs", since=since_s, tail=tail, grep=grep, replica=replicas, version=version,
            follow=1 if follow else None,
        )  # fmt: skip
        try:
            for line in _read(client.open("GET", path)):
                since_s = line.at_s
                yield line
        except (Unavailable, OSError, http.client.HTTPException) as error:
            if not follow:
                raise Unavailable(f"the logs of {api} broke off: {error}") from error
        if not follow:
            return
        tail = None
        if since_s is not None:
            since_s += 1e-6
        threading.Event().wait(RETRY_S)


def _read(response: http.client.HTTPResponse) -> Iterator[LogLine]:
    while raw := response.readline():
        if raw.strip() == b"{}":
            continue
        try:
            yield wire.decode(raw, LogLine)
        except ConfigError as error:
            raise Unavailable(f"a line cannot be read: {error}") from error


def written(line: LogLine) -> str:
    """Return a line as text with its time and replica."""
    at = datetime.fromtimestamp(line.at_s).astimezone().strftime("%H:%M:%S.%f")[:-3]
    who = line.replica.partition(".")[2]
    return f"{at} {who} " + "\n".join(readable(line.text))


def show(stream: Iterator[LogLine], plain: bool) -> None:
    """Print lines as they come."""
    for line in stream:
        sys.stdout.write((wire.encode(line).decode() if plain else written(line)) + "\n")
        sys.stdout.flush()
