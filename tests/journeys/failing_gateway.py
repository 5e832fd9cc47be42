"""A gateway that fails as a request asks for: `python -m tests.journeys.failing_gateway serve …`.

The header `X-Fail` of a request names the failure. The gateway itself knows no such header.
"""

from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from aiohttp import web

from gateway.cli.main import main
from gateway.flow.ports import JournalUnavailable, StateUnavailable
from gateway.partner.routes import Api
from gateway.storage.journal import Journal
from gateway.storage.store import Store

FAILURE = ContextVar("FAILURE", default="")
HASTE = 0.6
"""Seconds that a hurried request has."""

handle = Api.handle


async def handle_failing(self: Api, request: web.BaseRequest) -> web.StreamResponse:
    failure = request.headers.get("X-Fail", "")
    FAILURE.set(failure)
    desk = self.desk
    match failure:
        case "draining":
            return await handle(replace(self, draining=True), request)
        case "overloaded":
            desk = replace(desk, limits=replace(desk.limits, in_flight=0))
        case "hurried":
            desk = replace(desk, limits=replace(desk.limits, deadline=HASTE))
    return await handle(replace(self, desk=desk), request)


def failing(method: Any, failure: str, fault: type[Exception]) -> Any:
    async def called(self: Any, *given: Any, **named: Any) -> Any:
        if FAILURE.get() == failure:
            raise fault("asked for")
        return await method(self, *given, **named)

    return called


def bend() -> None:
    wrapped: list[tuple[type, str, str, type[Exception]]] = [(Journal, "write", "audit", JournalUnavailable)]
    wrapped += [(Api, "_answer", "internal", RuntimeError)]
    wrapped += [(Store, name, "state", StateUnavailable) for name in ("claim_key", "find", "remember_jti", "look")]
    replaced: list[tuple[type, str, Any]] = [(Api, "handle", handle_failing)]
    replaced += [(kind, name, failing(getattr(kind, name), why, fault)) for kind, name, why, fault in wrapped]
    for kind, name, bent in replaced:
        setattr(kind, name, bent)


if __name__ == "__main__":
    bend()
    main()
