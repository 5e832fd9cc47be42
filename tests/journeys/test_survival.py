"""What a write, the grants and the process survive; and what a sandbox tells about itself."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from yarl import URL

from tests.journeys.partner import Client, parameters, reason, replace_file, until
from tests.journeys.processes import Json, Place, Sandbox, started_gateway


def bytes_of_cancel(place: Place, id_: str) -> bytes:
    body = json.dumps(parameters(reason())).encode()
    head = (
        f"POST /airedale/fhir/Appointment/{id_}/$cancel HTTP/1.1\r\nHost: gateway\r\n"
        f"Authorization: Bearer {place.token('swiftbook')}\r\nContent-Type: application/fhir+json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize("delay", [0, 700], ids=["at once", "while PKB writes"])
async def test_a_write_survives_a_partner_that_hangs_up(delay: int, reset: bool, client: Client) -> None:
    id_ = await client.fresh()
    await client.fault("delay", delay, on="write", count=1)
    url = URL(client.place.gateway_url)
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(bytes_of_cancel(client.place, id_))
    await writer.drain()
    if delay:
        await until(lambda: client.writes(id_), bool)
    if reset:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()

    async def told() -> list[Json]:
        return [each for each in client.place.records() if each["appointment"] == id_]

    intent, outcome = await until(told, lambda records: len(records) >= 2)
    assert (intent["event"], outcome["event"]) == ("intent", "outcome")
    assert (outcome["outcome"], outcome["final"], outcome["intent"]) == ("applied", True, intent["seq"])
    assert [each["applied"] for each in await client.writes(id_)] == [True]
    assert (await client.task(intent["task"])).body["status"] == "completed"


async def test_a_write_survives_sigterm_and_its_answer_is_delivered(client: Client) -> None:
    id_ = await client.fresh()
    with started_gateway(client.place, "ending") as (place, process):
        gateway = client.at(place)
        await gateway.fault("delay", 1500, on="write", count=1)
        writing = asyncio.create_task(gateway.cancel(id_))
        await until(lambda: gateway.writes(id_), bool)
        process.send_signal(signal.SIGTERM)
        reply = await writing
        assert (reply.status, reply.body["status"]) == (200, "cancelled")
        assert await asyncio.to_thread(process.wait, 20) == 0
        intent, outcome = await gateway.audit_of(reply.request_id, count=2)
        assert (outcome["outcome"], outcome["final"], outcome["intent"]) == ("applied", True, intent["seq"])
        assert [each["event"] for each in place.records()][-2:] == ["stop", "checkpoint"]


async def test_an_unknown_outcome_does_not_hold_up_the_end_and_stays_on_record(client: Client) -> None:
    id_ = await client.fresh()
    with started_gateway(client.place, "doubting") as (place, process):
        gateway = client.at(place)
        await gateway.fault("drop-before", on="write", count=1)
        reply = await gateway.cancel(id_)
        assert reply.code == "outcome-unknown"
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
        assert [each["final"] for each in await gateway.audit_of(reply.request_id, "outcome")] == [False]


async def ready(client: Client, host: str | None = None) -> tuple[int, Any]:
    headers = {"Host": host} if host else {}
    async with client.session.get(f"{client.place.admin_url}/health/ready", headers=headers) as response:
        return response.status, await response.json()


BROKEN: dict[str, Callable[[str], str]] = {
    "no TOML": lambda grants: grants + "\n[[grants",
    "unknown key": lambda grants: grants.replace("notice =", "notise =", 1),
    "unknown partner": lambda grants: grants.replace('partner = "swiftbook"', 'partner = "swiftbok"', 1),
    "empty": lambda _: "",
}


@pytest.mark.parametrize("mistake", BROKEN)
async def test_a_broken_grants_file_leaves_the_last_good_one_in_force(mistake: str, client: Client) -> None:
    grants = client.place.grants.read_text(encoding="utf-8")
    assert (await ready(client))[1]["status"] == "ready"
    replace_file(client.place.grants, BROKEN[mistake](grants))
    try:
        status, told = await until(lambda: ready(client), lambda answer: bool(answer[1]["degraded"]), 5)
        assert (status, told["status"], told["degraded"]) == (200, "degraded", ["grants"])
        id_ = await client.fresh()
        assert (await client.cancel(id_)).status == 200
        assert (await client.read(id_, partner="newcomer")).code == "no-grant"
    finally:
        replace_file(client.place.grants, grants)
    await until(lambda: ready(client), lambda answer: answer[1]["status"] == "ready", 8)


async def test_a_grants_file_that_is_gone_leaves_the_last_good_one_in_force(client: Client) -> None:
    grants = client.place.grants.read_text(encoding="utf-8")
    client.place.grants.unlink()
    try:
        await until(lambda: ready(client), lambda answer: answer[1]["status"] == "degraded", 5)
        assert (await client.read(client.demo("changeable")["id"])).status == 200
    finally:
        replace_file(client.place.grants, grants)
    await until(lambda: ready(client), lambda answer: answer[1]["status"] == "ready", 8)


async def test_sighup_reads_the_grants_file_again_and_stops_nothing(sandbox: Sandbox, client: Client) -> None:
    grants = client.place.grants.read_text(encoding="utf-8")

    async def refusals() -> int:
        return sum(each["event"] == "grants-refused" for each in client.place.records())

    replace_file(client.place.grants, grants + "\n[[grants")
    before = await until(refusals, lambda count: count > 0)
    pid = sandbox.gateway_pid
    os.kill(pid, signal.SIGHUP)
    await until(refusals, lambda count: count > before, 3)
    replace_file(client.place.grants, grants)
    os.kill(pid, signal.SIGHUP)
    await until(lambda: ready(client), lambda answer: answer[1]["status"] == "ready", 5)
    assert sandbox.gateway_pid == pid


async def test_the_admin_side_answers_to_its_own_names_only(client: Client) -> None:
    port = URL(client.place.admin_url).port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost"):
        assert (await ready(client, host))[0] == 200
    for path in ("/health/live", "/health/ready", "/metrics"):
        headers = {"Host": "rebound.example"}
        async with client.session.get(client.place.admin_url + path, headers=headers) as response:
            assert response.status == 421
            assert "pkb" not in await response.text()


async def test_the_partner_port_has_no_admin_side(client: Client) -> None:
    for path in ("/metrics", "/health/live", "/health/ready", "/audit/stream"):
        assert (await client.ask("GET", path, token="")).code == "not-found"


async def test_a_gateway_that_is_killed_is_started_again_with_a_chain_that_names_the_last(
    sandbox: Sandbox, client: Client
) -> None:
    id_ = await client.fresh()
    assert (await client.cancel(id_)).status == 200
    last = client.place.records()[-1]
    pid = sandbox.gateway_pid
    os.kill(pid, signal.SIGKILL)

    async def answers() -> int:
        with contextlib.suppress(OSError):
            return (await client.read(id_)).status
        return 0

    await until(answers, lambda status: status == 200, 30)
    assert sandbox.gateway_pid != pid
    start = next(each for each in client.place.records() if each["event"] == "start" and each["chain"] != last["chain"])
    assert last["hash"] in json.dumps(start)


SANDBOX = {
    *(
        "gateway_url",
        "admin_url",
        "operator",
        "operator_token_file",
        "pkb_url",
        "pkb_control_url",
        "config_file",
        "grants_file",
        "audit_directory",
    ),
    *("partners", "customers", "appointments"),
}
APPOINTMENT = {
    *("customer", "id", "status", "start", "version", "scenario", "owner", "identifier"),
    *("patient_identifier", "birth_date"),
}
SCENARIOS = {
    *("changeable", "team-owned", "other-customer", "cancelled", "past", "inside-notice", "label-outside"),
    *("specialty-outside", "fulfilled", "noshow"),
}


async def test_sandbox_json_tells_exactly_what_its_readers_were_promised(client: Client) -> None:
    told = client.place.told
    assert told.keys() == SANDBOX
    assert set(told["partners"]) == {"swiftbook", "cardiolink", "viewonly", "formerly", "suspended", "newcomer"}
    for partner in told["partners"].values():
        assert partner.keys() == {"client_id", "private_key_file", "kid", "alg", "token_url", "access_token"}
        assert partner["token_url"] == f"{told['gateway_url']}/oauth2/token"
    assert {"airedale", "airedale-cardiology", "wharfedale"} <= set(told["customers"])
    assert all(each.keys() == {"kind", "route"} for each in told["customers"].values())
    assert all(each.keys() == APPOINTMENT for each in told["appointments"])
    counts = {name: sum(each["scenario"] == name for each in told["appointments"]) for name in SCENARIOS}
    assert counts["changeable"] >= 10
    assert min(counts.values()) >= 3
    for each in told["appointments"]:
        copy = await client.copy(each["id"], each["customer"])
        assert (copy["id"], copy["identifier"][0]["system"] + "|" + copy["identifier"][0]["value"]) == (
            each["id"],
            each["identifier"],
        )


async def test_the_access_tokens_of_sandbox_json_are_good_for_every_partner(client: Client) -> None:
    codes = {"swiftbook": "", "viewonly": "", "cardiolink": "no-grant", "newcomer": "no-grant"}
    codes |= {"formerly": "grant-expired", "suspended": "partner-suspended"}
    id_ = await client.fresh()
    for partner, code in codes.items():
        reply = await client.read(id_, token=client.place.told["partners"][partner]["access_token"])
        assert reply.code == code


async def test_a_write_in_doubt_is_held_and_followed_by_the_next_process(sandbox: Sandbox, client: Client) -> None:
    id_ = await client.fresh()
    await client.fault("drop-before", count=1)
    doubtful = await client.cancel(id_)
    assert doubtful.code == "outcome-unknown"
    pid = sandbox.gateway_pid
    os.kill(pid, signal.SIGKILL)

    async def busy() -> str:
        with contextlib.suppress(OSError):
            return (await client.cancel(id_)).code
        return ""

    assert await until(busy, bool, 30) == "appointment-busy"
    assert sandbox.gateway_pid != pid
    held = await client.cancel(id_)
    assert held.headers["Content-Location"] == doubtful.headers["Content-Location"]
    task = await client.task(held.headers["Content-Location"].rsplit("/", 1)[1])
    assert task.body["status"] == "in-progress"

    stored = await client.copy(id_)
    reasons = [{"system": "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason", "code": "pat"}]
    await client.put(id_, {**stored, "status": "cancelled", "cancelationReason": {"coding": reasons}})

    async def records() -> list[Any]:
        found = client.place.records()
        return [each for each in found if each["event"] == "outcome" and each["appointment"] == id_]

    first, last = await until(records, lambda found: len(found) == 2, 30)
    assert (first["outcome"], first["final"], first["recovered"]) == ("unknown", False, False)
    assert (last["outcome"], last["final"], last["recovered"]) == ("applied", True, True)
    for name in ("request_id", "partner", "customer", "appointment", "task", "intent"):
        assert last[name] == first[name]
