"""Where a call is answered: here while this scheduler leads, else by the leader or the store."""

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from serai.errors import Refused
from serai.http import answer
from serai.operator import ApiList
from serai_scheduler.api.handlers import OPENAPI
from serai_scheduler.blobs.peer_routes import PEER_BLOBS
from serai_scheduler.leadership import NoLeader
from serai_scheduler.program.forward import Forwarder, LeaderUnknown
from serai_scheduler.program.offline import stored_description, stored_status
from serai_scheduler.program.settings import BlobsLie
from serai_scheduler.program.term import Terms
from serai_scheduler.state import State

OWN_PATHS = ("/healthz", "/readyz", "/metrics", OPENAPI)
READ_S = 3.0
"""How long the leader may take for a read that the store answers, too."""
ANSWERED_BY = "Serai-Answered-By"
BLOBS = "/v1/blobs/"
ASKED = f"{BLOBS}missing"
"""The leader hears of it wherever blobs lie: what was asked about it does not collect."""
APIS = "/v1/apis"


class Passing:
    """The middleware of a cluster's scheduler.

    `blobs_lie` says who serves blobs: of a shared store any scheduler does everything; where a
    majority holds each, any gives them out, and the leader takes them in.
    """

    def __init__(
        self,
        terms: Terms,
        forwarder: Forwarder,
        state: State,
        gateway_url: str,
        blobs_lie: BlobsLie,
    ) -> None:
        self._terms = terms
        self._forwarder = forwarder
        self._state = state
        self._gateway_url = gateway_url
        self._blobs_lie = blobs_lie

    def middleware(self) -> Middleware:
        """Return it as aiohttp takes it."""

        @web.middleware
        async def passing(request: web.Request, handler: Handler) -> web.StreamResponse:
            if self._is_own(request) or self._terms.current is not None:
                return await handler(request)
            return await self._elsewhere(request)

        return passing

    def _is_own(self, request: web.Request) -> bool:
        path = request.path
        if path in OWN_PATHS or path.startswith(PEER_BLOBS):
            return True
        if not path.startswith(BLOBS) or path == ASKED:
            return False
        gives = request.method == hdrs.METH_GET and self._blobs_lie is BlobsLie.MAJORITY
        return gives or self._blobs_lie is BlobsLie.SHARED

    async def _elsewhere(self, request: web.Request) -> web.StreamResponse:
        api = _record_asked(request)
        try:
            return await self._forwarder.pass_on(request, READ_S if api is not None else None)
        except NoLeader as error:
            if api is None or isinstance(error, LeaderUnknown):
                raise
            return await self._stored(api)

    async def _stored(self, api: str) -> web.Response:
        """Answer from the store: one API, or the list for ""."""
        apis = await self._state.read()
        self._state.check(api)
        url, why_not = self._gateway_url, self._terms.why_not
        if not api:
            listed = (stored_status(apis[name], url, why_not) for name in sorted(apis))
            found = answer(ApiList(apis=tuple(listed)))
        elif api in apis:
            found = answer(stored_description(apis[api], url, why_not))
        else:
            raise Refused(f"there is no API {api}", "not_found")
        found.headers[ANSWERED_BY] = "store"
        return found


def _record_asked(request: web.Request) -> str | None:
    """Return the API whose record is asked for, "" for those of all, None for anything else."""
    if request.method != hdrs.METH_GET:
        return None
    if request.path == APIS:
        return ""
    api = request.path.removeprefix(f"{APIS}/")
    return api if api != request.path and api and "/" not in api else None
