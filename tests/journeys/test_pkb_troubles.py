"""A PKB that is down, slow, refuses or lies: what the partner is told, what PKB saw, and what is on record."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.journeys.grants import grant_table, partner_table, with_added
from tests.journeys.partner import Client, Reply, comment, reason, until
from tests.journeys.processes import Json, Place, gateway_process


@pytest.fixture(scope="module")
def hasty(place: Place) -> Iterator[Place]:
    """A gateway of short patience; `rival` may write at airedale like swiftbook."""

    async def prepare() -> None:
        grants = place.grants.read_text(encoding="utf-8")
        async with Client(place) as client:
            await client.regrant(with_added(grants, partner_table("rival"), grant_table("rival")))

    asyncio.run(prepare())
    limits = '[limits]\ndeadline = "3s"\nwrite_settles_after = "1s"\nnot_found_step = "0s"'
    with gateway_process(place, "hasty", limits) as running:
        yield running


@pytest.fixture
async def gateway(hasty: Place, client: Client) -> AsyncIterator[Client]:
    yield client.at(hasty)
    # A success between two troubles, so that the circuit breaker counts no row of them across tests.
    await client.clear()
    assert (await client.at(hasty).read(client.demo("changeable")["id"])).status == 200


READS: dict[str, tuple[dict[str, Any], int, str]] = {
    "PKB answers 503": ({"kind": "status", "value": 503}, 503, "upstream-unavailable"),
    "PKB answers 429": ({"kind": "status", "value": 429}, 503, "upstream-unavailable"),
    "PKB hangs up": ({"kind": "drop-before"}, 503, "upstream-unavailable"),
    "PKB is slow": ({"kind": "delay", "value": 6000, "count": 1}, 504, "upstream-timeout"),
    "PKB talks HTML": ({"kind": "garbage"}, 502, "upstream-invalid"),
    "PKB redirects": ({"kind": "status", "value": 302}, 502, "upstream-invalid"),
    "PKB forbids": ({"kind": "status", "value": 403}, 502, "upstream-refused"),
    "PKB takes no token": ({"kind": "status", "value": 401}, 502, "upstream-refused"),
    "PKB says gone": ({"kind": "status", "value": 410}, 404, "not-found"),
    "no token server": ({"target": "token", "kind": "status", "value": 503}, 503, "upstream-unavailable"),
}


@pytest.mark.parametrize("trouble", READS)
@pytest.mark.parametrize("operation", ["read", "cancel"])
async def test_trouble_with_a_read_is_told_and_nothing_is_written(
    trouble: str, operation: str, gateway: Client
) -> None:
    fault, status, code = READS[trouble]
    id_ = await gateway.fresh()
    if fault.get("target") == "token":
        await drop_tokens(gateway)
    await gateway.fault(**{"on": "read", **fault})
    reply = await (gateway.read(id_) if operation == "read" else gateway.cancel(id_))
    assert (reply.status, reply.code) == (status, code)
    assert ("Retry-After" in reply.headers) == (status == 503)
    assert await gateway.writes(id_) == []
    assert [(each["event"], each["code"]) for each in await gateway.audit_of(reply.request_id)] == [("refused", code)]


async def drop_tokens(gateway: Client) -> None:
    """Let PKB refuse the gateway's token once, after which it needs a new one."""
    await gateway.fault("status", 401, on="any", count=2)
    await gateway.read(gateway.demo("changeable")["id"])


async def test_a_read_that_fails_once_is_tried_again(gateway: Client) -> None:
    await gateway.fault("drop-before", on="read", count=1)
    assert (await gateway.read(gateway.demo("changeable")["id"])).status == 200


REFUSED_WRITES = {400: 502, 401: 502, 403: 502, 422: 502, 429: 502, 404: 404, 410: 404, 409: 412, 412: 412}
CODES = {502: "upstream-refused", 404: "not-found", 412: "version-conflict"}


@pytest.mark.parametrize("status", REFUSED_WRITES)
async def test_a_write_that_pkb_refuses_is_rejected_and_final(status: int, gateway: Client) -> None:
    id_ = await gateway.fresh()
    before = await gateway.copy_text(id_)
    await gateway.fault("status", status, on="write")
    reply = await gateway.cancel(id_)
    assert (reply.status, reply.code) == (REFUSED_WRITES[status], CODES[reply.status])
    assert [each["answer"] for each in await gateway.writes(id_)] == [status]
    assert await gateway.copy_text(id_) == before
    intent, outcome = await gateway.audit_of(reply.request_id, count=2)
    assert (intent["event"], outcome["event"]) == ("intent", "outcome")
    assert_belongs(outcome, intent)
    assert (outcome["outcome"], outcome["final"], outcome["code"]) == ("rejected", True, reply.code)
    assert outcome["upstream"]["status"] == status
    task = await gateway.task(intent["task"])
    assert (task.body["status"], task.body["focus"]["reference"]) == ("rejected", f"Appointment/{id_}")
    await gateway.clear()
    assert (await gateway.cancel(id_)).status == 200


