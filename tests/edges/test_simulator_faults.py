"""Every fault of the boxes and the token server, over real sockets."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.edges.simulator_desk import Desk, open_desk


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_desk() as desk:
        yield desk


async def test_a_delay_answers_late_and_normally(desk: Desk) -> None:
    await desk.order(target="box", kind="delay", value=150)
    started = time.monotonic()
    assert (await desk.cancel(desk.first()))[0] == 200
    assert time.monotonic() - started >= 0.15


async def test_a_delayed_write_is_applied_though_its_sender_hung_up(desk: Desk) -> None:
    booked = desk.first()
    await desk.order(target="box", kind="delay", value=150)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await desk.cancel(booked)
    assert [(write.applied, write.answer) for write in desk.pkb.writes] == [(False, None)]
    await asyncio.sleep(0.2)
    assert (await desk.copy(booked))["status"] == "cancelled"
    assert [(write.applied, write.answer) for write in desk.pkb.writes] == [(True, 200)]


async def test_a_delayed_write_does_not_reach_into_the_world_after_a_reset(desk: Desk) -> None:
    booked = desk.first()
    await desk.order(target="box", kind="delay", value=100)
    late = asyncio.create_task(desk.cancel(booked))
    await desk.arrival()
    await desk.control("POST", "/reset")
    await late
    assert (await desk.copy(booked))["status"] == "booked"
    assert desk.pkb.writes == []


@pytest.mark.parametrize("status", [200, 204, 302, 401, 409, 429, 500, 503])
async def test_an_ordered_status_is_answered_and_nothing_applied(desk: Desk, status: int) -> None:
    await desk.order(target="box", kind="status", value=status)
    booked = desk.first()
    assert (await desk.cancel(booked))[0] == status
    assert (await desk.copy(booked))["meta"]["versionId"] == booked.version
    assert [(write.applied, write.answer) for write in desk.pkb.writes] == [(False, status)]


async def test_an_ordered_redirect_points_at_the_same_place(desk: Desk) -> None:
    await desk.order(target="box", kind="status", value=307, on="read")
    url = f"{desk.pkb.box_url('airedale')}/Organization/airedale"
    async with desk.session.get(url, headers={"Authorization": f"Bearer {desk.token}"}) as answer:
        assert answer.status == 200
        assert [(step.status, step.headers["Location"]) for step in answer.history] == [
            (307, "/boxes/airedale/fhir/Organization/airedale")
        ]


async def test_a_caller_that_sends_again_after_a_drop_is_seen_twice(desk: Desk) -> None:
    await desk.order(target="box", kind="drop-before")
    # aiohttp's client sends a PUT again by itself when the connection was closed without an answer.
    assert (await desk.cancel(desk.first()))[0] == 200
    assert [(write.applied, write.answer) for write in desk.pkb.writes] == [(False, None), (True, 200)]


@pytest.mark.parametrize(
    ("kind", "status"), [("drop-before", "booked"), ("drop-after", "cancelled")], ids=["before", "after"]
)
async def test_a_drop_closes_the_connection_without_a_byte(desk: Desk, kind: str, status: str) -> None:
    booked = desk.first()
    body = json.dumps({**await desk.copy(booked), "status": "cancelled"}).encode()
    await desk.order(target="box", kind=kind)
    host, port = desk.pkb.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"PUT /boxes/airedale/fhir/Appointment/{booked.id} HTTP/1.1\r\nHost: {host}\r\n"
    head += f"Authorization: Bearer {desk.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    assert await asyncio.wait_for(reader.read(), 2) == b""
    writer.close()
    assert (await desk.copy(booked))["status"] == status
    assert [(write.applied, write.answer) for write in desk.pkb.writes] == [(status == "cancelled", None)]


@pytest.mark.parametrize(
    ("value", "status"),
    [("applied", "cancelled"), ("not-applied", "booked"), (None, "booked")],
    ids=["applied", "not applied", "default"],
)
async def test_garbage_is_html_with_200(desk: Desk, value: str | None, status: str) -> None:
    await desk.order(target="box", kind="garbage", value=value)
    booked = desk.first()
    answer = await desk.cancel(booked)
    assert answer[0] == 200
    assert answer[1].startswith("<!DOCTYPE html>")
    assert (await desk.copy(booked))["status"] == status
    assert [(write.applied, write.answer) for write in desk.pkb.writes] == [(status == "cancelled", 200)]


@pytest.mark.parametrize(("kind", "value"), [("status", 500), ("garbage", None)])
async def test_a_fault_says_what_it_was_told_to_say(desk: Desk, kind: str, value: int | None) -> None:
    await desk.order(target="box", kind=kind, value=value, text="Mrs Jones was here")
    assert "Mrs Jones was here" in (await desk.cancel(desk.first()))[1]


async def test_a_fault_strikes_one_write_and_no_read_unless_told_otherwise(desk: Desk) -> None:
    await desk.order(target="box", kind="status", value=500)
    booked = desk.first()
    assert (await desk.box("GET", f"Appointment/{booked.id}"))[0] == 200
    assert (await desk.cancel(booked))[0] == 500
    assert (await desk.cancel(booked))[0] == 200


async def test_a_fault_strikes_as_often_as_counted(desk: Desk) -> None:
    await desk.order(target="box", kind="status", value=503, count=2, on="any")
    path = f"Appointment/{desk.first().id}"
    assert [(await desk.box("GET", path))[0] for _ in range(3)] == [503, 503, 200]


async def test_a_fault_without_end_strikes_until_cleared(desk: Desk) -> None:
    await desk.order(target="box", kind="status", value=503, count=0, on="read")
    path = f"Patient/patient-{desk.first().id}"
    assert [(await desk.box("GET", path))[0] for _ in range(5)] == [503] * 5
    assert len((await desk.control("GET", "/faults"))[1]) == 1
    assert (await desk.control("DELETE", "/faults"))[0] == 200
    assert (await desk.box("GET", path))[0] == 200


async def test_faults_strike_in_the_order_they_were_given(desk: Desk) -> None:
    await desk.order(target="box", kind="status", value=500, on="read")
    await desk.order(target="box", kind="status", value=502, on="read")
    assert [(await desk.box("GET", "Organization/airedale"))[0] for _ in range(3)] == [500, 502, 200]


@pytest.mark.parametrize(
    ("customer", "struck"),
    [
        ("airedale", ["changeable", "team-owned"]),
        ("airedale-cardiology", ["team-owned"]),
        ("wharfedale", ["other-customer"]),
    ],
)
async def test_a_customers_fault_strikes_its_appointments_and_their_patients_only(
    desk: Desk, customer: str, struck: list[str]
) -> None:
    await desk.order(target="box", kind="status", value=503, count=0, on="read", customer=customer)
    for scenario in ("changeable", "team-owned", "other-customer"):
        expected = 503 if scenario in struck else 200
        booked = desk.first(scenario)
        assert (await desk.box("GET", f"Appointment/{booked.id}"))[0] == expected
        assert (await desk.box("GET", f"Patient/patient-{booked.id}"))[0] == expected
    assert (await desk.box("GET", f"Appointment?_id={desk.first().id}"))[0] == 503


async def test_a_fault_of_the_token_server_leaves_the_box_alone(desk: Desk) -> None:
    await desk.order(target="token", kind="status", value=503)
    await desk.order(target="token", kind="garbage")
    await desk.order(target="token", kind="drop-after", on="read")
    assert (await desk.cancel(desk.first()))[0] == 200
    assert [await desk.log_in(), await desk.log_in()] == [503, 200]
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await desk.log_in()
    assert await desk.log_in() == 200


async def test_a_request_without_a_token_uses_no_fault_up(desk: Desk) -> None:
    await desk.order(target="box", kind="status", value=503, on="any")
    token, desk.token = desk.token, "wrong"
    assert (await desk.box("GET", "Organization/airedale"))[0] == 401
    desk.token = token
    assert (await desk.box("GET", "Organization/airedale"))[0] == 503


@pytest.mark.parametrize("fault", [{"kind": "ack", "value": "AE"}, {"kind": "lag", "value": 50}])
async def test_faults_of_other_targets_wait(desk: Desk, fault: dict[str, Any]) -> None:
    target = "hl7" if fault["kind"] == "ack" else "aggregated"
    await desk.order(target=target, **fault)
    assert (await desk.cancel(desk.first()))[0] == 200
    _, waiting = await desk.control("GET", "/faults")
    assert waiting == [{"target": target, "count": 1, "on": "write", "customer": None, **fault}]


GOOD = {"target": "box", "kind": "delay", "value": 1}


@pytest.mark.parametrize(
    ("body", "where", "what"),
    [
        pytest.param(b"", "body", "JSON", id="empty"),
        pytest.param(b"{", "body", "JSON", id="malformed"),
        pytest.param(b"[]", "body", "object", id="a list"),
        pytest.param({"kind": "delay", "value": 1}, "target", "required", id="no target"),
        pytest.param(GOOD | {"target": "moon"}, "target", "'box'", id="unknown target"),
        pytest.param(GOOD | {"kind": "slow"}, "kind", "'delay'", id="unknown kind"),
        pytest.param(GOOD | {"value": "1"}, "value", "milliseconds", id="delay as text"),
        pytest.param(GOOD | {"value": True}, "value", "integer", id="delay as boolean"),
        pytest.param(GOOD | {"value": -1}, "value", "milliseconds", id="negative delay"),
        pytest.param(GOOD | {"value": 1.5}, "value", "integer", id="half a millisecond"),
        pytest.param(GOOD | {"value": None}, "value", "milliseconds", id="delay without value"),
        pytest.param(GOOD | {"kind": "status"}, "value", "200 to 599", id="no such status"),
        pytest.param(GOOD | {"kind": "garbage"}, "value", "not-applied", id="garbage by number"),
        pytest.param(GOOD | {"count": -1}, "count", "greater", id="negative count"),
        pytest.param(GOOD | {"count": "2"}, "count", "integer", id="count as text"),
        pytest.param(GOOD | {"on": "writes"}, "on", "'any'", id="unknown on"),
        pytest.param(GOOD | {"customer": "nowhere"}, "customer", "wharfedale", id="unknown customer"),
        pytest.param(GOOD | {"colour": "red"}, "colour", "permitted", id="unknown member"),
        pytest.param({"target": "box", "kind": "ack", "value": "AE"}, "kind", "hl7 only", id="ack of a box"),
        pytest.param({"target": "hl7", "kind": "ack", "value": "AX"}, "value", "wrong-id", id="unknown ack"),
        pytest.param({"target": "box", "kind": "lag", "value": 5}, "kind", "aggregated only", id="lag of a box"),
    ],
)
async def test_a_bad_fault_is_refused_with_what_and_where(desk: Desk, body: Any, where: str, what: str) -> None:
    status, answer = await desk.control("POST", "/faults", body)
    assert status == 400
    assert any(problem["where"].startswith(where) and what in problem["what"] for problem in answer["problems"])
    assert what in answer["error"]
    assert (await desk.control("GET", "/faults"))[1] == []


async def test_closing_does_not_wait_for_what_is_under_way(desk: Desk) -> None:
    await desk.order(target="box", kind="delay", value=60_000)
    late = asyncio.create_task(desk.cancel(desk.first()))
    await desk.arrival()
    started = time.monotonic()
    await desk.pkb.close()
    assert time.monotonic() - started < 2
    with pytest.raises(aiohttp.ClientError):
        await late
