import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

import pytest

from gateway.domain.appointment import CANCEL_REASON_SYSTEM, Cancel, Change, Instant, PatientClaim, Status, Write
from gateway.domain.codes import Code
from gateway.domain.grant import Coding, Customer, CustomerKind, Ownership, Route, RouteKind
from gateway.flow.ports import Acknowledged, Doubt, NotSent, Sender, Sighting, Turned
from gateway.pkb.aggregated import AggregatedSettings
from gateway.pkb.breaker import FAILURES, BreakerState
from gateway.pkb.credentials import TokenSettings
from gateway.pkb.hl7_route import Hl7Answer, Hl7Route, Hl7Settings, Login
from gateway.pkb.http import HttpClient
from gateway.pkb.line import Line
from tests.edges.raw_upstream import HANG_UP, Heard, RawUpstream, Reply, raw_upstream, reply
from tests.edges.test_aggregated import GET, PATIENT, PLACER, TOKEN, copy, granted, person, soon
from tests.edges.test_hl7_ack import ack

CUSTOMER = Customer(
    "bradford",
    "Bradford",
    CustomerKind.ORGANISATION,
    "Organization/bradford",
    Route("bradford", RouteKind.HL7, Ownership.RESOURCE_META),
    ZoneInfo("Europe/London"),
    frozenset({"GENERAL_HEALTH"}),
)
CLAIM = PatientClaim("9990548609", date(1960, 2, 28))
CANCEL = Cancel((Coding(CANCEL_REASON_SYSTEM, "pat"),), claim=CLAIM)
START = Instant(datetime(2026, 5, 1, 8, 30, tzinfo=UTC), "2026-05-01T08:30:00Z")
END = Instant(datetime(2026, 5, 1, 9, 0, tzinfo=UTC), "2026-05-01T09:00:00Z")
ID = "c0ffee-0001"
SENDER = Sender("swiftbook", "bradford", ID, datetime(2026, 4, 2, 9, 15, 7, tzinfo=UTC))
POST = "POST /services/hl7"
LOGINS = {"swiftbook": Login("partner_swift", "pass:wörd")}


@dataclass
class Bench:
    """PKB on a raw server, and the route that speaks to it."""

    upstream: RawUpstream
    route: Hl7Route
    logins: dict[str, Login] = field(default_factory=lambda: dict(LOGINS))

    async def sighting(self, **members: Any) -> Sighting:
        self.upstream.on(GET, reply(200, copy(**members)))
        found = await self.route.read(CUSTOMER, "agg-1", soon(), fresh=True)
        assert found is not None
        return found

    async def write(
        self, command: Write = CANCEL, seconds: float = 5.0, sender: Sender = SENDER, **members: Any
    ) -> Hl7Answer:
        sighting = await self.sighting(**members)
        return await self.route.write(CUSTOMER, command, sighting, soon(seconds), sender=sender)

    async def said(self, command: Write, **members: Any) -> list[str]:
        assert await self.write(command, **members) == Acknowledged("AA", ID)
        (heard,) = self.upstream.all(POST)
        return message_of(heard)


def message_of(heard: Heard) -> list[str]:
    (argument,) = ET.fromstring(heard.body).iter("arg0")
    return (argument.text or "").split("\r")[:-1]


def route_at(url: str, soap_url: str, http: HttpClient, logins: dict[str, Login]) -> Hl7Route:
    token = TokenSettings(f"{url}/token", "gateway", "secret")
    settings = Hl7Settings(f"{soap_url}/services/hl7", "P", AggregatedSettings(f"{url}/fhir", token, PLACER))
    return Hl7Route(settings, Line(http), lambda: 0.99, logins.get)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with raw_upstream() as upstream, HttpClient("gateway/test") as http:
        logins = dict(LOGINS)
        bench = Bench(upstream, route_at(upstream.url, upstream.url, http, logins), logins)
        upstream.on(TOKEN, granted("t1"))
        upstream.on(PATIENT, reply(200, person()))
        upstream.on(POST, reply(200, ack(f"MSA|AA|{ID}")))
        yield bench
        await bench.route.close()


