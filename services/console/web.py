"""HTTP as a whole: the API and the pages behind one guard, and `/healthz`.

On a loopback address only requests that name a loopback host are answered, so that a web page elsewhere can't read
traces by pointing its own name at this machine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web

from services.console import api, site
from services.console.api import Api
from services.console.intake import Intake
from services.console.pages import layout
from services.console.query import BadQuery
from services.console.reader import Damaged, TooSlow, Unavailable
from services.console.reading import Reading
from services.console.site import Site

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_HEADERS = {
    "Content-Security-Policy": layout.POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Web:
    """The console over HTTP; `application()` is what a server serves."""

    def __init__(self, reading: Reading, intake: Intake, *, host: str, max_bytes: int) -> None:
        self._reading = reading
        self._intake = intake
        self._is_local = _is_loopback(host)
        self._max_bytes = max_bytes

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard])
        application.add_routes(Api(self._reading).routes())
        application.add_routes(Site(self._reading, self._intake, max_bytes=self._max_bytes).routes())
        application.router.add_get("/healthz", self._healthz)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await self._answer(request, handler)
        response.headers.update(_HEADERS)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        failed = api.failed if request.path.startswith(("/api/", "/healthz")) else site.failed
        if self._is_local and not _is_loopback(_host_name(request)):
            return failed(403, "this console answers only to a loopback host name")
        try:
            return await handler(request)
        except web.HTTPRedirection as redirection:
            return web.Response(status=redirection.status, headers={"Location": redirection.headers["Location"]})
        except web.HTTPException as problem:
            return failed(problem.status, f"{request.path}: {problem.reason}")
        except BadQuery as problem:
            return failed(400, str(problem))
        except TooSlow as problem:
            return failed(504, str(problem))
        except Unavailable as problem:
            return failed(503, str(problem))
        except Damaged:
            await self._intake.repair()
            return failed(503, "the trace file was damaged; it was moved aside and a new one begun")

    async def _healthz(self, request: web.Request) -> web.Response:
        """200 as long as the console serves; `status` says whether spans reach the disk."""
        tally = self._intake.tally
        return web.json_response(
            {
                "status": "degraded" if tally.last_problem else "ok",
                "problem": tally.last_problem,
                "received": tally.received,
                "stored": tally.stored,
                "queued": self._intake.queued_spans,
                "dropped": dict(tally.dropped),
                "file_bytes": self._intake.file_bytes,
                "max_bytes": self._max_bytes,
            }
        )


def _host_name(request: web.Request) -> str:
    try:
        return urlsplit(f"//{request.host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
