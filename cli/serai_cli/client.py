"""The operator API for commands that ask one thing, on the standard library: quick to load."""

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TypeVar
from urllib.parse import quote, urlencode

from serai import wire
from serai.clock import SystemClock
from serai.errors import ConfigError, Refused, Unavailable
from serai.operator import FieldProblem, Problem
from serai_cli.targets import LOCAL, Target, address_of, context_of

T = TypeVar("T")

DEADLINE_S = 30.0
MAX_ANSWER_BYTES = 64 * 2**20
CHUNK_BYTES = 2**16


class ProblemAnswer(Refused):
    """The scheduler refused; `problem` holds every reason."""

    def __init__(self, problem: Problem) -> None:
        lines = [_line(each) for each in problem.problems] or [problem.detail]
        super().__init__("\n".join(lines), problem.code)
        self.problem = problem


def _line(one: FieldProblem) -> str:
    """Return a problem of a request in a line; its message names the path where that matters."""
    place = f"{one.file}:{one.line}:{one.column}: " if one.file and one.line else ""
    return place + one.message


class Client:
    """Calls one scheduler; every call has a deadline, a limit and typed errors."""

    def __init__(self, target: Target, deadline_s: float = DEADLINE_S) -> None:
        self.target = target
        self._deadline_s = deadline_s
        self._clock = SystemClock()

    def get(self, path: str, kind: type[T]) -> T:
        return self._call("GET", path, None, kind)

    def post(self, path: str, body: object, kind: type[T]) -> T:
        return self._call("POST", path, wire.encode(body) if body is not None else b"", kind)

    def delete(self, path: str, kind: type[T]) -> T:
        return self._call("DELETE", path, None, kind)

    def _call(self, method: str, path: str, body: bytes | None, kind: type[T]) -> T:
        began_s = self._clock.now()
        try:
            with self.open(method, path, body) as response:
                data = self._read(response, began_s)
        except (OSError, http.client.HTTPException) as error:
            raise self.away(error) from error
        try:
            return wire.decode_answer(data, kind)
        except ConfigError as error:
            raise Unavailable(
                f"{self.target.url} answers in a form that this CLI does not know ({error}); "
                "compare `serai version`"
            ) from error

    @contextmanager
    def open(
        self, method: str, path: str, body: bytes | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request and lend the response, its status already checked."""
        connection = connection_to(self.target.url, self.target.ca, self._deadline_s)
        with closing(connection), closing(self._send(connection, method, path, body)) as response:
            if response.status >= 400:
                raise self._refused(response, self._read(response, self._clock.now()))
            yield response

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None
    ) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self.target.token}"} if self.target.token else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body=body, headers=headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self.away(error) from error
        except ValueError as error:  # a token with a line break in it, for one
            raise ConfigError(f"cannot ask {self.target.url}: {error}") from error

    def _read(self, response: http.client.HTTPResponse, began_s: float) -> bytes:
        data = bytearray()
        while chunk := response.read1(CHUNK_BYTES):
            data += chunk
            if len(data) > MAX_ANSWER_BYTES:
                raise Unavailable(f"{self.target.url} answers more than {MAX_ANSWER_BYTES} bytes")
            if self._clock.now() - began_s > self._deadline_s:
                raise TimeoutError(f"no whole answer within {self._deadline_s:g} s")
        if response.length:
            raise http.client.IncompleteRead(bytes(data), response.length)
        return bytes(data)

    def away(self, error: Exception) -> Unavailable:
        """Return the error for a scheduler that does not answer, with what to do about it."""
        if self.target.name == LOCAL:
            hint = "is `serai up` running? See `serai doctor`"
        elif isinstance(error, ssl.SSLError):
            hint = "name its certificate with `serai env set NAME --url URL --ca FILE`"
        else:
            hint = "does it run, and is the URL right? See `serai env show`"
        return Unavailable(f"cannot reach {self.target.url}: {reason_of(error)}; {hint}")

    def _refused(self, response: http.client.HTTPResponse, raw: bytes) -> Refused | Unavailable:
        try:
            problem = wire.decode_answer(raw, Problem)
        except ConfigError:
            return Unavailable(
                f"{self.target.url} answers {response.status}, but not as a Serai scheduler does; "
                "is it the URL of the operator API (port 7070), not of the gateway?"
            )
        if problem.status in (502, 503, 504):
            return Unavailable(problem.detail)
        return ProblemAnswer(problem)


def connection_to(url: str, ca: str, deadline_s: float) -> http.client.HTTPConnection:
    """Return a connection for a URL, not yet open; ConfigError when it is no URL."""
    address = address_of(url)
    if address.secure:
        return http.client.HTTPSConnection(
            address.host, address.port, timeout=deadline_s, context=context_of(ca)
        )
    return http.client.HTTPConnection(address.host, address.port, timeout=deadline_s)


def reason_of(error: Exception) -> str:
    """Return what went wrong with a connection, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be verified ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    if isinstance(error, http.client.IncompleteRead):
        return "the answer broke off"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def api_path(api: str, rest: str = "", **query: str | float | Sequence[str] | None) -> str:
    """Return the path of an API's call; empty query values are left out."""
    pairs = [(key, value) for key, value in query.items() if value not in (None, "", ())]
    text = urlencode(pairs, doseq=True)
    return f"/v1/apis/{quote(api, safe='')}{rest}" + (f"?{text}" if text else "")


def node_path(node: str) -> str:
    """Return the path of a node's call."""
    return f"/v1/nodes/{quote(node, safe='')}"


def plain(value: object) -> object:
    """Return a typed answer as plain JSON values."""
    return json.loads(wire.encode(value))
