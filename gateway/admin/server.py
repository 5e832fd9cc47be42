"""The admin port: health and metrics. Never reachable through the partner port."""

import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

HEALTH: Final = "/health/"


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
    """The admin side. `operators` maps the SHA-256 of a token to a name."""

    readiness: Callable[[], Awaitable[Readiness]]
    metrics: Callable[[], bytes]
    hosts: frozenset[str]
    loopback: bool
    operators: Mapping[str, str] = field(default_factory=dict)

    def application(self) -> web.Application:
        """Give the application for the admin port."""
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/health/live", self._live)
        app.router.add_get("/health/ready", self._ready)
        app.router.add_get("/metrics", self._metrics)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        # A page in a browser can be made to talk to a loopback port under a name of its own (DNS rebinding).
        if not self._knows_host(request.host):
            return _json(421, {"error": "this Host is not served here; see admin.hosts"})
        if not request.path.startswith(HEALTH) and not self.loopback and self._operator(request) is None:
            answer = _json(401, {"error": "send an operator's token as Authorization: Bearer"})
            answer.headers["WWW-Authenticate"] = 'Bearer realm="pkb-gateway-admin"'
            return answer
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = _json(error.status, {"error": error.reason})
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    def _knows_host(self, host: str) -> bool:
        name = host.rsplit(":", 1)[0].strip("[]").lower() if not _is_address(host) else host
        return name in self.hosts or host.lower() in self.hosts

    def _operator(self, request: web.Request) -> str | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        digest = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
        found = None
        for known, name in self.operators.items():
            if hmac.compare_digest(known, digest):
                found = name
        return found if scheme.lower() == "bearer" else None

    async def _live(self, _: web.Request) -> web.Response:
        return _json(200, {"status": "live"})

    async def _ready(self, _: web.Request) -> web.Response:
        state = await self.readiness()
        body = {"status": state.status, "checks": dict(state.checks), "degraded": list(state.degraded)}
        return _json(200 if state.ready else 503, body)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self.metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def _json(status: int, body: Mapping[str, object]) -> web.Response:
    return web.Response(status=status, body=json.dumps(body).encode(), content_type="application/json")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
