"""No patient data in any sink: canaries go in wherever somebody may write, and none comes out where it must not."""

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import jwt
import pytest
from yarl import URL

from tests.edges.tokens import private_key
from tests.journeys import hospital
from tests.journeys.canaries import Cage, found, written_files
from tests.journeys.partner import (
    NHS_NUMBER,
    REASONS,
    Client,
    Reply,
    birth_date,
    comment,
    in_days,
    instant,
    location,
    parameters,
    patient,
    reason,
)
from tests.journeys.processes import Json, Place, gateway_process

FHIR = {"Content-Type": "application/fhir+json"}
ON_RECORD = ("audit/", "state.db", "console/", "console.db")
"""What the audit stream and the store hold by the name that a partner uses: ids of appointments, Tasks and tokens."""
LINK = re.compile(rb'(?:href|src|action)="(/[^"]*)"')


@dataclass
class Day:
    """Requests full of canaries, through one gateway, and all that partners were answered."""

    client: Client
    cage: Cage
    answers: list[tuple[str, bytes]] = field(default_factory=list)

    async def ask(self, what: str, method: str, path: str, *, status: int, **how: Any) -> Reply:
        """Ask, and keep the answer, unless it is what the partner may see of PKB."""
        reply = await self.client.ask(method, path, **how)
        return self.keep(what, reply, status)

    def keep(self, what: str, reply: Reply, status: int) -> Reply:
        assert reply.status == status, (what, reply.status, reply.raw)
        head = "\n".join(f"{name}: {value}" for name, value in reply.headers.items()).encode()
        body = reply.body if reply.headers.get("Content-Type", "").startswith("application/fhir+json") else None
        shown = isinstance(body, dict) and body["resourceType"] in {"Appointment", "Bundle"}
        self.answers.append((f"answer to {what}", head + (b"" if shown else reply.raw)))
        return reply


Story = Callable[[Day], Awaitable[None]]


