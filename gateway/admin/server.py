"""The admin port: health, metrics, the audit stream and the console. Never reachable through the partner port."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from gateway.admin.access import LOGIN, OPERATOR, Access
from gateway.admin.console import Console
from gateway.admin.deeds import Deeds
from gateway.admin.feed import Feed
from gateway.admin.pages import ASSETS, HEADERS, Pages, asset
from gateway.admin.sources import Sources
from gateway.admin.stream import Stream

BODY: Final = 64 * 1024
"""Bytes of a form."""

_log = structlog.get_logger("pkb_gateway")


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether new requests are welcome; `checks` names what is unusable, `degraded` what merely needs a look."""

    checks: Mapping[str, bool]
    degraded: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Red when audit, state or grants are unusable, or while draining; PKB being down leaves it green."""
        return all(self.checks.values())

    @property
    def status(self) -> str:
        """One word."""
        if not self.ready:
            return "unready"
        return "degraded" if self.degraded else "ready"


@dataclass(frozen=True, slots=True)
class Admin:
    """The admin side."""

    readiness: Callable[[], Awaitable[Readiness]]
    metrics: Callable[[], bytes]
    access: Access
    sources: Sources
    pages: Pages = field(default_factory=Pages)

    def application(self) -> web.Application:
        """Give the application for the admin port."""
        app = web.Application(middlewares=[self._guard], client_max_size=BODY)
        console = Console(self.sources, self.access, self.pages)
        feed = Feed(self.sources.audit.source)
        app.add_routes(
            [
                web.get("/health/live", self._live),
                web.get("/health/ready", self._ready),
                web.get("/metrics", self._metrics),
                web.get("/audit/stream", Stream(feed, self.sources.audit.recent).answer, allow_head=False),
                web.get("/static/{name}", self._asset),
                *console.routes(),
                *Deeds(console).routes(),
            ]
        )
        app.on_response_prepare.append(_guarded_response)

        async def end(_: web.Application) -> None:
            await feed.close()

        # Who watches is told before the server waits for its answers to end.
        app.on_shutdown.append(end)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self.access.knows_host(request.host):
            return _json(421, {"error": "this Host is not served here; see admin.hosts"})
        operator = self.access.operator(request)
        if not self.access.may_look(request, operator):
            return _sent_to_login(request)
        if request.method == hdrs.METH_POST and not self.access.is_own(request):
            return await self._error(request, web.HTTPForbidden(reason="the form is not one of this console's own"))
        request[OPERATOR] = operator
        try:
            return await handler(request)
        except web.HTTPRedirection:
            raise
        except web.HTTPException as error:
            return await self._error(request, error)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever failed, a person gets a page and the log a trace
            _log.error("fault", what=request.path, exc_info=error)
            return await self._error(request, web.HTTPInternalServerError(reason="the gateway failed; see its log"))

    async def _error(self, request: web.Request, error: web.HTTPException) -> web.StreamResponse:
        """Tell an error as JSON, or to a browser as a page."""
        if not _is_browser(request):
            answer = _json(error.status, {"error": error.reason})
        else:
            console = Console(self.sources, self.access, self.pages)
            answer = await console.show(request, "error.html", {"reason": error.reason}, error.status)
        if (allow := error.headers.get(hdrs.ALLOW)) is not None:
            answer.headers[hdrs.ALLOW] = allow
        return answer

    async def _live(self, _: web.Request) -> web.Response:
        return _json(200, {"status": "live"})

    async def _ready(self, _: web.Request) -> web.Response:
        state = await self.readiness()
        body = {"status": state.status, "checks": dict(state.checks), "degraded": list(state.degraded)}
        return _json(200 if state.ready else 503, body)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self.metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _asset(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in ASSETS:
            raise web.HTTPNotFound
        return web.Response(body=asset(name), content_type=ASSETS[name], charset="utf-8")


async def _guarded_response(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers[name] = value


def _sent_to_login(request: web.Request) -> web.Response:
    if request.method in {hdrs.METH_GET, hdrs.METH_HEAD} and _is_browser(request):
        going_to = urlencode({"next": request.path_qs})
        return web.Response(status=303, headers={hdrs.LOCATION: f"{LOGIN}?{going_to}"})
    answer = _json(401, {"error": "send an operator's token as Authorization: Bearer"})
    answer.headers[hdrs.WWW_AUTHENTICATE] = 'Bearer realm="pkb-gateway-admin"'
    return answer


def _is_browser(request: web.Request) -> bool:
    return "text/html" in request.headers.get(hdrs.ACCEPT, "")


def _json(status: int, body: Mapping[str, object]) -> web.Response:
    return web.Response(status=status, body=json.dumps(body).encode(), content_type="application/json")
