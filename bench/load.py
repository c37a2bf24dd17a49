"""Load for benchmarks: wrk for speed, and a client that checks every answer for truth."""

import asyncio
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

CRLF = "\r\n"
_UNIT_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class WrkResult:
    """What wrk saw: answers per second, latencies in milliseconds, and answers that were wrong."""

    rate: float
    p50_ms: float
    p99_ms: float
    errors: int


def wrk(
    url: str,
    *,
    connections: int,
    seconds: float,
    body: str | None = None,
    threads: int = 1,
    content_type: str = "application/json",
) -> WrkResult:
    """Run wrk against a URL; with a body it POSTs. Raises RuntimeError when wrk fails."""
    with TemporaryDirectory() as folder:
        command = ["wrk", "-t", str(threads), "-c", str(connections), "-d", f"{seconds:g}s"]
        command += ["--latency", "--timeout", "10s"]
        if body is not None:
            script = Path(folder) / "post.lua"
            script.write_text(
                f'wrk.method = "POST"\nwrk.body = [==[{body}]==]\n'
                f'wrk.headers["Content-Type"] = "{content_type}"\n'
            )
            command += ["-s", str(script)]
        done = subprocess.run(
            [*command, url], capture_output=True, text=True, timeout=seconds + 60, check=False
        )
    if done.returncode != 0:
        raise RuntimeError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    return parse_wrk(done.stdout)


def parse_wrk(text: str) -> WrkResult:
    """Read wrk's report."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    socket = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text
    )
    errors = int(bad.group(1)) if bad else 0
    errors += sum(int(number) for number in socket.groups()) if socket else 0
    return WrkResult(
        rate=float(rate.group(1)) if rate else 0.0,
        p50_ms=_latency(text, "50%"),
        p99_ms=_latency(text, "99%"),
        errors=errors,
    )


def _latency(text: str, which: str) -> float:
    found = re.search(rf"{re.escape(which)}\s+([\d.]+)(us|ms|s|m)\b", text)
    return float(found.group(1)) * _UNIT_MS[found.group(2)] if found else float("nan")


@dataclass
class Checked:
    """What the checking client saw."""

    right: int = 0
    wrong: int = 0
    lost: int = 0
    """Requests that were sent whole and never answered."""
    refused: int = 0
    """Connections that nobody accepted: the request was never sent, so nothing was lost."""
    latencies_s: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if len(self.notes) < 20:
            self.notes.append(text)


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class Lost(ConnectionError):
    """A request was sent and the connection ended without a whole answer."""


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Read one answer with a Content-Length or in chunks; raises Lost when it is cut off."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        else:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise Lost(f"no whole answer: {error!r}") from error
    return Answer(int(first.split()[1]), headers, body)


def post(path: str, body: bytes, last: bool = False) -> bytes:
    """Return a POST request as bytes; the last one of its connection says so."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{'Connection: close' + CRLF if last else ''}\r\n"
    ).encode() + body


class CheckedClient:
    """Closed-loop connections that check every answer and honour `Connection: close`.

    `make(n)` returns the n-th request's bytes and what its answer's body must be.
    """

    def __init__(self, host: str, port: int, make: Callable[[int], tuple[bytes, bytes]]) -> None:
        self._host, self._port, self._make = host, port, make
        self._number = 0
        self.stopped = False
        self.seen = Checked()

    async def run(self, connections: int, seconds: float = 1e9, requests: int = 1 << 60) -> Checked:
        """Send until the time is over, the requests are sent, nobody listens, or `stopped`."""
        end_s = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(self._connection(end_s, requests))
        return self.seen

    async def _connection(self, end_s: float, requests: int) -> None:
        while self._more(end_s, requests):
            try:
                reader, writer = await asyncio.open_connection(self._host, self._port)
            except OSError:
                self.seen.refused += 1
                return
            try:
                await self._serve(reader, writer, end_s, requests)
            finally:
                writer.close()

    def _more(self, end_s: float, requests: int) -> bool:
        return not self.stopped and time.monotonic() < end_s and self._number < requests

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        end_s: float,
        requests: int,
    ) -> None:
        """Use one connection until it is told to close or ends."""
        while self._more(end_s, requests):
            self._number += 1
            request, wanted = self._make(self._number)
            began_s = time.monotonic()
            try:
                writer.write(request)
                answer = await read_answer(reader)
            except Lost as error:
                self.seen.lost += 1
                self.seen.note(f"{error} after {time.monotonic() - began_s:.3f} s")
                return
            self.seen.latencies_s.append(time.monotonic() - began_s)
            if answer.status == 200 and answer.body == wanted:
                self.seen.right += 1
            else:
                self.seen.wrong += 1
                self.seen.note(f"{answer.status} {answer.body[:200]!r}, wanted {wanted!r}")
            if answer.headers.get("connection", "").lower() == "close":
                return