async def partners_words(day: Day) -> None:
    """What a partner may write: bodies, headers, queries, ids."""
    client, text = day.client, day.cage.text
    changed, cancelled, other = [await client.fresh() for _ in range(3)]
    where = f"/airedale/fhir/Appointment/{other}"
    told = reason()["valueCodeableConcept"]
    odd = {
        "User-Agent": text("User-Agent"),
        "X-Request-Id": text("X-Request-Id"),
        "X-Correlation-Id": text("X-Correlation-Id"),
        "traceparent": f"00-{day.cage.hexadecimal('trace id', 32, ['spans'])}-{'1' * 16}-01",
        "tracestate": f"x={text('tracestate')}",
        "baggage": f"patient={text('baggage')}",
        "Cookie": f"session={text('cookie')}",
        "Referer": f"http://{text('referer')}.example/",
        "X-Forwarded-For": text("X-Forwarded-For"),
        "Forwarded": f"for={text('Forwarded')}",
        "Prefer": f"return={text('Prefer')}",
        "Accept-Language": text("Accept-Language"),
        text("the name of a header"): text("an unknown header"),
        # Partners are told that keys are kept as they are.
        "Idempotency-Key": text("Idempotency-Key", ["state.db", "console.db"]),
    }
    given = (comment(text("comment")), location(text("location")))
    day.keep("a change", await client.change(changed, *given, headers=odd), 200)
    named = {"name": "reason", "valueCodeableConcept": {**told, "text": text("reason text")}}
    day.keep("a cancel", await client.cancel(cancelled, named, comment(text("comment of a cancel"))), 200)
    coded = {"name": "reason", "valueCodeableConcept": {"coding": [{"system": REASONS, "code": text("reason code")}]}}
    url = {"name": "managementUrl", "valueUrl": f"https://{text('managementUrl')}.example/"}
    unknown = {"name": text("the name of a parameter"), "valueString": text("an unknown parameter")}
    for what, status, parameter in (
        ("a reason of its own", 422, coded),
        ("an address", 422, url),
        ("an unknown parameter", 400, unknown),
        (
            "a strange system",
            422,
            {**coded, "valueCodeableConcept": {"coding": [{"system": text("system"), "code": "x"}]}},
        ),
        (
            "a number of another system",
            400,
            {"name": "patient", "valueIdentifier": {"system": text("s"), "value": "1"}},
        ),
        ("no date", 400, {"name": "birthDate", "valueDate": text("birthDate")}),
        ("a comment too long", 400, comment(text("long comment") * 40)),
    ):
        operation = "$change" if parameter is url else "$cancel"
        alone = parameter is url or parameter["name"] == "reason"
        body = parameters(parameter) if alone else parameters(reason(), parameter)
        await day.ask(what, "POST", f"{where}/{operation}", status=status, body=body)
    await asyncio.gather(
        *(
            day.ask("another patient", "POST", f"{where}/$cancel", status=404, body=parameters(reason(), each))
            for each in (patient(day.cage.number("patient")), birth_date("1887-03-09"))
        ),
        day.ask("an unknown id", "GET", f"/airedale/fhir/Appointment/{text('id', ON_RECORD)}", status=404),
        day.ask("an unknown Task", "GET", f"/airedale/fhir/Task/{text('Task id', ON_RECORD)}", status=404),
        day.ask("a strange customer", "GET", f"/{text('customer', ON_RECORD)}/fhir/Task/1", status=403),
        day.ask("a strange path", "GET", f"/airedale/fhir/{text('path')}/{other}", status=404),
        day.ask("a strange kind", "GET", f"/{text('first step')}", status=404),
    )
    day.cage.known("birthDate", "1887-03-09")
    copy = await client.copy(other)
    tag = {"If-Match": f'W/"{copy["meta"]["versionId"]}"'}
    patch = {"Content-Type": "application/json-patch+json"}
    written: tuple[tuple[str, str, int, Any, Mapping[str, str]], ...] = (
        ("a PUT", "PUT", 422, day.cage.resource("PUT", copy), tag),
        ("a PUT of text", "PUT", 400, text("PUT"), tag),
        ("another id", "PUT", 400, {**copy, "id": text("id in a PUT")}, tag),
        ("another kind", "PUT", 400, {**copy, "resourceType": text("resourceType")}, tag),
        ("a strange status", "PUT", 422, {**copy, "status": text("status")}, tag),
        ("a PATCH", "PATCH", 422, [{"op": "add", "path": "/description", "value": text("PATCH")}], {**tag, **patch}),
        ("a strange path", "PATCH", 400, [{"op": "remove", "path": f"/{text('pointer')}"}], {**tag, **patch}),
        ("a strange op", "PATCH", 400, [{"op": text("op"), "path": "/comment"}], {**tag, **patch}),
        ("another version", "PUT", 412, copy, {"If-Match": f'W/"{text("If-Match")}"'}),
        ("no version", "PUT", 400, copy, {"If-Match": text("bare If-Match")}),
    )
    for what, method, status, body, headers in written:
        reply = await client.ask(method, where, data=json.dumps(body).encode(), headers=headers)
        day.keep(what, reply, reply.status if what in {"a strange status", "a strange path", "another id"} else status)
        assert reply.status >= 400
    number = day.cage.number("patient.identifier")
    for what, query, status in (
        ("a search", f"patient.identifier={NHS_NUMBER}|{number}", 200),
        ("a search by text", f"identifier={text('identifier')}|{text('value')}", 200),
        ("no date", f"patient.identifier={NHS_NUMBER}|{number}&date={text('date')}", 400),
        ("a strange status", f"patient.identifier={NHS_NUMBER}|{number}&status={text('status of a search')}", 400),
        ("a strange cursor", f"_cursor={text('_cursor')}", 400),
        ("a strange name", f"{text('the name of a query')}={text('query')}", 400),
        ("a token", f"access_token={text('access_token')}", 400),
    ):
        await day.ask(what, "GET", f"/airedale/fhir/Appointment?{query}", status=status)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        path = "/airedale/fhir/Appointment/_search"
        await day.ask(f"{what} in a form", "POST", path, status=status, data=query.encode(), headers=form)
    for what, status, data, headers in (
        ("no JSON", 400, f'{{"{text("cut JSON")}'.encode(), FHIR),
        ("a member twice", 400, f'{{"{(twice := text("twice"))}": 1, "{twice}": 1}}'.encode(), FHIR),
        ("no UTF-8", 400, b'"\xff' + text("no UTF-8").encode() + b'"', FHIR),
        ("a strange media type", 415, b"{}", {"Content-Type": f"application/{text('Content-Type')}"}),
        ("a strange coding", 415, b"{}", {**FHIR, "Content-Encoding": text("Content-Encoding")}),
        ("a strange Accept", 406, b"{}", {**FHIR, "Accept": f"application/{text('Accept')}"}),
        ("too much", 413, text("body").encode() * 5000, FHIR),
        ("a strange key", 400, b"{}", {**FHIR, "Idempotency-Key": f"{text('Idempotency-Key with a space')} x"}),
    ):
        await day.ask(what, "POST", f"{where}/$cancel", status=status, data=data, headers=headers)
    for what, line in (
        ("a method", f"{text('method').upper()} / HTTP/1.1\r\nHost: x"),
        ("a version", f"GET / HTTP/{text('version')}\r\nHost: x"),
        ("a target", f"GET /%{text('percent')} HTTP/1.1\r\nHost: x"),
        ("a host", f"GET http://{text('authority')}/ HTTP/1.1\r\nHost: {text('Host')}"),
        ("a header line", f"GET / HTTP/1.1\r\nHost: x\r\n{text('header line')}"),
    ):
        answer = await client.raw(f"{line}\r\nConnection: close\r\n\r\n".encode())
        day.answers.append((f"answer to {what}", answer))
        assert b" 40" in answer.partition(b"\r\n")[0], answer