def assert_belongs(outcome: Json, intent: Json) -> None:
    for name in ("request_id", "correlation_id", "partner", "customer", "appointment", "task"):
        assert outcome[name] == intent[name]
    assert outcome["intent"] == intent["seq"]


@dataclass(frozen=True)
class Doubtful:
    """An answer to a write that proves nothing, and whether PKB did it all the same."""

    name: str
    fault: dict[str, Any]
    applied: bool


DOUBTFUL = (
    Doubtful("dropped before", {"kind": "drop-before"}, applied=False),
    Doubtful("dropped after", {"kind": "drop-after"}, applied=True),
    Doubtful("HTML, not done", {"kind": "garbage", "value": "not-applied"}, applied=False),
    Doubtful("HTML, done", {"kind": "garbage", "value": "applied"}, applied=True),
    Doubtful("500", {"kind": "status", "value": 500}, applied=False),
    Doubtful("503", {"kind": "status", "value": 503}, applied=False),
    Doubtful("408", {"kind": "status", "value": 408}, applied=False),
    Doubtful("204", {"kind": "status", "value": 204}, applied=False),
    Doubtful("307", {"kind": "status", "value": 307}, applied=False),
)
APPLIED = [each for each in DOUBTFUL if each.applied]
NOT_APPLIED = [each for each in DOUBTFUL if not each.applied]


@pytest.mark.parametrize("operation", ["cancel", "change"])
@pytest.mark.parametrize("doubt", APPLIED, ids=lambda each: each.name)
async def test_a_doubtful_answer_to_a_write_that_was_done_is_found_out_by_reading(
    doubt: Doubtful, operation: str, gateway: Client
) -> None:
    id_ = await gateway.fresh()
    await gateway.fault(**doubt.fault, on="write")
    reply = await write(gateway, operation, id_)
    assert reply.status == 200
    assert reply.body["id"] == id_
    assert (reply.body["status"] == "cancelled") == (operation == "cancel")
    assert reply.headers["ETag"] == f'W/"{(await gateway.copy(id_))["meta"]["versionId"]}"'
    assert [each["applied"] for each in await gateway.writes(id_)] == [True]
    intent, outcome = await gateway.audit_of(reply.request_id, count=2)
    assert_belongs(outcome, intent)
    assert (outcome["outcome"], outcome["final"], outcome["code"]) == ("applied", True, None)
    assert (await gateway.task(intent["task"])).body["status"] == "completed"


def write(gateway: Client, operation: str, id_: str, **how: Any) -> Any:
    if operation == "cancel":
        return gateway.cancel(id_, reason(), comment("Sorry."), **how)
    return gateway.change(id_, comment("Bring your glasses."), **how)


@pytest.mark.parametrize(
    ("doubt", "operation"),
    [pytest.param(each, ("cancel", "change")[n % 2], id=each.name) for n, each in enumerate(NOT_APPLIED)],
)
async def test_a_doubtful_answer_to_a_write_that_was_not_done_stays_unknown_until_it_settles(
    doubt: Doubtful, operation: str, gateway: Client
) -> None:
    id_ = await gateway.fresh()
    before = await gateway.copy_text(id_)
    await gateway.fault(**doubt.fault, on="write", count=1)
    reply = await write(gateway, operation, id_)
    assert (reply.status, reply.code) == (504, "outcome-unknown")
    await assert_busy(gateway, id_, reply)
    await settled(gateway, reply, "rejected")
    assert len(await gateway.writes(id_)) == 1
    assert await gateway.copy_text(id_) == before
    assert (await gateway.cancel(id_)).status == 200


async def assert_busy(gateway: Client, id_: str, unknown: Reply) -> None:
    """While the outcome is unknown nobody writes; only the partner that caused it learns of the Task."""
    own = await gateway.cancel(id_)
    assert (own.status, own.code) == (409, "appointment-busy")
    assert own.headers["Content-Location"] == unknown.headers["Content-Location"]
    assert int(own.headers["Retry-After"]) > 0
    for other in (
        await gateway.cancel(id_, partner="rival"),
        await gateway.change(id_, comment("x"), partner="rival"),
    ):
        assert (other.status, other.code) == (409, "appointment-busy")
        assert "Content-Location" not in other.headers
        assert int(other.headers["Retry-After"]) > 0
    assert (await gateway.task(unknown.task, partner="rival")).code == "not-found"
    assert (await gateway.read(id_, partner="rival")).status == 200


