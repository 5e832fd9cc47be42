"""Sending a write again with its `Idempotency-Key`: over real processes, on both routes, whatever happened between."""

import asyncio
import signal
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from tests.faults.stage import Subject, subject
from tests.journeys.grants import grant_table, partner_table, with_added
from tests.journeys.partner import Client, Reply, comment, parameters, reason, until
from tests.journeys.processes import Place, started_gateway

ROUTES = ("box", "hl7")
READS = {"box": "box", "hl7": "aggregated"}
"""What is read on each route."""


@pytest.fixture(scope="module", autouse=True)
def twin(place: Place) -> Iterator[None]:
    """A second partner with the same grant."""
    grants = place.grants.read_text(encoding="utf-8")

    async def regrant(text: str) -> None:
        async with Client(place) as client:
            await client.regrant(text)

    asyncio.run(regrant(with_added(grants, partner_table("twin"), grant_table("twin"))))
    yield
    asyncio.run(regrant(grants))


@pytest.fixture(params=ROUTES)
async def asked(request: pytest.FixtureRequest, client: Client) -> Subject:
    """A cancel that was not sent yet."""
    return await subject(request.param, client)


def is_replayed(reply: Reply) -> bool:
    return reply.headers.get("Idempotent-Replayed") == "true"


async def hidden(client: Client, route: str) -> None:
    """Let PKB do what it is told without an answer, and then show nothing."""
    # The appointment and its patient are read before the message.
    await client.fault("delay", 0, target=READS[route], on="read", count=2)
    await client.fault("status", 503, target=READS[route], on="read")
    await client.fault("drop-after", target=route, on="write", count=1)


async def settled(client: Client, asked: Subject) -> Reply:
    """Send the request again until its answer is more than that it is not known yet."""
    waiting = {"outcome-unknown", "request-in-progress"}
    return await until(lambda: asked.cancel(client), lambda reply: reply.code not in waiting)


async def test_the_same_request_gets_the_same_answer_and_pkb_one_message(client: Client, asked: Subject) -> None:
    first, second, third = [await asked.cancel(client) for _ in range(3)]

    assert [reply.status for reply in (first, second, third)] == [200, 200, 200]
    assert [is_replayed(reply) for reply in (first, second, third)] == [False, True, True]
    assert first.raw == second.raw == third.raw
    assert first.headers["ETag"] == second.headers["ETag"]
    assert len(await asked.seen(client)) == 1
    [replayed] = await client.audit_of(second.request_id)
    [intent, _] = await client.audit_of(first.request_id, count=2)
    assert (replayed["event"], replayed["task"], replayed["outcome"]) == ("replayed", intent["task"], "applied")


async def test_what_is_shown_again_is_pkbs_copy_of_now(client: Client, asked: Subject) -> None:
    await asked.cancel(client)
    held = await client.copy(asked.id, asked.customer)
    await client.put(asked.id, {**held, "description": "Seen by the booking team."}, customer=asked.customer)

    again = await asked.cancel(client)

    assert (again.status, again.body["description"]) == (200, "Seen by the booking team.")


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"body": "+"}, id="body"),
        pytest.param({"headers": {"If-Match": 'W/"1"'}}, id="If-Match"),
        pytest.param({"headers": {"Content-Type": "application/json"}}, id="media type"),
        pytest.param({"id": "another"}, id="path"),
    ],
)
async def test_another_request_with_the_key_is_told_so(changed: dict[str, Any], client: Client, asked: Subject) -> None:
    assert (await asked.cancel(client)).status == 200
    other = asked
    if "body" in changed:
        other = replace(asked, body={**asked.body, "parameter": [*asked.body["parameter"][:-1], reason("prov")]})
    if "id" in changed:
        other = replace(await subject(asked.route, client), body=asked.body, key=asked.key)

    reply = await other.cancel(client, headers=changed.get("headers", {}))

    assert (reply.status, reply.code) == (422, "idempotency-key-reused")
    assert not is_replayed(reply)
    assert len(await asked.seen(client)) == 1
    assert asked.id == other.id or await other.seen(client) == []


