"""Who may call the operator API: two tokens, one for people and one for agents."""

import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Middleware

from serai.http import problem

OPEN_PATHS = ("/healthz", "/readyz")
REPORTS, BLOBS, WAKE = "/v1/reports", "/v1/blobs/", r"/v1/apis/[^/]+/wake"
FOR_AGENTS = (
    ("POST", re.compile(REPORTS)),
    ("GET", re.compile(r"/v1/info")),
    ("GET", re.compile(r"/v1/blobs/[0-9a-f]{64}")),
    ("POST", re.compile(WAKE)),
    ("GET", re.compile(WAKE)),
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Access:
    """What a scheduler asks of its callers.

    `hosts` are the names that it may be called by (Host header). `admin` may do everything, `agent`
    what agents need; "" is a token that nobody has. `admin` None lets everybody do everything.
    """

    hosts: frozenset[str]
    admin: str | None
    agent: str = ""


def agents_may(method: str, path: str) -> bool:
    """Say whether the agents' token is enough for a call."""
    return any(method == one and form.fullmatch(path) for one, form in FOR_AGENTS)


def guard(access: Access, report_refused: Callable[[str], None]) -> Middleware:
    """Refuse callers without the token, and browsers that were led here by another name.

    `report_refused` is told the address of whoever sends an agent's report without its token.
    """

    @web.middleware
    async def guarding(request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = _wrong_name(access, request)
        if refusal is None and request.path not in OPEN_PATHS:
            refusal = _wrong_token(access, request)
            if refusal is not None and request.path == REPORTS:
                report_refused(request.remote or "an unknown address")
        return await handler(request) if refusal is None else refusal

    return guarding


def _wrong_name(access: Access, request: web.Request) -> web.Response | None:
    host = request.host.lower()
    name = host.rpartition(":")[0] or host
    if name.strip("[]") in access.hosts or host.strip("[]") in access.hosts:
        return None
    return problem(
        421, "wrong_host", f"this scheduler is not called {name}; use one of its own names"
    )


def _wrong_token(access: Access, request: web.Request) -> web.Response | None:
    given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
    if access.admin is None or _is(given, access.admin):
        return None
    if not _is(given, access.agent):
        why = "the token is wrong" if given else "a token is needed"
        return problem(401, "unauthorized", f"{why}; {_where_tokens_are(request)}")
    if agents_may(request.method, request.path):
        return None
    return problem(
        403,
        "forbidden",
        "this is the agents' token: it reports, reads blobs and wakes APIs; use the admin's",
    )


def _where_tokens_are(request: web.Request) -> str:
    if request.path != REPORTS and not request.path.startswith(BLOBS):
        return "see `serai env --help`"
    return "an agent's `scheduler.token_file` has to hold what the schedulers' `tokens.agent` does"


def _is(given: bytes, token: str) -> bool:
    same = hmac.compare_digest(given, f"Bearer {token}".encode())
    return same and token != ""