def forged(place: Place, claims: Mapping[str, Any], head: Mapping[str, str], *, ours: bool) -> str:
    """An access token with claims and header members of one's own, signed by the gateway's key or by a stranger's."""
    now = int(time.time())
    key: Any = (place.directory / "keys" / "tokens.pem").read_text(encoding="ascii") if ours else private_key()
    good = {
        "iss": place.gateway_url,
        "sub": "swiftbook",
        "client_id": "swiftbook",
        "aud": place.gateway_url,
        "iat": now,
        "exp": now + 300,
        "jti": uuid.uuid4().hex,
        "scope": "system/Appointment.rus",
    }
    issued = jwt.get_unverified_header(place.token("swiftbook"))
    return jwt.encode({**good, **claims}, key, issued["alg"], {**issued, **head})


async def tokens(day: Day) -> None:
    """What is in tokens, good and forged, and in what a token is asked for with."""
    client, text, place = day.client, day.cage.text, day.client.place
    seen = await client.fresh()
    where = f"/airedale/fhir/Appointment/{seen}"
    extra = {"name": text("a claim"), "given_name": text("another claim"), "nhs": day.cage.number("a claim's number")}
    # Whoever proves himself by a token is on record with its id.
    good = {**extra, "jti": text("jti", ON_RECORD)}
    await day.ask("a good token", "GET", where, status=200, token=forged(place, good, {}, ours=True))
    for what, claims, head, ours in (
        ("a strange sub", {"sub": text("sub"), "client_id": text("client_id")}, {}, True),
        ("a strange iss", {"iss": text("iss"), "jti": text("forged jti")}, {}, True),
        ("a strange aud", {"aud": text("aud")}, {}, True),
        ("a strange scope", {"scope": text("scope")}, {}, True),
        ("a strange kid", {}, {"kid": text("kid")}, True),
        ("a strange typ", {}, {"typ": text("typ")}, True),
        ("a stranger's key", {**extra, "jti": text("stranger's jti")}, {}, False),
    ):
        reply = await client.read(seen, token=forged(place, claims, head, ours=ours))
        day.keep(what, reply, 403 if what == "a strange scope" and reply.status == 403 else 401)
    await day.ask("no token", "GET", where, status=401, token=f"{text('half a token')}.x")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for what, data in (
        ("a strange grant", f"grant_type={text('grant_type')}"),
        ("a strange field", f"grant_type=client_credentials&{text('field')}={text('value of a field')}"),
        ("a strange assertion", f"grant_type=client_credentials&client_assertion={text('client_assertion')}"),
    ):
        reply = await client.ask("POST", "/oauth2/token", data=data.encode(), headers=form, token="")
        assert reply.status in {400, 401}
        day.keep(what, reply, reply.status)
    about = place.told["partners"]["swiftbook"]
    for what, claims, status in (
        ("a proven assertion", {**extra, "jti": text("assertion's jti", ON_RECORD)}, 200),
        ("an assertion of nobody", {"iss": text("assertion's iss"), "sub": text("assertion's sub")}, 401),
    ):
        proof = assertion(place, about, claims)
        data = (
            "grant_type=client_credentials&client_assertion_type="
            f"urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion={proof}"
        )
        reply = await client.ask("POST", "/oauth2/token", data=data.encode(), headers=form, token="")
        assert reply.status == status, reply.raw
        if status != 200:
            day.keep(what, reply, status)


