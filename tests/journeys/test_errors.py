"""Every row of the error table: status, code, FHIR issue code, headers and the shape of the answer."""

import asyncio
import json
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.journeys.grants import grant_table, partner_table, with_added
from tests.journeys.partner import Client, Reply, comment, in_days, instant, parameters, patient, reason
from tests.journeys.processes import Json, Place, gateway_process

Ask = Callable[[Client], Awaitable[Reply]]
STRICT = 'change = { fields = ["start", "end"], within = "7d" }'


@dataclass(frozen=True)
class Row:
    """One row of the table and a request that is answered by it."""

    name: str
    code: str
    ask: Ask
    headers: Mapping[str, str] = field(default_factory=dict)
    """Patterns."""


@pytest.fixture(scope="module")
def prepared(place: Place) -> Place:
    partners = partner_table("early") + partner_table("hasty", rate="1/h") + partner_table("narrow")
    partners += partner_table("strict") + partner_table("checked")
    grants = grant_table("early", days=(10, 20)) + grant_table("hasty") + grant_table("narrow", 'rate = "1/h"')
    grants += grant_table("strict", STRICT) + grant_table("checked", 'patient = "required"')

    async def prepare() -> None:
        async with Client(place) as client:
            await client.regrant(with_added(place.grants.read_text(encoding="utf-8"), partners, grants))

    asyncio.run(prepare())
    return place


def demo(scenario: str) -> Callable[[Client], str]:
    return lambda client: str(client.demo(scenario)["id"])


def read(**how: Any) -> Ask:
    return lambda client: client.read(client.demo("changeable")["id"], **how)


def cancel(scenario: str = "changeable", *given: Json, **how: Any) -> Ask:
    return lambda client: client.cancel(client.demo(scenario)["id"], *given, **how)


def change(*given: Json, **how: Any) -> Ask:
    return lambda client: client.change(client.demo("changeable")["id"], *given, **how)


def ask(method: str, path: str, **how: Any) -> Ask:
    return lambda client: client.ask(method, path, **how)


def forged(client: Client) -> Awaitable[Reply]:
    return client.read("x", token=client.place.token("swiftbook")[:-8] + "AAAAAAAA")


def expired(client: Client) -> Awaitable[Reply]:
    return client.read("x", token=client.place.token("swiftbook", age=4000))


def less_scope(client: Client) -> Awaitable[Reply]:
    return client.read("x", token=client.place.token("swiftbook", "system/Appointment.u"))


def twice(partner: str) -> Ask:
    async def asking(client: Client) -> Reply:
        await client.read("x", partner=partner)
        return await client.read("x", partner=partner)

    return asking


def with_fault(asked: Ask, kind: str, value: int | str | None = None, on: str = "read") -> Ask:
    async def asking(client: Client) -> Reply:
        await client.fault(kind, value, on=on)
        return await asked(client)

    return asking


async def busy(client: Client) -> Reply:
    id_ = await client.fresh()
    await client.fault("drop-before", on="write", count=1)
    assert (await client.cancel(id_)).status == 504
    return await client.cancel(id_)


async def unknown(client: Client) -> Reply:
    id_ = await client.fresh()
    await client.fault("drop-before", on="write", count=1)
    return await client.cancel(id_)


async def ends_first(client: Client) -> Reply:
    start = datetime.fromisoformat(client.demo("changeable")["start"])
    return await client.change(client.demo("changeable")["id"], instant("end", start - timedelta(hours=1)))


async def outside_the_window(client: Client) -> Reply:
    start = datetime.fromisoformat(client.demo("changeable")["start"])
    given = (instant("start", start + timedelta(days=9)), instant("end", start + timedelta(days=10)))
    return await client.change(client.demo("changeable")["id"], *given, partner="strict")


async def too_soon(client: Client) -> Reply:
    return await client.change(client.demo("changeable")["id"], instant("start", in_days(1)))


async def same_comment(client: Client) -> Reply:
    held = (await client.copy(client.demo("changeable")["id"]))["comment"]
    return await client.change(client.demo("changeable")["id"], comment(held))


def body(text: str) -> Ask:
    return lambda client: client.cancel(client.demo("changeable")["id"], data=text.encode())


