"""Every row of the error table: status, code, FHIR issue code, headers and the shape of the answer."""

import asyncio
import json
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta

import pytest

from tests.journeys.error_rows import ROWS, TABLE, Row
from tests.journeys.grants import grant_table, partner_table, with_added
from tests.journeys.partner import Client, Reply, parameters, patient, reason
from tests.journeys.processes import Place, gateway_process

STRICT = 'change = { fields = ["start", "end"], within = "7d" }'
SEARCH = "/airedale/fhir/Appointment?identifier=https://a.example/x%7C1"


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


async def cancel_one(client: Client) -> None:
    await client.cancel(await client.fresh())


@pytest.mark.parametrize(
    ("ask", "on", "what", "status"),
    [
        (lambda client: client.read("none"), "read", "not read", 503),
        (lambda client: client.ask("GET", SEARCH), "read", "not searched", 403),
        (cancel_one, "write", "in doubt", 500),
    ],
    ids=["read", "search", "write"],
)
async def test_the_log_tells_what_pkb_did_not_do_and_why(
    ask: Callable[[Client], Awaitable[object]], on: str, what: str, status: int, prepared: Place, client: Client
) -> None:
    await client.fault("status", status, on=on)
    await ask(client)

    lines = map(json.loads, (prepared.directory / "gateway.log").read_text(encoding="utf-8").splitlines())
    told = [line for line in lines if line["event"] == "upstream trouble" and line["what"] == what][-1]
    assert (told["route"], told["status"]) == ("airedale-box", status)
    assert told["reason"]


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