async def test_a_cancel_is_one_minimal_s15_with_the_birth_date_the_partner_believes_in(bench: Bench) -> None:
    assert await bench.said(CANCEL) == [
        "MSH|^~\\&|PKB-GATEWAY|bradford{bradford}|HL7API|PKB|20260402101507||SIU^S15|c0ffee-0001|P|2.4",
        "PID|||9990548609^^^NHS^NH||Test^Ada||19600228",
        "SCH|APPT000001",
    ]


async def test_without_a_claim_no_birth_date_is_vouched_for(bench: Bench) -> None:
    assert (await bench.said(replace(CANCEL, claim=PatientClaim())))[1] == "PID|||9990548609^^^NHS^NH||Test^Ada"


async def test_a_change_of_times_is_an_s13_with_what_pkb_would_lose(bench: Bench) -> None:
    assert (await bench.said(Change(START, END, claim=CLAIM)))[0].split("|")[8] == "SIU^S13"
    (heard,) = bench.upstream.all(POST)
    assert message_of(heard)[2:] == [
        "SCH|APPT000001||||||||||^^^202605010930^202605011000",
        "PV1||O||||||||320",
        "RGS|",
        "AIP|||^Dr Jones (Consultant)|^Consultant",
        "AIP|||^Nurse Smith",
    ]


async def test_a_change_of_texts_is_an_s14(bench: Bench) -> None:
    url = "https://manage.partner.example/a?b=1&c=2"
    said = await bench.said(Change(comment="a|b ]]> <c>", location="Level 3", management_url=url, claim=CLAIM))

    assert said[0].split("|")[8] == "SIU^S14"
    assert said[2:5] == ["SCH|APPT000001", "NTE|||a\\F\\b ]]> <c>", "PV1||O|^^^^^^^^Level 3|||||||320"]
    assert said[-1] == "ZAP|https://manage.partner.example/a?b=1\\T\\c=2"


async def test_times_and_texts_are_one_message(bench: Bench) -> None:
    said = await bench.said(Change(end=END, comment="x", claim=CLAIM))

    assert said[0].split("|")[8] == "SIU^S13"
    assert said[2:4] == ["SCH|APPT000001||||||||||^^^^202605011000", "NTE|||x"]


async def test_the_message_travels_in_soap_under_the_partners_own_login(bench: Bench) -> None:
    await bench.write()

    (heard,) = bench.upstream.all(POST)
    login = base64.b64encode("partner_swift:pass:wörd".encode()).decode()
    assert heard.headers["authorization"] == f"Basic {login}"
    assert heard.headers["content-type"] == "text/xml; charset=utf-8"
    assert heard.headers["soapaction"] == '""'
    assert "cookie" not in heard.headers


