"""What a partner may write, each word of it a canary: bodies, headers, queries, ids, tokens."""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

from tests.edges.tokens import private_key
from tests.journeys.canaries import Cage
from tests.journeys.partner import (
    NHS_NUMBER,
    REASONS,
    Client,
    Reply,
    birth_date,
    comment,
    location,
    parameters,
    patient,
    reason,
)
from tests.journeys.processes import Json, Place

FHIR = {"Content-Type": "application/fhir+json"}
ON_RECORD = ("audit/", "state.db", "console/", "console.db", "page /requests", "page /audit/stream")
"""What the audit stream and the store hold by the name that a partner uses: ids of appointments, Tasks and tokens.

The console shows records to operators as they are."""


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
