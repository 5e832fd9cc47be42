"""The rows of the error table, each with a request that is answered by it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.journeys.partner import Client, Reply, comment, in_days, instant, parameters, patient, reason, until
from tests.journeys.processes import Json

Ask = Callable[[Client], Awaitable[Reply]]


@dataclass(frozen=True)
class Row:
    """One row of the table and a request that is answered by it."""

    name: str
    code: str
    ask: Ask
    headers: Mapping[str, str] = field(default_factory=dict)
    """Patterns."""


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


async def another_body(client: Client) -> Reply:
    id_ = await client.fresh()
    once = {"Idempotency-Key": id_}
    assert (await client.change(id_, comment("one"), headers=once)).status == 200
    return await client.change(id_, comment("another"), headers=once)


async def while_it_runs(client: Client) -> Reply:
    id_ = await client.fresh()
    await client.fault("delay", 1000, on="write", count=1)
    first = asyncio.create_task(client.cancel(id_, headers={"Idempotency-Key": id_}))
    await until(client.faults_left, lambda left: not left)
    reply = await client.cancel(id_, headers={"Idempotency-Key": id_})
    assert (await first).status == 200
    return reply


async def cancel_and_change(client: Client) -> Reply:
    id_ = client.demo("changeable")["id"]
    read = await client.read(id_)
    both = read.body | {"status": "cancelled", "start": in_days(40).isoformat()}
    return await client.ask(
        "PUT", f"/airedale/fhir/Appointment/{id_}", body=both, headers={"If-Match": read.headers["ETag"]}
    )


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


PATCH: dict[str, Any] = {"data": b"[]", "headers": {"Content-Type": "application/json-patch+json"}}
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
    "request-in-progress": (409, "conflict"),
    "version-conflict": (412, "conflict"),
    "version-required": (428, "required"),
    "mixed-intent": (422, "business-rule"),
    "in-the-past": (422, "business-rule"),
    "too-late": (422, "business-rule"),
    "not-supported-on-route": (422, "not-supported"),
    "field-not-changeable": (422, "business-rule"),
    "reason-not-allowed": (422, "business-rule"),
    "nothing-to-change": (422, "business-rule"),
    "end-before-start": (422, "business-rule"),
    "new-time-in-the-past": (422, "business-rule"),
    "outside-change-window": (422, "business-rule"),
    "idempotency-key-reused": (422, "business-rule"),
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
    Row("DELETE", "method-not-allowed", ask("DELETE", "/airedale/fhir/Appointment/x"), {"Allow": "GET, PATCH, PUT"}),
    Row("a search for nobody", "missing-parameter", ask("GET", "/airedale/fhir/Appointment?date=2030")),
    Row("POST Appointment", "method-not-allowed", ask("POST", "/airedale/fhir/Appointment", body={}), {"Allow": "GET"}),
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
    Row("says gzip of no body", "unsupported-media-type", read(headers={"Content-Encoding": "gzip"})),
    Row("the same of a document", "unsupported-media-type", ask("GET", "/_ping", headers={"Content-Encoding": "br"})),
    Row("cancelled", "already-cancelled", cancel("cancelled")),
    Row("fulfilled", "not-changeable", cancel("fulfilled")),
    Row("did not attend", "not-changeable", cancel("noshow")),
    Row("busy", "appointment-busy", busy, {**SECONDS, "Content-Location": "http.*/airedale/fhir/Task/.+"}),
    Row("key still at work", "request-in-progress", while_it_runs, {"Retry-After": "1"}),
    Row("key of another body", "idempotency-key-reused", another_body),
    Row("PUT without a version", "version-required", ask("PUT", "/airedale/fhir/Appointment/x", body={})),
    Row("PATCH without a version", "version-required", ask("PATCH", "/airedale/fhir/Appointment/x", **PATCH)),
    Row("cancel and change", "mixed-intent", cancel_and_change),
    Row("empty key", "invalid-parameter", cancel(headers={"Idempotency-Key": ""})),
    Row("key with a blank", "invalid-parameter", cancel(headers={"Idempotency-Key": "a b"})),
    Row("key too long", "invalid-parameter", cancel(headers={"Idempotency-Key": "k" * 129})),
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
