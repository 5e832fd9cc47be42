"""A box on a raw server, and the edge that speaks to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.domain.appointment import CANCEL_REASON_SYSTEM, Cancel
from gateway.domain.grant import Coding, Customer, CustomerKind, Ownership, Route, RouteKind
from gateway.flow.ports import Sender, Sighting, Upstream, UpstreamFault, WriteAnswer
from gateway.pkb.credentials import TokenSettings
from gateway.pkb.customer_fhir import BoxSettings, CustomerFhir
from gateway.pkb.http import LARGEST_ANSWER, HttpClient
from gateway.pkb.line import Line
from tests.edges.pkb_documents import appointment, patient
from tests.edges.raw_upstream import RawUpstream, Reply, raw_upstream, reply

CUSTOMER = Customer(
    "airedale",
    "Airedale",
    CustomerKind.ORGANISATION,
    "Organization/airedale",
    Route("airedale-box", RouteKind.CUSTOMER_FHIR, Ownership.MANAGING_ORGANISATION),
    ZoneInfo("Europe/London"),
    frozenset({"GENERAL_HEALTH"}),
)
CANCEL = Cancel((Coding(CANCEL_REASON_SYSTEM, "pat"),), reason_text="Moved away")
SENDER = Sender("swiftbook", None, "c-1", datetime(2026, 4, 2, 9, 15, 7, tzinfo=UTC))
GET = "GET /fhir/Appointment/a1"
PUT = "PUT /fhir/Appointment/a1"
PATIENT = "GET /fhir/Patient/p1"
TOKEN = "POST /token"


HTML = reply(200, b"<html>Sign in</html>", {"Content-Type": "text/html"})
HUGE = reply(200, b" " * (LARGEST_ANSWER + 1))
HALF = reply(200, b'{"resourceType"', length=500, close=True)


@dataclass
class Bench:
    """A box on a raw server, and the edge that speaks to it."""

    upstream: RawUpstream
    box: CustomerFhir
    alarms: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    async def read(self, seconds: float = 5.0, *, fresh: bool = True) -> Sighting | None:
        port: Upstream = self.box
        return await port.read(CUSTOMER, "a1", soon(seconds), fresh=fresh)

    async def fault(self, seconds: float = 5.0) -> UpstreamFault:
        with pytest.raises(UpstreamFault) as caught:
            await self.read(seconds)
        return caught.value

    async def sighting(self) -> Sighting:
        found = await self.read()
        assert found is not None
        return found

    async def write(self, seconds: float = 5.0) -> WriteAnswer:
        return await self.box.write(CUSTOMER, CANCEL, await self.sighting(), soon(seconds), sender=SENDER)


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


def box_at(url: str, token_url: str, http: HttpClient, alarms: list[tuple[str, dict[str, object]]]) -> CustomerFhir:
    def alarm(event: str, /, **facts: object) -> None:
        alarms.append((event, facts))

    settings = BoxSettings(f"{url}/fhir", TokenSettings(f"{token_url}/token", "gateway", "secret"))
    return CustomerFhir(settings, Line(http, "airedale-box"), lambda: 0.0, alarm)


def granted(token: str) -> Reply:
    return reply(200, {"access_token": token, "token_type": "bearer", "expires_in": 3600})


def cancelled(version: str = "18", **members: Any) -> dict[str, Any]:
    reason = {"coding": [{"system": CANCEL_REASON_SYSTEM, "code": "pat"}]}
    document = {"meta": {"versionId": version}, "status": "cancelled", "cancelationReason": reason}
    return appointment(**(document | members))


@asynccontextmanager
async def box() -> AsyncIterator[Bench]:
    """A box that answers as it should, until it is told otherwise."""
    async with raw_upstream() as upstream, HttpClient("gateway/test") as http:
        alarms: list[tuple[str, dict[str, object]]] = []
        bench = Bench(upstream, box_at(upstream.url, upstream.url, http, alarms), alarms)
        upstream.on(TOKEN, granted("t1"), granted("t2"), granted("t3"))
        upstream.on(GET, reply(200, appointment(), {"ETag": 'W/"17"'}))
        upstream.on(PATIENT, reply(200, patient()))
        upstream.on(PUT, reply(200, cancelled()))
        yield bench
        await bench.box.close()