async def test_while_the_first_runs_the_others_are_told_to_wait(client: Client, asked: Subject) -> None:
    await client.fault("delay", 800, target=asked.route, on="write", count=1)
    first = asyncio.create_task(asked.cancel(client))
    await until(client.faults_left, lambda left: not left)

    others = await asyncio.gather(*(asked.cancel(client) for _ in range(5)))

    assert {(each.status, each.code, each.headers["Retry-After"]) for each in others} == {
        (409, "request-in-progress", "1")
    }
    assert (await first).status == 200
    assert is_replayed(await asked.cancel(client))
    assert len(await asked.seen(client)) == 1


async def test_of_many_at_once_one_reaches_pkb(client: Client, asked: Subject) -> None:
    replies = await asyncio.gather(*(asked.cancel(client) for _ in range(20)))

    done = [reply for reply in replies if reply.status == 200]
    assert [is_replayed(reply) for reply in done].count(False) == 1
    assert {reply.code for reply in replies if reply.status != 200} <= {"request-in-progress"}
    assert len(await asked.seen(client)) == 1


async def test_what_is_unknown_is_found_out_first(client: Client, asked: Subject) -> None:
    await hidden(client, asked.route)
    first = await asked.cancel(client)
    still = await asked.cancel(client)
    await client.clear()
    found = await settled(client, asked)

    for reply in (first, still):
        assert (reply.status, reply.code) == (504, "outcome-unknown")
    assert [is_replayed(reply) for reply in (first, still, found)] == [False, True, True]
    assert first.task == still.task
    assert (found.status, found.body["status"]) == (200, "cancelled")
    assert len(await asked.seen(client)) == 1
    outcomes = await client.audit_of(first.request_id, "outcome", count=2)
    assert [(each["outcome"], each["final"]) for each in outcomes] == [("unknown", False), ("applied", True)]


@pytest.mark.parametrize("route", ROUTES)
async def test_after_kill_9_and_a_new_start_the_retry_gets_the_truth(route: str, client: Client) -> None:
    name = f"killed-{route}"
    asked = await subject(route, client)
    with started_gateway(client.place, name) as (place, process):
        await client.fault("delay", 1000, target=route, on="write", count=1)
        cut_off = asyncio.create_task(asked.cancel(client.at(place)))
        await until(client.faults_left, lambda left: not left)
        process.send_signal(signal.SIGKILL)
        assert isinstance((await asyncio.gather(cut_off, return_exceptions=True))[0], aiohttp.ClientError)
    with started_gateway(client.place, name) as (place, process):
        gateway = client.at(place)
        reply = await settled(gateway, asked)
        assert (reply.status, is_replayed(reply), await asked.cancelled(client)) == (200, True, True)
        assert len(await asked.seen(client)) == 1
        told = [each for each in gateway.place.records() if each["event"] == "outcome" and each["final"]]
        assert [(each["outcome"], each["recovered"]) for each in told] == [("applied", True)]
        process.terminate()
        await asyncio.to_thread(process.wait, 30)


async def test_who_may_not_write_any_more_gets_no_old_answer(client: Client, asked: Subject) -> None:
    assert (await asked.cancel(client)).status == 200
    grants = client.place.grants.read_text(encoding="utf-8")
    head, *tables = grants.split("\n[[grants]]\n")
    left = (each for each in tables if 'partner = "swiftbook"' not in each)
    await client.regrant("\n[[grants]]\n".join((head, *left)))
    try:
        refused = await asked.cancel(client)
    finally:
        await client.regrant(grants)

    assert (refused.status, refused.code, is_replayed(refused)) == (403, "no-grant", False)
    assert is_replayed(await asked.cancel(client))