GOOD = json.dumps(parameters(reason()))
BEARER = r'Bearer realm="[^"]+"'
INVALID = BEARER + ', error="invalid_token"'
SECONDS = {"Retry-After": r"[1-9]\d*"}
TABLE = {
    "malformed-request": (400, "structure"),
    "malformed-json": (400, "structure"),
    "invalid-parameter": (400, "value"),
    "missing-parameter": (400, "required"),
    "token-missing": (401, "login"),
    "token-invalid": (401, "login"),
    "token-expired": (401, "expired"),
    "partner-suspended": (403, "forbidden"),
    "scope-insufficient": (403, "forbidden"),
    "no-grant": (403, "forbidden"),
    "grant-not-yet-valid": (403, "forbidden"),
    "grant-expired": (403, "forbidden"),
    "operation-not-granted": (403, "forbidden"),
    "not-found": (404, "not-found"),
    "method-not-allowed": (405, "not-supported"),
    "not-acceptable": (406, "not-supported"),
    "body-too-large": (413, "too-long"),
    "unsupported-media-type": (415, "not-supported"),
    "already-cancelled": (409, "conflict"),
    "not-changeable": (409, "conflict"),
    "appointment-busy": (409, "lock-error"),
    "version-conflict": (412, "conflict"),
    "in-the-past": (422, "business-rule"),
    "too-late": (422, "business-rule"),
    "not-supported-on-route": (422, "not-supported"),
    "field-not-changeable": (422, "business-rule"),
    "reason-not-allowed": (422, "business-rule"),
    "nothing-to-change": (422, "business-rule"),
    "end-before-start": (422, "business-rule"),
    "new-time-in-the-past": (422, "business-rule"),
    "outside-change-window": (422, "business-rule"),
    "rate-limited": (429, "throttled"),
    "upstream-refused": (502, "processing"),
    "upstream-invalid": (502, "processing"),
    "upstream-unavailable": (503, "transient"),
    "outcome-unknown": (504, "incomplete"),
}
"""HTTP status and FHIR issue code of each error code."""