async def settled(gateway: Client, reply: Reply, word: str) -> list[Json]:
    """Follow the Task to its end; one intent, outcomes of which the last alone is final."""
    open_task = await gateway.task(reply.task)
    assert (open_task.body["status"], "Retry-After" in open_task.headers) == ("in-progress", True)
    ends = {"rejected": "rejected", "applied": "completed"}
    task = await until(
        lambda: gateway.task(reply.task), lambda task: bool(task.body["status"] not in {"requested", "in-progress"}), 10
    )
    assert (task.body["status"], "Retry-After" in task.headers) == (ends[word], False)
    records: list[Json] = await gateway.audit_of(reply.request_id, count=3)
    intent, *outcomes = records
    assert [each["event"] for each in records] == ["intent", *["outcome"] * len(outcomes)]
    for each in outcomes:
        assert_belongs(each, intent)
    assert [each["outcome"] for each in outcomes] == [*["unknown"] * (len(outcomes) - 1), word]
    assert [each["final"] for each in outcomes] == [*[False] * (len(outcomes) - 1), True]
    assert [each["recovered"] for each in outcomes] == [False, *[True] * (len(outcomes) - 1)]
    return records


async def test_a_write_slower_than_the_deadline_is_unknown_and_then_found_applied(place: Place, client: Client) -> None:
    limits = '[limits]\ndeadline = "2s"\nwrite_settles_after = "10s"'
    with gateway_process(place, "short", limits) as running:
        gateway, id_ = client.at(running), await client.fresh()
        await gateway.fault("delay", 2800, on="write", count=1)
        reply = await gateway.cancel(id_)
        assert (reply.status, reply.code, reply.seconds < 2.7) == (504, "outcome-unknown", True)
        assert [each["applied"] for each in await gateway.writes(id_)] == [False]
        assert (await gateway.change(id_, comment("x"))).code == "appointment-busy"
        await settled(gateway, reply, "applied")
        assert [each["applied"] for each in await gateway.writes(id_)] == [True]
        assert (await gateway.cancel(id_)).code == "already-cancelled"


async def test_an_unknown_cancel_that_somebody_else_made_different_stays_unknown(gateway: Client) -> None:
    id_ = await gateway.fresh()
    await gateway.fault("drop-before", on="write", count=1)
    reply = await gateway.cancel(id_)
    await gateway.put(id_, {**await gateway.copy(id_), "comment": "The hospital's own words."})
    await asyncio.sleep(2.5)
    assert (await gateway.cancel(id_)).code == "appointment-busy"
    assert (await gateway.task(reply.task)).body["status"] == "in-progress"
    assert [each["final"] for each in await gateway.audit_of(reply.request_id, "outcome")] == [False]


async def test_a_change_after_which_somebody_cancelled_is_rejected_as_superseded(gateway: Client) -> None:
    id_ = await gateway.fresh()
    await gateway.fault("drop-before", on="write", count=1)
    reply = await gateway.change(id_, comment("New."))
    await gateway.put(id_, {**await gateway.copy(id_), "status": "cancelled"})
    await settled(gateway, reply, "rejected")
    assert (await gateway.cancel(id_)).code == "already-cancelled"


async def test_without_pkb_to_read_back_the_outcome_is_unknown_until_pkb_is_back(gateway: Client) -> None:
    other = await gateway.fresh()
    await gateway.fault("delay", 0, on="read", count=2)
    await gateway.fault("status", 503, on="read")
    await gateway.fault("drop-after", on="write")
    reply = await gateway.cancel(other)
    assert (reply.status, reply.code) == (504, "outcome-unknown")
    await gateway.clear()
    await settled(gateway, reply, "applied")
    assert len(await gateway.writes(other)) == 1


async def test_two_writes_at_once_are_one_after_the_other(gateway: Client) -> None:
    id_ = await gateway.fresh()
    await gateway.fault("delay", 500, on="write", count=1)
    first, second = await asyncio.gather(gateway.cancel(id_), gateway.cancel(id_, partner="rival"))
    assert sorted((first.status, second.status)) == [200, 409]
    assert {first.code, second.code} == {"", "already-cancelled"}
    assert len(await gateway.writes(id_)) == 1


async def test_a_second_write_waits_two_seconds_and_no_longer(hasty: Place, place: Place, client: Client) -> None:
    id_ = await client.fresh()
    await client.fault("delay", 4000, on="write", count=1)
    first = asyncio.create_task(client.cancel(id_))
    await until(lambda: client.writes(id_), bool)
    second = await client.cancel(id_, partner="rival")
    assert (second.status, second.code) == (409, "appointment-busy")
    assert 1.9 < second.seconds < 3.5
    assert "Content-Location" not in second.headers
    assert (await first).status == 200
    assert len(await client.writes(id_)) == 1


async def test_without_a_token_server_nothing_is_written_and_repeating_is_safe(gateway: Client) -> None:
    id_ = await gateway.fresh()
    await drop_tokens(gateway)
    await gateway.fault("drop-before", target="token")
    reply = await gateway.cancel(id_)
    assert (reply.status, reply.code) == (503, "upstream-unavailable")
    assert int(reply.headers["Retry-After"]) > 0
    assert await gateway.writes(id_) == []
    await gateway.clear()
    assert (await gateway.cancel(id_)).status == 200