async def test_what_is_out_of_reach_by_now_is_done_and_not_shown(client: Client, asked: Subject) -> None:
    assert (await asked.cancel(client)).status == 200
    held = await client.copy(asked.id, asked.customer)
    scenes = [each for each in client.place.told["appointments"] if each["customer"] == asked.customer]
    outside = next(each["id"] for each in scenes if each["scenario"] == "label-outside")
    labels = (await client.copy(outside, asked.customer))["meta"]["security"]
    await client.put(asked.id, {**held, "meta": {**held["meta"], "security": labels}}, customer=asked.customer)

    again = await asked.cancel(client)

    assert (again.status, again.raw, is_replayed(again)) == (200, b"", True)
    assert "ETag" not in again.headers
    assert (await client.read(asked.id, customer=asked.customer)).code == "not-found"
    [record] = await client.audit_of(again.request_id)
    assert record["event"] == "replayed"
    assert [passed for _, passed in record["checks"]].count(False) == 1


async def test_a_refusal_before_anything_was_intended_frees_the_key(client: Client, asked: Subject) -> None:
    early = await asked.cancel(client, headers={"If-Match": 'W/"0"'})
    done = await asked.cancel(client)

    assert (early.status, early.code) == (412, "version-conflict")
    assert (done.status, is_replayed(done)) == (200, False)
    assert len(await asked.seen(client)) == 1


async def test_a_503_frees_the_key(client: Client, asked: Subject) -> None:
    await client.fault("status", 503, target=READS[asked.route], on="read")
    failed = await asked.cancel(client)
    await client.clear()
    done = await asked.cancel(client)

    assert (failed.status, failed.code) == (503, "upstream-unavailable")
    assert (done.status, is_replayed(done)) == (200, False)


async def test_prefer_is_no_part_of_the_request(client: Client, asked: Subject) -> None:
    minimal = {"Prefer": "return=minimal"}
    replies = [
        await asked.cancel(client, headers=minimal),
        await asked.cancel(client),
        await asked.cancel(client, headers=minimal),
        await asked.cancel(client, headers={"Prefer": "return=OperationOutcome"}),
        await asked.cancel(client, token=client.place.token("swiftbook", "system/Appointment.u")),
    ]

    assert [reply.status for reply in replies] == [200] * 5
    assert [is_replayed(reply) for reply in replies] == [False, True, True, True, True]
    kinds = [reply.body and reply.body["resourceType"] for reply in replies]
    assert kinds == [None, "Appointment", None, "OperationOutcome", None]


async def test_a_key_is_its_partners_own(client: Client) -> None:
    key = {"Idempotency-Key": str(uuid.uuid4())}
    mine, theirs = await client.fresh(), await client.fresh()
    replies = [
        await client.change(mine, comment("from one"), headers=key),
        await client.change(theirs, comment("from the other"), headers=key, partner="twin"),
        await client.change(mine, comment("from one"), headers=key),
    ]

    assert [(reply.status, is_replayed(reply)) for reply in replies] == [(200, False), (200, False), (200, True)]
    assert (await client.copy(theirs))["comment"] == "from the other"


@pytest.mark.parametrize("key", ["k" * 128, "!~", "k" * 129, "", "one two", "tab\there"])
async def test_on_reads_a_key_is_ignored_whatever_it_is(key: str, client: Client) -> None:
    id_ = await client.fresh()
    replies = [await client.read(id_, headers={"Idempotency-Key": key}) for _ in range(2)]

    assert [(reply.status, is_replayed(reply)) for reply in replies] == [(200, False)] * 2


@pytest.mark.parametrize(
    ("key", "status"),
    [("k", 200), ("k" * 128, 200), ("!" + uuid.uuid4().hex + "~", 200), ("k" * 129, 400), ("", 400), ("one two", 400)],
    ids=["one", "128", "punctuation", "129", "none", "a blank"],
)
async def test_a_key_has_one_to_128_visible_characters(key: str, status: int, client: Client) -> None:
    id_ = await client.fresh()
    reply = await client.cancel(id_, body=parameters(reason()), headers={"Idempotency-Key": key})

    assert (reply.status, reply.code) == (status, "" if status == 200 else "invalid-parameter")
    assert len(await client.writes(id_)) == (1 if status == 200 else 0)


async def test_repeating_is_counted_by_the_partners_rate(client: Client, asked: Subject) -> None:
    replies = [await asked.cancel(client) for _ in range(2)]

    assert all("RateLimit" in reply.headers for reply in replies)
