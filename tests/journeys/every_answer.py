"""For every error code the way to get it from an operation, whichever it is."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.journeys.partner import Client, Reply, in_days
from tests.journeys.requests import Request, Subject, Wish, good, subject, token_form, usual, write
from tests.journeys.test_tokens_journey import assertion


@dataclass(frozen=True)
class Asked:
    """An operation of the document, a gateway, and one that fails as it is asked to."""

    name: str
    method: str
    path: str
    client: Client
    failing: Client

    async def good(self, **how: Any) -> Request:
        return await good(self.client, self.name, self.path, self.method, **how)

    async def write(self, about: Subject, wish: Wish, **how: Any) -> Reply:
        return await write(self.name, about, wish).send(self.client, **how)

    @property
    def cancels(self) -> bool:
        return self.name == "cancel"


Way = Callable[[Asked], Awaitable[Reply]]


def with_headers(**headers: str) -> Way:
    async def way(asked: Asked) -> Reply:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await (await asked.good()).but(headers=given).send(asked.client)

    return way


def as_partner(partner: str, times: int = 1) -> Way:
    async def way(asked: Asked) -> Reply:
        request = await asked.good()
        replies = [await request.send(asked.client, partner=partner) for _ in range(times)]
        return replies[-1]

    return way


def as_bearer(make: Callable[[Client], str]) -> Way:
    async def way(asked: Asked) -> Reply:
        return await (await asked.good()).send(asked.client, token=make(asked.client))

    return way


def failing(failure: str) -> Way:
    async def way(asked: Asked) -> Reply:
        request = (await asked.good()).but(headers={"X-Fail": failure})
        if failure == "state":
            request = request.but(headers={"Idempotency-Key": uuid.uuid4().hex})
        token = {"token": asked.failing.place.token("swiftbook")} if request.guarded else {}
        return await request.send(asked.failing, **token)

    return way


def with_fault(kind: str, value: int | str | None = None) -> Way:
    async def way(asked: Asked) -> Reply:
        request = await asked.good()
        await asked.client.fault(kind, value, on="read")
        try:
            return await request.send(asked.client)
        finally:
            await asked.client.clear()

    return way


async def out_of_time(asked: Asked) -> Reply:
    request = (await asked.good()).but(headers={"X-Fail": "hurried"})
    await asked.client.fault("delay", 2000, on="read")
    try:
        return await request.send(asked.failing)
    finally:
        await asked.client.clear()


async def body_that_does_not_come(asked: Asked) -> Reply:
    request = await asked.good()
    lines = {**request.headers, "Authorization": f"Bearer {asked.failing.place.token('swiftbook')}"}
    lines |= {"Host": "a", "Content-Length": "100", "X-Fail": "hurried"}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    answer = await asked.failing.raw(f"{request.method} {request.path} HTTP/1.1\r\n{head}\r\n{{".encode())
    told, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = told.decode().split("\r\n")
    return Reply(int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body, "", 0)


async def long_body(asked: Asked) -> Reply:
    request = await asked.good()
    return await request.but(data=(request.data or b"") + b" " * 70_000).send(asked.client)


async def unknown_query(asked: Asked) -> Reply:
    request = await asked.good()
    if asked.name == "search-form":
        return await request.but(data=b"access_token=x").send(asked.client)
    mark = "&" if "?" in request.path else "?"
    return await request.but(path=f"{request.path}{mark}access_token=x").send(asked.client)


async def not_there(asked: Asked) -> Reply:
    request = await asked.good()
    if "{id}" in asked.path:
        parts = request.path.split("/")
        parts[4] = "none-such"
        body = (request.data or b"").replace(request.path.split("/")[4].encode(), b"none-such") or None
        return await request.but(path="/".join(parts), data=body).send(asked.client)
    return await request.but(path=request.path.replace("airedale", "Airedale", 1)).send(asked.client)


async def less_scope(asked: Asked) -> Reply:
    scope = "system/Appointment.c"
    return await (await asked.good()).send(asked.client, token=asked.client.place.token("swiftbook", scope))


async def missing(asked: Asked) -> Reply:
    request = await asked.good()
    match asked.name:
        case "search":
            return await request.but(path=f"{request.path.partition('?')[0]}?date=2030").send(asked.client)
        case "search-form":
            return await request.but(data=b"date=2030").send(asked.client)
        case _:
            return await request.send(asked.client, partner="checked")


async def busy(asked: Asked) -> Reply:
    about = await subject(asked.client)
    await asked.client.fault("drop-before", on="write", count=1)
    assert (await asked.write(about, usual(asked.name))).code == "outcome-unknown"
    return await asked.write(about, usual(asked.name))


async def unknown(asked: Asked) -> Reply:
    request = await asked.good()
    await asked.client.fault("drop-before", on="write", count=1)
    return await request.send(asked.client)


async def still_running(asked: Asked) -> Reply:
    request = (await asked.good()).but(headers={"Idempotency-Key": uuid.uuid4().hex})
    await asked.client.fault("delay", 1500, on="write", count=1)
    first = asyncio.create_task(request.send(asked.client))
    try:
        await asyncio.sleep(0.7)
        return await request.send(asked.client)
    finally:
        assert (await first).status == 200


async def other_request(asked: Asked) -> Reply:
    request = (await asked.good()).but(headers={"Idempotency-Key": uuid.uuid4().hex})
    assert (await request.send(asked.client)).status == 200
    return await request.but(data=(request.data or b"") + b" ").send(asked.client)


def state(scenario: str) -> Way:
    async def way(asked: Asked) -> Reply:
        return await asked.write(await subject(asked.client, scenario), usual(asked.name))

    return way


def wish(values: Callable[[Subject], Mapping[str, str]], cancel: str | None = None, **how: Any) -> Way:
    async def way(asked: Asked) -> Reply:
        about = await subject(asked.client)
        return await asked.write(about, Wish(cancel, values(about)), **how)

    return way


async def not_on_route(asked: Asked) -> Reply:
    about = await subject(asked.client, customer="bradford")
    if asked.cancels:
        return await asked.write(about, Wish("pat", {"comment": "x"}))
    return await asked.write(about, Wish(values={"start": (about.start + timedelta(seconds=30)).isoformat()}))


async def accepted(asked: Asked) -> Reply:
    request = await asked.good(customer="bradford")
    await asked.client.fault("lag", 5000, target="aggregated", on="read")
    try:
        return await request.send(asked.client)
    finally:
        await asked.client.clear()


async def carried_out(asked: Asked) -> Reply:
    return await (await asked.good()).send(asked.client)


def moved(**moves: timedelta) -> Callable[[Subject], Mapping[str, str]]:
    return lambda about: {name: (about.start + by).isoformat() for name, by in moves.items()}


async def without_version(asked: Asked) -> Reply:
    return await (await asked.good()).without("If-Match").send(asked.client)


async def with_body(asked: Asked, body: bytes) -> Reply:
    return await (await asked.good()).but(data=body).send(asked.client)


WAYS: Mapping[str, Way] = {
    "200": carried_out,
    "202": accepted,
    "malformed-request": with_headers(Prefer="é"),
    "not-found": not_there,
    "draining": failing("draining"),
    "overloaded": failing("overloaded"),
    "internal": failing("internal"),
    "audit-unavailable": failing("audit"),
    "state-unavailable": failing("state"),
    "token-missing": as_bearer(lambda _: ""),
    "token-invalid": as_bearer(lambda _: "x.y.z"),
    "token-expired": as_bearer(lambda client: client.place.token("swiftbook", age=4000)),
    "partner-suspended": as_partner("suspended"),
    "rate-limited": as_partner("hasty", 2),
    "scope-insufficient": less_scope,
    "no-grant": as_partner("newcomer"),
    "grant-not-yet-valid": as_partner("early"),
    "grant-expired": as_partner("formerly"),
    "operation-not-granted": as_partner("viewonly"),
    "not-acceptable": with_headers(Accept="text/html"),
    "unsupported-media-type": with_headers(Content_Encoding="gzip"),
    "request-timeout": body_that_does_not_come,
    "body-too-large": long_body,
    "invalid-parameter": unknown_query,
    "version-required": without_version,
    "malformed-json": lambda asked: with_body(asked, b"{"),
    "missing-parameter": missing,
    "request-in-progress": still_running,
    "idempotency-key-reused": other_request,
    "upstream-refused": with_fault("status", 403),
    "upstream-invalid": with_fault("garbage"),
    "upstream-unavailable": with_fault("status", 503),
    "upstream-timeout": out_of_time,
    "appointment-busy": busy,
    "outcome-unknown": unknown,
    "version-conflict": with_headers(If_Match='W/"0"'),
    "mixed-intent": wish(moved(start=timedelta(minutes=-30)), "pat"),
    "already-cancelled": state("cancelled"),
    "not-changeable": state("fulfilled"),
    "in-the-past": state("past"),
    "too-late": state("inside-notice"),
    "not-supported-on-route": not_on_route,
    "field-not-changeable": wish(lambda _: {"comment": "x"}, partner="strict"),
    "reason-not-allowed": wish(lambda _: {}, "mood"),
    "nothing-to-change": wish(lambda about: {"comment": about.copy["comment"]}),
    "end-before-start": wish(moved(end=timedelta(hours=-1))),
    "new-time-in-the-past": wish(lambda _: {"start": in_days(-1).isoformat()}),
    "outside-change-window": wish(lambda _: {"start": in_days(1).isoformat()}),
}
"""By error code, or by status where all went well."""


def with_form(**fields: str | None) -> Way:
    async def way(asked: Asked) -> Reply:
        return await token_form(asked.client, **fields).send(asked.client)

    return way


async def suspended_client(asked: Asked) -> Reply:
    return await token_form(asked.client, assertion(asked.client, "suspended")).send(asked.client)


async def hasty_client(asked: Asked) -> Reply:
    proofs = [assertion(asked.client, "swiftbook", client_id="hasty") for _ in range(2)]
    return [await token_form(asked.client, proof).send(asked.client) for proof in proofs][-1]


async def no_room_for_tokens(asked: Asked) -> Reply:
    return await failing("overloaded")(asked)


OAUTH: Mapping[tuple[int, str], Way] = {
    (400, "invalid_request"): with_form(grant_type=None),
    (400, "unsupported_grant_type"): with_form(grant_type="password"),
    (400, "invalid_scope"): with_form(scope="openid"),
    (400, "unauthorized_client"): suspended_client,
    (401, "invalid_client"): with_form(proof="x.y.z"),
    (429, "temporarily_unavailable"): hasty_client,
    (503, "temporarily_unavailable"): no_room_for_tokens,
}
"""By status and error of the token endpoint."""