ROWS = (
    Row("empty segment", "malformed-request", ask("GET", "/airedale//fhir/Appointment/x")),
    Row("dot segment", "malformed-request", ask("GET", "/airedale/fhir/../Appointment")),
    Row("encoded slash", "malformed-request", ask("GET", "/airedale%2Ffhir/Appointment/x")),
    Row("encoded letter", "malformed-request", ask("GET", "/%61iredale/fhir/Appointment/x")),
    Row("backslash", "malformed-request", ask("GET", "/airedale/fhir\\Appointment/x")),
    Row("matrix parameter", "malformed-request", ask("GET", "/airedale;x/fhir/Appointment/x")),
    Row("duplicate members", "malformed-json", body(GOOD[:-1] + ', "parameter": []}')),
    Row("NaN", "malformed-json", body(GOOD[:-1] + ', "x": NaN}')),
    Row("too deep", "malformed-json", body(GOOD[:-1] + ', "x": ' + "[" * 40 + "]" * 40 + "}")),
    Row("byte order mark", "malformed-json", body("\ufeff" + GOOD)),
    Row("trailing data", "malformed-json", body(GOOD + " {}")),
    Row("no JSON", "malformed-json", body("reason=pat")),
    Row("empty body", "malformed-json", body("")),
    Row("unknown parameter", "invalid-parameter", cancel("changeable", reason(), comment("x") | {"name": "y"})),
    Row("repeated parameter", "invalid-parameter", cancel("changeable", reason(), reason())),
    Row("wrong type", "invalid-parameter", cancel("changeable", {"name": "reason", "valueString": "pat"})),
    Row("time without offset", "invalid-parameter", change({"name": "start", "valueInstant": "2030-01-01T10:00:00"})),
    Row("long comment", "invalid-parameter", change(comment("x" * 501))),
    Row("plain http", "invalid-parameter", change({"name": "managementUrl", "valueUrl": "http://a.example/"})),
    Row("any version", "invalid-parameter", cancel(headers={"If-Match": "*"})),
    Row("list of versions", "invalid-parameter", cancel(headers={"If-Match": 'W/"1", W/"2"'})),
    Row("bare version", "invalid-parameter", cancel(headers={"If-Match": "1"})),
    Row("token in the query", "invalid-parameter", ask("GET", "/airedale/fhir/Appointment/x?access_token=y")),
    Row("no reason", "missing-parameter", cancel("changeable", comment("x"))),
    Row("no change", "missing-parameter", change(patient("9999999999"))),
    Row("patient required", "missing-parameter", cancel(partner="checked")),
    Row("no token", "token-missing", read(token=""), {"WWW-Authenticate": BEARER}),
    Row(
        "basic", "token-missing", read(token="", headers={"Authorization": "Basic eDp5"}), {"WWW-Authenticate": BEARER}
    ),
    Row("forged", "token-invalid", forged, {"WWW-Authenticate": INVALID}),
    Row("no token at all", "token-invalid", read(token="x.y.z"), {"WWW-Authenticate": INVALID}),
    Row("unknown partner", "token-invalid", read(partner="nobody"), {"WWW-Authenticate": INVALID}),
    Row("expired", "token-expired", expired, {"WWW-Authenticate": INVALID}),
    Row("suspended", "partner-suspended", read(partner="suspended")),
    Row("scope", "scope-insufficient", less_scope),
    Row("no grant", "no-grant", read(partner="newcomer")),
    Row("a team is not its organisation", "no-grant", read(partner="cardiolink")),
    Row("an organisation is not its team", "no-grant", read(customer="airedale-cardiology")),
    Row("grant to come", "grant-not-yet-valid", read(partner="early")),
    Row("grant over", "grant-expired", read(partner="formerly")),
    Row("may only read", "operation-not-granted", cancel(partner="viewonly")),
    Row("unknown id", "not-found", ask("GET", "/airedale/fhir/Appointment/none")),
    Row("unknown path", "not-found", ask("GET", "/airedale/fhir/Patient/x")),
    Row("root", "not-found", ask("GET", "/")),
    Row("unknown task", "not-found", ask("GET", "/airedale/fhir/Task/none")),
    Row("DELETE", "method-not-allowed", ask("DELETE", "/airedale/fhir/Appointment/x"), {"Allow": "GET"}),
    Row("PUT", "method-not-allowed", ask("PUT", "/airedale/fhir/Appointment/x", body={}), {"Allow": "GET"}),
    Row("PATCH", "method-not-allowed", ask("PATCH", "/airedale/fhir/Appointment/x", body={}), {"Allow": "GET"}),
    Row("search", "method-not-allowed", ask("GET", "/airedale/fhir/Appointment?date=2030"), {"Allow": ""}),
    Row("GET $cancel", "method-not-allowed", ask("GET", "/airedale/fhir/Appointment/x/$cancel"), {"Allow": "POST"}),
    Row("GET token", "method-not-allowed", ask("GET", "/oauth2/token"), {"Allow": "POST"}),
    Row("accepts HTML", "not-acceptable", read(headers={"Accept": "text/html"})),
    Row("accepts STU3", "not-acceptable", read(headers={"Accept": "application/fhir+json; fhirVersion=3.0"})),
    Row("long body", "body-too-large", body(GOOD + " " * 70_000)),
    Row("sends text", "unsupported-media-type", cancel(headers={"Content-Type": "text/plain"})),
    Row(
        "sends Latin-1", "unsupported-media-type", cancel(headers={"Content-Type": "application/json; charset=latin-1"})
    ),
    Row("sends gzip", "unsupported-media-type", cancel(headers={"Content-Encoding": "gzip"})),
    Row("cancelled", "already-cancelled", cancel("cancelled")),
    Row("fulfilled", "not-changeable", cancel("fulfilled")),
    Row("did not attend", "not-changeable", cancel("noshow")),
    Row("busy", "appointment-busy", busy, {**SECONDS, "Content-Location": "http.*/airedale/fhir/Task/.+"}),
    Row("old version", "version-conflict", cancel(headers={"If-Match": 'W/"0"'})),
    Row("over", "in-the-past", cancel("past")),
    Row("in the notice", "too-late", cancel("inside-notice")),
    Row(
        "not on this route",
        "not-supported-on-route",
        change({"name": "managementUrl", "valueUrl": "https://a.example/"}),
    ),
    Row("field not granted", "field-not-changeable", change(comment("x"), partner="strict")),
    Row("unknown reason", "reason-not-allowed", cancel("changeable", reason("mood"))),
    Row("same as it is", "nothing-to-change", same_comment),
    Row("ends first", "end-before-start", ends_first),
    Row("new time past", "new-time-in-the-past", change(instant("start", in_days(-1)))),
    Row("outside the window", "outside-change-window", outside_the_window),
    Row("new start in the notice", "outside-change-window", too_soon),
    Row("partner's rate", "rate-limited", twice("hasty"), {**SECONDS, "RateLimit": '"partner";r=0;t=.*'}),
    Row("grant's rate", "rate-limited", twice("narrow"), {**SECONDS, "RateLimit": '.*"grant";r=0;t=.*'}),
    Row("PKB refuses", "upstream-refused", with_fault(read(), "status", 403)),
    Row("PKB talks HTML", "upstream-invalid", with_fault(read(), "garbage")),
    Row("PKB is down", "upstream-unavailable", with_fault(read(), "status", 503), SECONDS),
    Row("unknown outcome", "outcome-unknown", unknown, {"Content-Location": "http.*/airedale/fhir/Task/.+"}),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_an_error_is_told_as_the_table_says(row: Row, prepared: Place, client: Client) -> None:
    reply = await row.ask(client)
    status, issue = TABLE[row.code]
    assert (reply.status, reply.code) == (status, row.code)
    assert_shape(reply, issue)
    for name, pattern in row.headers.items():
        assert re.fullmatch(pattern, reply.headers[name]), reply.headers[name]
    assert ("Retry-After" in reply.headers) == ("Retry-After" in row.headers)


def assert_shape(reply: Reply, issue: str) -> None:
    [told] = reply.body["issue"]
    assert reply.body.keys() == {"resourceType", "issue"}
    assert (told["severity"], told["code"]) == ("error", issue)
    assert told["details"]["coding"][0]["system"] == "https://pkb-gateway.example/codes"
    assert len(told["diagnostics"]) > 20
    assert reply.headers["Content-Type"].startswith("application/fhir+json")
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["X-Request-Id"] == reply.request_id
    assert "Server" not in reply.headers


async def test_too_late_tells_the_last_moment(prepared: Place, client: Client) -> None:
    demo = client.demo("inside-notice")
    told = (await client.cancel(demo["id"])).body["issue"][0]["diagnostics"]
    last = datetime.fromisoformat(demo["start"]) - timedelta(hours=48)
    assert last.astimezone(tz=None).timestamp() == datetime.fromisoformat(re.findall(r"\S+Z", told)[0]).timestamp()


async def test_an_idempotency_key_is_not_silently_ignored(prepared: Place, client: Client) -> None:
    id_ = await client.fresh()
    reply = await client.cancel(id_, headers={"Idempotency-Key": "abc"})
    assert (reply.status, await client.writes(id_)) == (400, [])


def without_ids(reply: Reply) -> tuple[int, bytes, list[tuple[str, str]]]:
    """An answer but for what differs between any two."""
    own = {"x-request-id", "date", "ratelimit"}
    headers = sorted((name, value) for name, value in reply.headers.items() if name.lower() not in own)
    return reply.status, reply.raw, headers


@pytest.mark.parametrize("operation", ["", "/$cancel"])
async def test_an_unknown_customer_and_one_that_granted_nothing_look_the_same(
    operation: str, prepared: Place, client: Client
) -> None:
    method, body = ("POST", parameters(reason())) if operation else ("GET", None)
    replies = [
        await client.ask(method, f"/{customer}/fhir/Appointment/x{operation}", body=body)
        for customer in ("wharfedale", "no-such-customer", "airedale-cardiology")
    ]
    assert replies[0].code == "no-grant"
    assert without_ids(replies[0]) == without_ids(replies[1]) == without_ids(replies[2])


async def not_founds(client: Client) -> list[Reply]:
    mixed_up = client.demo("changeable")["id"]
    wrong = {"name": "birthDate", "valueDate": "1901-01-01"}
    return [
        await client.cancel("none-such"),
        await client.cancel(client.demo("other-customer")["id"]),
        await client.cancel(client.demo("label-outside")["id"]),
        await client.cancel(mixed_up, reason(), patient("9999999999")),
        await client.cancel(mixed_up, reason(), wrong),
    ]


async def test_every_not_found_is_the_same_whatever_the_reason(prepared: Place, client: Client) -> None:
    before = await client.writes()
    replies = await not_founds(client)
    replies.append(
        await client.cancel(
            client.demo("specialty-outside")["id"], customer="airedale-cardiology", partner="cardiolink"
        )
    )
    assert {reply.code for reply in replies} == {"not-found"}
    assert len({str(without_ids(reply)) for reply in replies}) == 1
    assert await client.writes() == before


async def test_not_found_is_answered_on_the_beat_of_a_quarter_second(prepared: Place, client: Client) -> None:
    late = []
    for attempt in range(3):
        quick = await not_founds(client)
        await client.fault("delay", 300, on="read", count=1)
        slow = await client.cancel("none-such")
        assert min(reply.seconds for reply in quick) >= 0.25
        assert slow.seconds >= 0.5
        late.append(max(reply.seconds % 0.25 for reply in (*quick, slow)))
        if late[attempt] < 0.1:
            return
    pytest.fail(f"not-found came {min(late)} s after the beat")


RAW: dict[str, bytes] = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "length beside chunks": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two hosts": b"GET /_ping HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two tokens": b"GET /_ping HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\nAuthorization: Bearer y\r\n\r\n",
    "folded line": b"GET /_ping HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "another authority": b"GET http://evil.example/_ping HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/3.0": b"GET /_ping HTTP/3.0\r\nHost: a\r\n\r\n",
    "a long line": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a line of a hundred and one headers": b"GET /_ping HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 100 + b"\r\n",
    "CONNECT": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
}