async def test_the_message_has_a_connection_of_its_own(bench: Bench) -> None:
    await bench.write()

    (heard,) = bench.upstream.all(POST)
    others = {each.connection for each in bench.upstream.heard if each.method == "GET"}
    assert heard.connection not in others


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (reply(200, ack(f"MSA|AA|{ID}")), Acknowledged("AA", ID)),
        (reply(200, ack(f"MSA|AR|{ID}|No")), Turned(Code.UPSTREAM_REFUSED, "AR", ID)),
        (
            reply(200, ack(f"MSA|AE|{ID}|Oh")),
            Doubt("the acknowledgement says neither yes nor no", "AE", ID),
        ),
        (
            reply(200, ack("MSA|AA|another")),
            Doubt("the acknowledgement is about another message", "AA", ID),
        ),
        (reply(200, b"<html>"), Doubt("the answer is not plain XML", 200, ID)),
        (reply(200), Doubt("the answer is not plain XML", 200, ID)),
        (reply(202, ack(f"MSA|AA|{ID}")), Doubt("answered 202", 202, ID)),
        (reply(307, headers={"Location": "/services/hl7"}), Doubt("answered 307", 307, ID)),
        (reply(401), Turned(Code.UPSTREAM_REFUSED, 401, ID)),
        (reply(403), Turned(Code.UPSTREAM_REFUSED, 403, ID)),
        (reply(404), Turned(Code.UPSTREAM_REFUSED, 404, ID)),
        (reply(408), Doubt("answered 408", 408, ID)),
        (reply(500, ack(f"MSA|AA|{ID}")), Doubt("answered 500", 500, ID)),
        (reply(503), Doubt("answered 503", 503, ID)),
        (HANG_UP, Doubt("ServerDisconnectedError", None, ID)),
        (reply(200, ack(f"MSA|AA|{ID}"), length=9999, close=True), Doubt("ClientPayloadError", 200, ID)),
        (Reply(b"MSH|^~\\&|no http at all\r\n\r\n", close=True), Doubt("the answer is not HTTP", None, ID)),
    ],
    ids=[
        *("AA", "AR", "AE", "wrong-id", "html", "empty", "202", "307", "401", "403", "404", "408", "500", "503"),
        *("dropped", "cut", "no-http"),
    ],
)
async def test_an_answer_means_one_thing_and_the_message_is_never_sent_again(
    bench: Bench, answer: Reply, meaning: Hl7Answer
) -> None:
    bench.upstream.on(POST, answer)

    assert await bench.write() == meaning
    assert bench.upstream.count(POST) == 1


async def test_no_answer_in_time_is_doubt_and_the_message_is_never_sent_again(bench: Bench) -> None:
    bench.upstream.on(POST, reply(200, ack(f"MSA|AA|{ID}"), wait=5))

    assert await bench.write(seconds=0.2) == Doubt("no answer in time", None, ID)
    assert bench.upstream.count(POST) == 1


async def test_without_a_connection_nothing_has_left() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        deaf = f"http://127.0.0.1:{held.getsockname()[1]}"
        async with raw_upstream() as upstream, HttpClient("gateway/test") as http:
            bench = Bench(upstream, route_at(upstream.url, deaf, http, dict(LOGINS)))
            upstream.on(TOKEN, granted("t1"))
            upstream.on(PATIENT, reply(200, person()))

            answer = await bench.write()

            assert isinstance(answer, NotSent)
            assert upstream.count(POST) == 0
            await bench.route.close()


async def test_a_connection_that_was_never_made_is_tried_again() -> None:
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    async with raw_upstream() as upstream, HttpClient("gateway/test") as http:
        bench = Bench(upstream, route_at(upstream.url, f"http://127.0.0.1:{port}", http, dict(LOGINS)))
        upstream.on(TOKEN, granted("t1"))
        upstream.on(PATIENT, reply(200, person()))
        upstream.on(POST, reply(200, ack(f"MSA|AA|{ID}")))
        sighting = await bench.sighting()
        writing = asyncio.create_task(bench.route.write(CUSTOMER, CANCEL, sighting, soon(), sender=SENDER))
        await asyncio.sleep(0.02)
        open_: list[asyncio.Task[None]] = []

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            open_.append(asyncio.ensure_future(upstream.serve(reader, writer)))

        server = await asyncio.start_server(accept, "127.0.0.1", port)

        assert await writing == Acknowledged("AA", ID)
        assert upstream.count(POST) == 1
        await bench.route.close()
        server.close()
        await asyncio.gather(*open_, return_exceptions=True)