def assertion(place: Place, about: Json, claims: Mapping[str, Any]) -> str:
    now, url = int(time.time()), f"{place.gateway_url}/oauth2/token"
    good = {"iss": "swiftbook", "sub": "swiftbook", "aud": url, "iat": now, "exp": now + 200, "jti": uuid.uuid4().hex}
    key = (place.directory / about["private_key_file"]).read_text(encoding="ascii")
    return jwt.encode({**good, **claims}, key, about["alg"], {"kid": about["kid"]})


async def pkbs_words(day: Day) -> None:
    """What PKB says: appointments and patients, good and bad, and its errors."""
    client, cage = day.client, day.cage
    person = await hidden_patient(day, "airedale", await client.fresh())
    first, second, third = [await client.fresh(**await described(day, person)) for _ in range(3)]
    day.keep("a read", await client.read(first), 200)
    await day.ask("$actions", "GET", f"/airedale/fhir/Appointment/{first}/$actions", status=200)
    day.keep("a change", await client.change(first, instant("start", in_days(70)), instant("end", in_days(71))), 200)
    day.keep("a refusal", await client.change(first, instant("end", in_days(40))), 422)
    day.keep("a cancel", await client.cancel(first), 200)
    for what, members in (
        ("status", {"status": cage.text("PKB's status")}),
        ("start", {"start": cage.text("PKB's start")}),
        ("kind", {"resourceType": cage.text("PKB's resourceType")}),
        ("patient", {"participant": [{"actor": {"reference": cage.text("PKB's reference")}, "status": "accepted"}]}),
        ("meta", {"meta": cage.text("PKB's meta")}),
        ("participant", {"participant": cage.text("PKB's participant")}),
        ("specialty", {"specialty": [{"coding": cage.text("PKB's coding")}]}),
    ):
        made = await client.fresh(**members)
        for reply in await asyncio.gather(client.read(made), client.cancel(made)):
            assert reply.status in {404, 502}, (what, reply.status)
            day.keep(f"a bad {what}", reply, reply.status)
    await client.put(third, {"resourceType": "Appointment", "id": cage.text("PKB's other id")})
    day.keep("another document", await client.read(third), 502)
    for on, status, ends in (
        ("read", 400, 502), ("read", 403, 502), ("read", 404, 404), ("read", 500, 503), ("read", 301, 502),
        ("write", 400, 502), ("write", 403, 502), ("write", 404, 404), ("write", 409, 412), ("write", 500, 504),
    ):  # fmt: skip
        made = await client.fresh()
        await client.fault("status", status, on=on, text=cage.text(f"PKB's {status} to a {on}"))
        day.keep(f"PKB's {status} to a {on}", await client.cancel(made), ends)
        await client.clear()
    for on, ends in (("read", 502), ("write", 504)):
        made = await client.fresh()
        await client.fault("garbage", on=on, text=cage.text(f"PKB's garbage to a {on}"))
        day.keep(f"PKB's garbage to a {on}", await client.cancel(made), ends)
        await client.clear()
    await client.fault("drop-before", on="write", count=1)
    lost = await client.change(second, comment(cage.text("comment that was lost")))
    day.keep("a lost change", lost, 504)
    day.keep("its Task", await client.task(lost.task), 200)


async def described(day: Day, person: str) -> Json:
    """Members of an appointment with a canary in each that is free text, about a patient."""
    like = await day.client.copy(day.client.demo("changeable")["id"])
    told = {
        "description": "x",
        "comment": "x",
        "patientInstruction": "x",
        "text": {"status": "generated", "div": "x"},
        "extension": [{"url": "https://pkb.example/note", "valueString": "x"}],
        "identifier": [{"system": "https://airedale.example/pas/appointment-id", "value": "x"}],
        "reasonCode": [{"text": "x", "coding": [{"system": "http://snomed.info/sct", "code": "1", "display": "x"}]}],
    }
    others = [each for each in like["participant"] if "Patient/" not in str(each)]
    others.append({"actor": {"display": "x"}, "status": "accepted"})
    whose = {"actor": {"reference": person, "display": day.cage.text("patient.display")}, "status": "accepted"}
    return {**day.cage.resource("PKB", told), "participant": [whose, *day.cage.resource("participant", others)]}