@pytest.mark.parametrize("name", RAW)
async def test_bytes_that_are_no_request_are_answered_in_fhir_and_closed(
    name: str, prepared: Place, client: Client
) -> None:
    head, _, body = (await client.raw(RAW[name])).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["issue"][0]["details"]["coding"][0]["code"] == "malformed-request"
    names = {line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:]}
    assert {b"cache-control", b"x-content-type-options", b"x-request-id"} <= names
    assert b"server" not in names
    assert b"evil" not in body


@pytest.fixture(scope="module")
def hurried(prepared: Place) -> Iterator[Place]:
    with gateway_process(prepared, "hurried", '[limits]\ndeadline = "1s"') as running:
        yield running


async def test_a_body_that_does_not_come_is_answered_408_and_closed(hurried: Place, client: Client) -> None:
    id_ = await client.fresh()
    request = (
        f"POST /airedale/fhir/Appointment/{id_}/$cancel HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n"
        f"Content-Type: application/json\r\nAuthorization: Bearer {hurried.token('swiftbook')}\r\n\r\n{{"
    )
    answer = await client.at(hurried).raw(request.encode())
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"request-timeout"' in answer
    assert await client.writes(id_) == []


async def test_a_slow_pkb_is_answered_504_within_the_deadline(hurried: Place, client: Client) -> None:
    await client.fault("delay", 3000, on="read")
    reply = await client.at(hurried).read(client.demo("changeable")["id"])
    assert (reply.status, reply.code, reply.seconds < 1.8) == (504, "upstream-timeout", True)
    assert_shape(reply, "timeout")


async def test_a_request_id_that_is_a_uuid_is_taken_over_and_any_other_replaced(
    prepared: Place, client: Client
) -> None:
    other = await client.read("none", headers={"X-Request-Id": "not-a-uuid"})
    assert str(uuid.UUID(other.headers["X-Request-Id"])) != other.request_id
    correlation = str(uuid.uuid4())
    joined = await client.read("none", headers={"X-Correlation-Id": correlation})
    assert joined.headers["X-Correlation-Id"] == correlation
    [record] = await client.audit_of(joined.request_id)
    assert record["correlation_id"] == correlation