@pytest.mark.parametrize(
    ("command", "members"),
    [
        pytest.param(Change(comment="x"), {"status": status.value}, id=f"change-{status.value}")
        for status in Status
        if status not in {Status.BOOKED, Status.PENDING, Status.PROPOSED, Status.WAITLIST}
    ]
    + [
        pytest.param(CANCEL, {"status": "cancelled"}, id="cancel-cancelled"),
        pytest.param(CANCEL, {"identifier": []}, id="cancel-without-placer-id"),
        pytest.param(Change(START), {"identifier": []}, id="change-without-placer-id"),
        pytest.param(replace(CANCEL, comment="x"), {}, id="cancel-with-comment"),
        pytest.param(Change(comment="a\rPV1|"), {}, id="line-break"),
        pytest.param(Change(replace(START, at=datetime(2026, 10, 25, 1, 30, tzinfo=UTC))), {}, id="repeated-hour"),
        pytest.param(Change(comment="x"), {"participant": [*copy()["participant"], {"status": "x"}]}, id="nameless"),
        pytest.param(
            Change(comment="x"),
            {"specialty": [{"coding": [{"code": "320"}]}, {"coding": [{"code": "360"}]}]},
            id="specialties",
        ),
        pytest.param(Change(), {}, id="nothing"),
    ],
)
async def test_what_would_revive_create_or_lose_something_is_never_sent(
    bench: Bench, command: Write, members: dict[str, Any]
) -> None:
    assert isinstance(await bench.write(command, **members), NotSent)
    assert bench.upstream.count(POST) == 0


@pytest.mark.parametrize("document", [person(identifier=[]), {**person(), "id": "p1", "identifier": [{}]}], ids=str)
async def test_a_patient_without_an_nhs_number_is_never_named(bench: Bench, document: Any) -> None:
    bench.upstream.on(PATIENT, reply(200, document))

    assert isinstance(await bench.write(), NotSent)
    assert bench.upstream.count(POST) == 0


@pytest.mark.parametrize(
    "sender",
    [replace(SENDER, partner="other"), replace(SENDER, alias=None), replace(SENDER, alias="a}{b")],
    ids=["no-login", "no-alias", "bad-alias"],
)
async def test_without_login_or_alias_nothing_is_sent(bench: Bench, sender: Sender) -> None:
    assert isinstance(await bench.write(sender=sender), NotSent)
    assert bench.upstream.count(POST) == 0


async def test_a_login_that_basic_cannot_carry_is_not_sent(bench: Bench) -> None:
    bench.logins["swiftbook"] = Login("partner:swift", "x")

    assert isinstance(await bench.write(), NotSent)
    assert bench.upstream.count(POST) == 0


async def test_a_changed_login_counts_at_once(bench: Bench) -> None:
    await bench.write()
    bench.logins["swiftbook"] = Login("partner_swift", "new")
    await bench.write()

    first, second = bench.upstream.all(POST)
    assert first.headers["authorization"] != second.headers["authorization"]


async def test_the_breaker_opens_for_writes_alone_and_lets_reads_through(bench: Bench) -> None:
    bench.upstream.on(POST, reply(503))
    sighting = await bench.sighting()
    for _ in range(FAILURES):
        await bench.route.write(CUSTOMER, CANCEL, sighting, soon(), sender=SENDER)

    assert bench.route.state is BreakerState.OPEN
    answer = await bench.route.write(CUSTOMER, CANCEL, sighting, soon(), sender=SENDER)
    assert answer == NotSent("breaker open")
    assert bench.upstream.count(POST) == FAILURES
    assert (await bench.sighting()).appointment.version == "41"


@pytest.mark.parametrize("answer", [reply(400), reply(200, ack(f"MSA|AE|{ID}")), reply(200, ack(f"MSA|AR|{ID}"))])
async def test_an_answer_on_purpose_does_not_open_the_breaker(bench: Bench, answer: Reply) -> None:
    bench.upstream.on(POST, answer)
    sighting = await bench.sighting()
    for _ in range(FAILURES + 1):
        await bench.route.write(CUSTOMER, CANCEL, sighting, soon(), sender=SENDER)

    assert bench.route.state is BreakerState.CLOSED
    assert bench.upstream.count(POST) == FAILURES + 1


def test_no_secret_shows_in_a_repr() -> None:
    assert "pass" not in repr(LOGINS)
    assert "swift" not in repr(Login("partner_swift", "x"))