async def hidden_patient(day: Day, customer: str, appointment: str) -> str:
    """Give the patient of an appointment a canary in every member; and give its reference."""
    copy = await day.client.copy(appointment, customer)
    reference = next(
        each["actor"]["reference"] for each in copy["participant"] if "Patient/" in str(each["actor"].get("reference"))
    )
    told = {
        "resourceType": "Patient",
        "id": reference.partition("/")[2],
        "identifier": [{"system": NHS_NUMBER, "value": day.cage.number("PKB's NHS number")}],
        "birthDate": "1889-11-23",
        "managingOrganization": {"reference": "Organization/airedale"},
        **day.cage.resource(
            "Patient",
            {
                "name": [{"use": "official", "family": "x", "text": "x"}],
                "address": [{"line": "x", "city": "x", "postalCode": "x", "text": "x"}],
                "telecom": [{"system": "phone", "value": "x"}],
                "contact": [{"name": {"family": "x"}}],
            },
        ),
    }
    day.cage.known("PKB's birthDate", "1889-11-23")
    path = f"/patients/{customer}/{told['id']}"
    await day.client._control("PUT", path, json=told)
    return str(reference)


async def messages(day: Day) -> None:
    """What is said over HL7, by the partner and by PKB."""
    client, cage = day.client, day.cage
    hl7 = {"customer": hospital.CUSTOMER}
    booked = await hospital.booked(client)
    url = {"name": "managementUrl", "valueUrl": f"https://{cage.text('managementUrl by HL7')}.example/"}
    given = (comment(cage.text("comment by HL7")), location(cage.text("location by HL7")), url)
    reply = await client.change(booked.id, *given, *booked.who, **hl7)
    assert reply.status in {200, 202}
    day.keep("a message", reply, reply.status)
    for ack, ends in (("AR", 502), ("AE", 504), ("wrong-id", 504), ("AA-held", 202)):
        other = await hospital.booked(client)
        await client.fault("ack", ack, target="hl7", text=cage.text(f"text of {ack}"))
        reply = await client.change(other.id, comment(cage.text(f"comment of {ack}")), *other.who, **hl7)
        await client.clear()
        assert reply.status in {ends, 200}, (ack, reply.status)
        day.keep(f"a message answered {ack}", reply, reply.status)
        if "Content-Location" in reply.headers:
            day.keep("its Task", await client.task(reply.task, **hl7), 200)
    broken: tuple[tuple[str, int | str], ...] = (
        ("status", 500), ("status", 200), ("status", 401), ("garbage", "not-applied"),
    )  # fmt: skip
    for kind, value in broken:
        other = await hospital.booked(client)
        await client.fault(kind, value, target="hl7", text=cage.text(f"{kind} {value} by SOAP"))
        reply = await client.cancel(other.id, reason(), *other.who, **hl7)
        await client.clear()
        assert reply.status >= 500, (kind, value, reply.status)
        day.keep(f"a message with {kind} {value}", reply, reply.status)
    await client.fault("status", 500, target="aggregated", text=cage.text("PKB's 500 to a read of Aggregated"))
    day.keep("a read", await client.read(booked.id, **hl7), 503)
    await client.clear()
    for each in client.place.told["appointments"]:
        cage.known(f"number of {each['id']}", each["patient_identifier"].split("|")[1])


async def token_server(day: Day) -> None:
    """What PKB's token server says, to a gateway that has no token yet."""
    client = day.client
    for kind, value in (("status", 400), ("status", 500), ("garbage", "not-applied")):
        await client.fault(kind, value, target="token", text=day.cage.text(f"token server's {kind} {value}"))
        reply = await client.read(client.demo("changeable")["id"])
        day.keep(f"a token server's {kind} {value}", reply, reply.status)
        assert reply.status in {502, 503}
        await client.clear()


