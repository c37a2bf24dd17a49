"""The operator HTTP API as an aiohttp application: who may call, and errors in one form."""

import hmac
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from serai.blobs import DiskFull
from serai.errors import ConfigError, Refused, SeraiError, Unavailable
from serai.http import ProblemAnswer, problem
from serai.operator import FieldProblem
from serai_scheduler.api.handlers import Handlers
from serai_scheduler.blobs.http import routes as blob_routes
from serai_scheduler.deploy import DeployRefused
from serai_scheduler.service import Scheduler

log = logging.getLogger(__name__)

OPEN_PATHS = ("/healthz", "/readyz")
NOT_FOUND = ("not_found", "no_blob")
CONFLICTS = (
    "updating", "deleting", "conflict", "kind_changed", "out_of_bounds", "blobs_missing",
    "report_old",
)  # fmt: skip
UNPROCESSABLE = ("digest_mismatch", "bad_path", "invalid_spec", "incomplete", "damaged")
TOO_LARGE = ("body_too_large", "blob_too_large", "too_large")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(scheduler: Scheduler, token: str, hosts: frozenset[str]) -> web.Application:
    """Return the application; `hosts` are the names that it may be called by (Host header)."""
    app = web.Application(middlewares=[_errors, _guard(token, hosts)], client_max_size=2**31)
    Handlers(scheduler).add_to(app)
    app.add_routes(blob_routes(scheduler.blobs, scheduler.parts))
    return app


def _guard(token: str, hosts: frozenset[str]) -> Middleware:
    """Refuse callers without the token, and browsers that were led here by another name."""
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.host.lower()
        name = host.rpartition(":")[0] or host
        if name.strip("[]") not in hosts and host.strip("[]") not in hosts:
            return problem(
                421, "wrong_host", f"this scheduler is not called {name}; use one of its own names"
            )
        if request.path not in OPEN_PATHS:
            given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(given, expected):
                why = "the token is wrong" if given else "a token is needed"
                return problem(401, "unauthorized", f"{why}; see `serai env --help`")
        return await handler(request)

    return guard


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except DeployRefused as refused:
        status = 409 if refused.code in CONFLICTS else 422
        return problem(status, refused.code, str(refused), refused.problems)
    except SeraiError as error:
        return _as_problem(error)
    except web.HTTPException as error:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status, "http")
        return problem(error.status, code, f"{request.method} {request.path}: {error.reason}")


def _as_problem(error: SeraiError) -> web.Response:
    match error:
        case ProblemAnswer(problem=body):
            return problem(body.status, body.code, body.detail, body.problems)
        case Refused(code=code):
            return problem(_status_of(code), code, str(error))
        case DiskFull():
            return problem(507, "disk_full", str(error))
        case Unavailable():
            return problem(503, "unavailable", str(error))
        case ConfigError():
            return problem(400, "bad_request", str(error), _fields(error))
    return problem(500, "internal", str(error))


def _fields(error: ConfigError) -> tuple[FieldProblem, ...]:
    return (FieldProblem(path="", message=str(error)),)


def _status_of(code: str) -> int:
    if code in NOT_FOUND:
        return 404
    if code in CONFLICTS:
        return 409
    if code in TOO_LARGE:
        return 413
    return 422 if code in UNPROCESSABLE else 400
