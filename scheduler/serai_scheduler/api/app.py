"""The operator HTTP API as an aiohttp application: who may call, and errors in one form."""

import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web
from aiohttp.typedefs import Middleware

from serai.blobs import Blobs, DiskFull
from serai.errors import ConfigError, Refused, SeraiError, Unavailable
from serai.http import ProblemAnswer, problem
from serai.operator import FieldProblem
from serai_scheduler.api.access import Access, guard
from serai_scheduler.api.handlers import Handlers, own_routes
from serai_scheduler.blobs.http import routes as blob_routes
from serai_scheduler.deploy import DeployRefused
from serai_scheduler.leadership import NoLeader
from serai_scheduler.service import Scheduler

log = logging.getLogger(__name__)

NOT_FOUND = ("not_found", "no_blob")
CONFLICTS = (
    "updating", "deleting", "conflict", "kind_changed", "out_of_bounds", "blobs_missing",
    "report_old", "only_node", "unreadable", "not_woken",
)  # fmt: skip
UNPROCESSABLE = frozenset(
    {"digest_mismatch", "size_mismatch", "bad_path", "invalid_spec", "incomplete", "damaged"}
)
TOO_LARGE = ("body_too_large", "blob_too_large", "too_large")
OVER = ("fenced", "lease_lost")
FORBIDDEN_TO_US = ("consul_forbidden", "nomad_forbidden")
"""It is the scheduler whose token is refused, not its caller's."""
RETRY_AFTER_S = "2"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(scheduler: Scheduler, token: str, hosts: frozenset[str]) -> web.Application:
    """Return the application of a scheduler that always leads, for callers with its one token."""
    access = Access(hosts, token)
    own = own_routes(scheduler)
    return assemble(lambda: scheduler, scheduler.blobs, scheduler.parts, access, own)


def assemble(
    leading: Callable[[], Scheduler],
    blobs: Blobs,
    parts: Blobs,
    access: Access,
    own: Sequence[web.RouteDef],
    between: Sequence[Middleware] = (),
) -> web.Application:
    """Return an application: `own` is what it tells of itself, all else is the leader's.

    `between` sees what callers may ask, before it is answered.
    """

    def report_refused(address: str) -> None:
        with contextlib.suppress(NoLeader):
            scheduler = leading()
            scheduler.refused_reports.add(address, scheduler.clock.now())

    middlewares = [_errors, guard(access, report_refused), *between]
    app = web.Application(middlewares=middlewares, client_max_size=2**31)
    app.add_routes(own)
    Handlers(leading).add_to(app)
    app.add_routes(blob_routes(blobs, parts))
    return app


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
        case NoLeader():
            return _no_leader(str(error))
        case Refused(code=code) if code in OVER:
            return _no_leader(f"the lead passed on meanwhile; ask again ({error})")
        case Refused(code=code) if code in FORBIDDEN_TO_US:
            return problem(503, code, str(error))
        case Refused(code=code):
            return problem(_status_of(code), code, str(error))
        case DiskFull():
            return problem(507, "disk_full", str(error))
        case Unavailable():
            return problem(503, "unavailable", str(error))
        case ConfigError():
            return problem(400, "bad_request", str(error), _fields(error))
    return problem(500, "internal", str(error))


def _no_leader(why: str) -> web.Response:
    answer = problem(503, "no_leader", why)
    answer.headers["Retry-After"] = RETRY_AFTER_S
    return answer


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