async def everything(day: Day) -> Mapping[str, bytes]:
    """All that the gateway wrote or shows, after the day."""
    sinks = dict(day.answers)
    sinks |= written_files(day.client.place.directory)
    admin = day.client.place.admin_url
    seen, pages = set[str](), ["/", "/metrics", "/health/ready", "/health/live", "/audit/stream"]
    while pages:
        page = pages.pop()
        if page in seen or len(seen) > 300:
            continue
        seen.add(page)
        told = await page_of(day.client.session, admin + page)
        sinks[f"page {page}"] = told
        pages += [link.decode() for link in LINK.findall(told)]
    return sinks


async def page_of(session: aiohttp.ClientSession, url: str) -> bytes:
    """A page, or what came of one without end within a second."""
    told = b""
    async with session.get(URL(url, encoded=True)) as response:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                async for piece in response.content.iter_any():
                    told += piece
    return told


async def lived(place: Place, *stories: Story) -> tuple[Cage, Mapping[str, bytes]]:
    """Live through a day, and give what was hidden and all that is left of it."""
    async with Client(place) as client:
        day = Day(client, Cage())
        for story in stories:
            await story(day)
            await client.clear()
        # Refusals of strangers are written without being waited for.
        await asyncio.sleep(0.5)
        return day.cage, await everything(day)


@pytest.fixture(scope="module")
def json_day(place: Place) -> tuple[Cage, Mapping[str, bytes]]:
    return asyncio.run(lived(place, partners_words, tokens, pkbs_words, messages))


@pytest.fixture(scope="module")
def console_day(place: Place) -> Iterator[tuple[Cage, Mapping[str, bytes]]]:
    with gateway_process(place, "console", options=("--log", "console")) as further:
        yield asyncio.run(lived(further, token_server, partners_words, tokens))


@pytest.mark.parametrize("day", ["json_day", "console_day"])
def test_no_canary_gets_out(day: str, request: pytest.FixtureRequest) -> None:
    cage, sinks = request.getfixturevalue(day)

    assert cage.out_in(sinks) == []
    assert len(cage.names) > 90
    # What may be on record is: so a canary that got out would have been seen.
    meant = [text for text, what in cage.names.items() if what in {"jti", "id", "Idempotency-Key"}]
    assert len(meant) == 3
    assert {text for content in sinks.values() for text, _ in found(meant, content)} == set(meant)


def test_every_sink_was_searched(
    json_day: tuple[Cage, Mapping[str, bytes]], console_day: tuple[Cage, Mapping[str, bytes]]
) -> None:
    _, sinks = json_day
    names = " ".join(sinks)
    for name in ("audit/", ".jsonl", "sandbox.out", "state.db", "state.db-wal", "page /metrics", "its Task"):
        assert name in names
    _, sinks = console_day
    for name, known in (("console.log", b"swiftbook"), ("console.db-wal", b"completed"), ("page /metrics", b"_bucket")):
        assert known in b"".join(content for sink, content in sinks.items() if sink.endswith(name))


CANARY = "c0123456789abcdef"
NUMBER = "9434765919"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (CANARY, f"x {CANARY} x"),
        (CANARY, CANARY.upper()),
        (CANARY, json.dumps(json.dumps({"x": CANARY}))),
        (CANARY, f"x%3D{CANARY}%26"),
        (CANARY, f"{CANARY}!".encode().hex()),
        *((CANARY, base64.b64encode(f"{'y' * before}{CANARY}zz".encode()).decode()) for before in range(4)),
        *((CANARY, base64.urlsafe_b64encode(f"{'?' * before}{CANARY}".encode()).decode()) for before in range(4)),
        (NUMBER, "943 476 5919"),
        (NUMBER, "943-476-5919"),
        (NUMBER, hashlib.sha256(NUMBER.encode()).hexdigest()),
        (NUMBER, base64.urlsafe_b64encode(hashlib.sha256(NUMBER.encode()).digest()).decode().rstrip("=")),
    ],
)
def test_a_canary_is_found_however_it_is_written(text: str, written: str) -> None:
    assert {seen for seen, _ in found([text], written.encode())} == {text}


def test_a_canary_is_not_found_where_it_is_not() -> None:
    assert list(found([CANARY, NUMBER], b"9434765918 c0123456789abcdee" + bytes(range(256)))) == []
