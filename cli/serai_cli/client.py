"""The operator API for commands that ask one thing, on the standard library: quick to load."""

import http.client
import json
import ssl
from typing import TypeVar
from urllib.parse import quote, urlencode, urlsplit

from serai import wire
from serai.errors import ConfigError, Refused, Unavailable
from serai.operator import Problem
from serai_cli.targets import Target

T = TypeVar("T")

DEADLINE_S = 30.0


class ProblemAnswer(Refused):
    """The scheduler refused; `problem` holds every reason."""

    def __init__(self, problem: Problem) -> None:
        lines = [each.message for each in problem.problems] or [problem.detail]
        super().__init__("\n".join(lines), problem.code)
        self.problem = problem


class Client:
    """Calls one scheduler; every call has a deadline and typed errors."""

    def __init__(self, target: Target, deadline_s: float = DEADLINE_S) -> None:
        self.target = target
        self._deadline_s = deadline_s

    def get(self, path: str, kind: type[T]) -> T:
        return self._call("GET", path, None, kind)

    def post(self, path: str, body: object, kind: type[T]) -> T:
        return self._call("POST", path, wire.encode(body) if body is not None else b"", kind)

    def delete(self, path: str, kind: type[T]) -> T:
        return self._call("DELETE", path, None, kind)

    def _call(self, method: str, path: str, body: bytes | None, kind: type[T]) -> T:
        response = self.open(method, path, body)
        try:
            return wire.decode(response.read(), kind)
        except ConfigError as error:
            raise Unavailable(
                f"{self.target.url} answers in a form that this CLI does not know ({error}); "
                "compare `serai version`"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._away(error) from error

    def open(self, method: str, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
        """Send a request and return the response, its status already checked."""
        try:
            connection = self._connection()
            headers = {"Authorization": f"Bearer {self.target.token}"} if self.target.token else {}
            if body is not None:
                headers["Content-Type"] = "application/json"
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            if response.status < 400:
                return response
            raw = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._away(error) from error
        raise self._refused(response, raw)

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.target.url)
        if not parts.hostname or parts.scheme not in ("http", "https"):
            raise ConfigError(f"{self.target.url!r} is not a URL such as http://127.0.0.1:7070")
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=self.target.ca or None)
            return http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=self._deadline_s, context=context
            )
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=self._deadline_s)

    def _away(self, error: Exception) -> Unavailable:
        hint = "is `serai up` running?" if self.target.name == "local" else "see `serai env show`"
        return Unavailable(
            f"cannot reach {self.target.url}: {error or type(error).__name__}; {hint}"
        )

    def _refused(self, response: http.client.HTTPResponse, raw: bytes) -> Refused | Unavailable:
        try:
            problem = wire.decode(raw, Problem)
        except ConfigError:
            return Unavailable(
                f"{self.target.url} answered {response.status}, but not as a Serai scheduler does"
            )
        if problem.status in (502, 503, 504):
            return Unavailable(problem.detail)
        return ProblemAnswer(problem)


def api_path(api: str, rest: str = "", **query: object) -> str:
    """Return the path of an API's call; empty query values are left out."""
    pairs = [(key, value) for key, value in query.items() if value not in (None, "", ())]
    text = urlencode(pairs, doseq=True)
    return f"/v1/apis/{quote(api, safe='')}{rest}" + (f"?{text}" if text else "")


def plain(value: object) -> object:
    """Return a typed answer as plain JSON values."""
    return json.loads(wire.encode(value))
