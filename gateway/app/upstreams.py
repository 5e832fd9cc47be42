"""The routes of the settings, opened as edges towards PKB."""

import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Protocol, assert_never

import structlog

from gateway import __version__
from gateway.configuration.settings import CustomerFhirRoute, Hl7Route, Settings, TokenServer
from gateway.flow.ports import UpstreamObserver
from gateway.pkb.aggregated import AggregatedSettings
from gateway.pkb.credentials import TokenSettings, TokenStyle
from gateway.pkb.customer_fhir import BoxSettings, CustomerFhir
from gateway.pkb.hl7_route import Hl7Route as Hl7Upstream
from gateway.pkb.hl7_route import Hl7Settings, Login
from gateway.pkb.http import HttpClient
from gateway.pkb.line import Line
from gateway.pkb.upstreams import RouteUpstream, Upstreams

_log = structlog.get_logger("pkb_gateway")


class Logins(Protocol):
    """Knows what PKB's HL7 endpoint knows partners by."""

    def hl7_login(self, partner: str) -> Login | None:
        """Find the login of a partner."""
        ...


async def open_upstreams(
    settings: Settings,
    logins: Logins,
    count: Callable[[str], None],
    observers: Sequence[UpstreamObserver],
    shed: Callable[[], None],
    stack: AsyncExitStack,
) -> Upstreams:
    """Open every route; `count` is told the name of every surprise, `observers` of every exchange,
    and `shed` is called for each request that found no room for its customer.

    Raises ValueError for a route that cannot be.
    """
    http = await stack.enter_async_context(HttpClient(f"pkb-gateway/{__version__}"))

    def alarm(event: str, /, **facts: object) -> None:
        _log.error("upstream alarm", alarm=event, **facts)
        count(event)

    def tell(what: str, /, *, route: str, reason: str, status: int | str | None) -> None:
        _log.info("upstream trouble", what=what, route=route, reason=reason, status=status)

    routes: dict[str, RouteUpstream] = {}
    for name, route in settings.routes.items():
        line = Line(http, name, observers)
        match route:
            case CustomerFhirRoute():
                box = BoxSettings(route.base_url, _token(route.token), route.fhir_version, route.cancelation_reason)
                routes[name] = CustomerFhir(box, line, random.random, alarm)
            case Hl7Route():
                if route.read.fhir_version != "R4":
                    raise ValueError(f"routes.{name}.read.fhir_version: PKB's aggregated FHIR is R4")
                read = AggregatedSettings(route.read.base_url, _token(route.read.token), route.read.placer_id_system)
                hl7 = Hl7Settings(route.url, route.processing_id, read)
                routes[name] = Hl7Upstream(hl7, line, random.random, logins.hl7_login)
            case unexpected:
                assert_never(unexpected)
    upstreams = Upstreams(routes, settings.limits.per_customer, tell=tell, shed=shed)
    stack.push_async_callback(upstreams.close)
    return upstreams


def _token(server: TokenServer) -> TokenSettings:
    return TokenSettings(server.url, server.client_id.reveal(), server.client_secret.reveal(), TokenStyle(server.style))
