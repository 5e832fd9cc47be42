"""The load benches in short: what is refused and what is true, never how fast."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bench.load.place import port_of, seeded, wrong_answers
from bench.load.plan import Plan, Run, generate
from bench.load.report import told
from tests.journeys.partner import Client, until
from tests.journeys.processes import Place, Sandbox, gateway_process

HUNG = "leeds"
TOO_MANY = 900.0
"""Requests a second; several times what one process serves on any machine of today."""


@pytest.fixture
async def loaded(sandbox: Sandbox) -> AsyncIterator[Client]:
    with gateway_process(sandbox.place, "load") as place:
        async with Client(place) as client:
            yield client
            await client.clear()


async def run(client: Client, name: str, seconds: float, *customers: str, rate: float) -> Run:
    seeds = [await seeded(client, customer, 150) for customer in customers]
    targets = [target for group in zip(*seeds, strict=True) for target in group]
    return await generate(Plan(name, port_of(client.place), seconds, targets, rate=rate, connections=1500))


async def test_too_many_requests_are_refused_in_part_and_nobody_is_told_a_falsehood(loaded: Client) -> None:
    over = await run(loaded, "over", 4, "airedale", HUNG, rate=TOO_MANY)
    answers = told(over.samples)
    assert sum(each.shed for each in over.samples) > len(over.samples) / 10, answers
    assert sum(each.good for each in over.samples) > 10, answers
    assert not {answer for answer in answers if answer.startswith("500")}, answers
    assert await wrong_answers(loaded, [over]) == []

    async def again() -> int:
        return (await loaded.read(loaded.demo("changeable")["id"])).status

    await until(again, lambda status: status == 200)


async def test_a_hanging_pkb_of_one_customer_sheds_nobody(loaded: Client) -> None:
    await loaded.fault("delay", 60_000, customer=HUNG, on="any")
    hanging = await run(loaded, "hanging", 5, HUNG, "airedale", rate=20)
    assert {each.status for each in hanging.samples if each.customer == "airedale"} == {200}
    assert not any(each.shed for each in hanging.samples), told(hanging.samples)
    assert {each.good for each in hanging.samples if each.customer == HUNG} == {False}
    assert await wrong_answers(loaded, [hanging]) == []


async def test_the_token_endpoint_is_busy_in_the_words_of_oauth(place: Place, client: Client) -> None:
    with gateway_process(place, "crowded", "[limits]\nin_flight = 1") as full:
        crowded = client.at(full)
        await client.fault("delay", 3000, on="read", count=1)
        holding = asyncio.create_task(crowded.read(client.demo("changeable")["id"]))

        async def busy() -> int:
            return (await crowded.read("x", token="")).status

        await until(busy, lambda status: status == 503, 2)
        reply = await crowded.ask("POST", "/oauth2/token", token="", data=b"")
        assert (reply.status, reply.body["error"]) == (503, "temporarily_unavailable")
        assert reply.headers["Retry-After"] == "1"
        assert [each["code"] for each in await crowded.audit_of(reply.request_id)] == ["overloaded"]
        assert (await holding).status == 200
