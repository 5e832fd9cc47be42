"""What a running gateway tells Prometheus, and that nobody can make it tell of more and more."""

import asyncio
import json
import re
import secrets
import sys
from collections.abc import Iterator

from yarl import URL

from tests.journeys.partner import Client, until
from tests.journeys.processes import Place, gateway_process

MANY = 10_000
CONNECTIONS = 8


async def series(client: Client) -> dict[str, float]:
    """Every time series, with its value."""
    async with client.session.get(f"{client.place.admin_url}/metrics") as response:
        text = await response.text()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


async def reads(client: Client, name: str, value: float) -> None:
    """Wait until a series has a value."""

    async def now() -> float:
        return (await series(client)).get(name, -1.0)

    await until(now, lambda seen: seen == value)


async def test_a_cancel_is_told_by_stage_decision_outcome_and_exchange(client: Client) -> None:
    before = await series(client)
    assert (await client.cancel(await client.fresh())).status == 200
    after = await series(client)

    def grown(name: str) -> float:
        return after[f"pkb_gateway_{name}"] - before.get(f"pkb_gateway_{name}", 0.0)

    for stage in ("authenticate", "read", "decide", "intent", "write", "outcome"):
        assert grown(f'stage_seconds_count{{stage="{stage}"}}') == 1
        assert 0 < grown(f'stage_seconds_sum{{stage="{stage}"}}') < 10
    assert grown('decisions_total{code="",decision="permit",operation="cancel"}') == 1
    assert grown('outcomes_total{final="true",operation="cancel",outcome="applied"}') == 1
    assert grown('upstream_exchanges_total{message="write",result="ok",upstream="airedale-box"}') == 1
    assert grown('upstream_seconds_count{message="read",upstream="airedale-box"}') == 1
    assert grown("audit_commit_records_sum") >= 2
    assert after["pkb_gateway_audit_last_durable_timestamp_seconds"] > 1.7e9


async def test_a_write_in_doubt_is_an_open_intent_with_an_age(client: Client) -> None:
    await client.fault("drop-before", on="write", count=1)
    assert (await client.cancel(await client.fresh())).status == 504
    told = await series(client)
    assert told['pkb_gateway_open_intents{state="in-progress"}'] == 1
    assert 0 < told['pkb_gateway_oldest_intent_seconds{state="in-progress"}'] < 60
    assert told['pkb_gateway_open_intents{state="requested"}'] == 0


async def test_a_breaker_that_opens_is_told(client: Client) -> None:
    seen = client.demo("changeable")["id"]
    await client.fault("status", 500, on="read")
    for _ in range(20):
        assert (await client.read(seen)).status == 503
    assert (await series(client))['pkb_gateway_breaker{upstream="airedale-box"}'] == 2
    await client.clear()

    async def again() -> int:
        return (await client.read(seen)).status

    await until(again, lambda status: status == 200)
    assert (await series(client))['pkb_gateway_breaker{upstream="airedale-box"}'] == 0


async def test_a_grants_file_that_is_refused_is_told_until_it_is_good(client: Client) -> None:
    good = client.place.grants.read_text(encoding="utf-8")
    client.place.grants.write_text("version = 2\n", encoding="utf-8")
    await reads(client, 'pkb_gateway_degraded{reason="grants"}', 1)
    assert (await series(client))["pkb_gateway_grants_refused_since_timestamp_seconds"] > 1.7e9
    client.place.grants.write_text(good, encoding="utf-8")
    await reads(client, 'pkb_gateway_degraded{reason="grants"}', 0)
    assert (await series(client))["pkb_gateway_grants_refused_since_timestamp_seconds"] == 0


async def test_a_block_is_told(client: Client) -> None:
    for verb, blocks in (("block", 1), ("unblock", 0)):
        config = str(client.place.told["config_file"])
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", verb, "viewonly", "--by", "Jo", "--config", config),
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert await process.wait() == 0
        await reads(client, "pkb_gateway_blocks", blocks)


async def test_what_came_to_no_answer_of_its_own_is_counted_too(client: Client) -> None:
    with gateway_process(client.place, "failing", module="tests.journeys.failing_gateway") as further:
        failing = client.at(further)
        assert (await failing.ask("GET", "/_ping", headers={"X-Fail": "internal"})).status == 500
        assert b" 400 " in await failing.raw(b"GET /%41 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await failing.ask("GET", "/_ping", headers={"X-Fail": "overloaded"})).status == 503
        told = await series(failing)
    assert told['pkb_gateway_requests_total{code="internal",route="none",status="500"}'] == 1
    assert told['pkb_gateway_requests_total{code="malformed-request",route="none",status="400"}'] == 1
    assert told['pkb_gateway_shed_total{reason="in-flight"}'] == 1
    lines = [json.loads(line) for line in (further.directory / "failing.log").read_text().splitlines()]
    [fault] = [line for line in lines if line["event"] == "fault"]
    assert fault["trace"].startswith("builtins.RuntimeError\n")
    assert "asked for" not in str(lines)
    assert [line for line in lines if line["event"] == "request"] == []


def strangers(place: Place, number: int) -> bytes:
    """One of many requests in which every word that a stranger may choose is new."""
    word = secrets.token_hex(8)
    good, half = f"Authorization: Bearer {place.token('swiftbook')}\r\n", f"Authorization: Bearer {word}.{word}.x\r\n"
    method, path, more = (
        ("GET", f"/{word}/fhir/Appointment/{word}", half),
        ("GET", f"/{word}/fhir/metadata", ""),
        ("GET", f"/{word}/fhir/Task/{word}", good),
        ("POST", f"/airedale/fhir/Appointment/{word}/$cancel", half),
        ("GET", f"/{word}/{word}", ""),
        ("".join(chr(ord("A") + int(digit, 16)) for digit in word), "/_ping", ""),
        ("GET", f"/airedale/fhir/Appointment?{word}={word}", good),
        ("GET", "/_ping", f"X-Request-Id: {word}\r\ntraceparent: 00-{word * 2}-{word}-01\r\nUser-Agent: {word}\r\n"),
    )[number % 8]
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n{more}\r\n".encode()


async def answered(place: Place, requests: Iterator[bytes]) -> int:
    """Send requests one after the other on one connection; how many were answered."""
    url, count = URL(place.gateway_url), 0
    reader, writer = await asyncio.open_connection(url.host, url.port)
    for request in requests:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length is not None, head
        await reader.readexactly(int(length[1]))
        count += 1
        if b"connection: close" in head.lower():
            writer.close()
            reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.close()
    return count


async def test_ten_thousand_ids_make_not_one_series(client: Client) -> None:
    """Every kind of request is sent once before, so that only what differs from one to the next could add any."""
    kinds = (strangers(client.place, number) for number in range(8))
    assert await answered(client.place, kinds) == 8
    before = set(await series(client))
    shares = [range(first, MANY, CONNECTIONS) for first in range(CONNECTIONS)]
    sent = await asyncio.gather(
        *(answered(client.place, (strangers(client.place, number) for number in share)) for share in shares)
    )
    assert sum(sent) == MANY
    assert set(await series(client)) - before == set()
