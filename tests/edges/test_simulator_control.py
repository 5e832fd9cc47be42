"""The control API, every fault, and the demonstration's data, over real sockets."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from gateway.simulator import CUSTOMERS, GATEWAY, PRIVACY_LABEL, DemoAppointment, Simulator
from gateway.simulator.demo import SCENARIOS

NOW = datetime(2026, 3, 2, 10, 15, 20, tzinfo=UTC)


class Desk:
    """A tester's desk: the control API, and the box with a token."""

    def __init__(self, pkb: Simulator, session: aiohttp.ClientSession) -> None:
        self.pkb = pkb
        self.session = session
        self.token = ""

    async def log_in(self) -> int:
        form = {"grant_type": "client_credentials", "client_id": GATEWAY.client_id}
        async with self.session.post(
            self.pkb.token_url, data=form | {"client_secret": GATEWAY.client_secret}
        ) as answer:
            if answer.content_type == "application/json" and answer.status == 200:
                self.token = (await answer.json())["access_token"]
            return answer.status

    async def control(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        async with self.session.request(method, f"{self.pkb.control_url}{path}", data=data) as answer:
            return answer.status, await answer.json()

    async def order(self, **fault: Any) -> None:
        status, answer = await self.control("POST", "/faults", fault)
        assert status == 200, answer

    async def box(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {self.token}"}
        data = None if body is None else json.dumps(body).encode()
        url = f"{self.pkb.box_url('airedale')}/{path}"
        async with self.session.request(method, url, data=data, headers=headers, allow_redirects=False) as answer:
            return answer.status, await answer.text()

    async def arrival(self) -> None:
        while not self.pkb.writes:  # noqa: ASYNC110 - the simulator's list is plain and wakes nobody
            await asyncio.sleep(0.005)

    async def copy(self, booked: DemoAppointment) -> Any:
        status, copy = await self.control("GET", f"/appointments/{booked.customer}/{booked.id}")
        assert status == 200
        return copy

    async def cancel(self, booked: DemoAppointment) -> tuple[int, str]:
        changed = {**await self.copy(booked), "status": "cancelled"}
        return await self.box("PUT", f"Appointment/{booked.id}", changed)

    async def owner(self, appointment_id: str) -> str:
        _, copy = await self.control("GET", f"/appointments/airedale/{appointment_id}")
        reference = copy["participant"][0]["actor"]["reference"]
        return str(json.loads((await self.box("GET", reference))[1])["managingOrganization"]["reference"])

    def all(self, scenario: str) -> list[DemoAppointment]:
        return [a for a in self.pkb.appointments if a.scenario == scenario]

    def first(self, scenario: str = "changeable") -> DemoAppointment:
        return self.all(scenario)[0]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    pkb = Simulator(NOW)
    await pkb.start()
    async with aiohttp.ClientSession() as session:
        desk = Desk(pkb, session)
        assert await desk.log_in() == 200
        yield desk
    await pkb.close()


# Faults


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


# Writes


async def test_every_write_is_listed_with_what_was_sent(desk: Desk) -> None:
    booked, team = desk.first(), desk.first("team-owned")
    await desk.cancel(booked)
    await desk.box("GET", f"Appointment/{booked.id}")
    await desk.box("PUT", f"Appointment/{team.id}", {"resourceType": "Patient"})
    await desk.box("POST", "Organization", {"resourceType": "Organization"})
    await desk.box("DELETE", f"Patient/patient-{desk.first('other-customer').id}")
    status, writes = await desk.control("GET", "/writes")
    assert status == 200
    assert [(w["n"], w["method"], w["customer"], w["applied"], w["answer"]) for w in writes] == [
        (1, "PUT", "airedale", True, 200),
        (2, "PUT", "airedale-cardiology", False, 422),
        (3, "POST", "airedale", True, 201),
        (4, "DELETE", "wharfedale", True, 200),
    ]
    first = writes[0]
    assert (first["target"], first["path"]) == ("box", f"/boxes/airedale/fhir/Appointment/{booked.id}")
    assert first["headers"]["authorization"] == f"Bearer {desk.token}"
    assert json.loads(first["body"])["status"] == "cancelled"
    assert first["time"].endswith("Z")
    assert datetime.fromisoformat(first["time"]) <= datetime.now(UTC)


async def test_a_repeated_header_is_shown_joined(desk: Desk) -> None:
    headers = [("If-Match", '"1"'), ("If-Match", '"2"')]
    url = f"{desk.pkb.box_url('airedale')}/Appointment/x"
    async with desk.session.put(url, headers=headers, data=b"\xff"):
        pass
    write = desk.pkb.writes[0]
    assert (write.headers["if-match"], write.body) == ('"1", "2"', "\ufffd")


# Appointments


async def test_pkbs_copy_is_shown_as_it_is_written(desk: Desk) -> None:
    booked = desk.first()
    url = f"{desk.pkb.control_url}/appointments/airedale-cardiology/{booked.id}"
    async with desk.session.get(url) as answer:
        text = await answer.text()
        assert answer.headers["ETag"] == f'W/"{booked.version}"'
    assert text == (await desk.box("GET", f"Appointment/{booked.id}"))[1]
    assert '"valueDecimal":1.10' in text


async def test_anything_can_be_stored_behind_everyones_back(desk: Desk) -> None:
    booked = desk.first()
    path = f"/appointments/airedale/{booked.id}"
    status, stored = await desk.control("PUT", path, {"id": "another", "status": 7, "meta": "none"})
    assert (status, stored) == (200, {"id": "another", "status": 7, "meta": "none"})
    assert json.loads((await desk.box("GET", f"Appointment/{booked.id}"))[1]) == stored
    _, stored = await desk.control("PUT", path, {"resourceType": "Observation"})
    assert (stored["resourceType"], stored["id"]) == ("Observation", booked.id)
    assert int(stored["meta"]["versionId"]) > int(booked.version)
    assert desk.pkb.writes == []


async def test_an_owner_can_be_given_to_an_appointment(desk: Desk) -> None:
    booked = desk.first()
    assert await desk.owner(booked.id) == "Organization/airedale"
    copy = await desk.copy(booked)
    path = f"/appointments/airedale/{booked.id}?owner="
    for owner in ("wharfedale", "airedale-cardiology", "airedale"):
        _, stored = await desk.control("PUT", path + owner, copy)
        assert stored["participant"] == copy["participant"]
        assert await desk.owner(booked.id) == f"Organization/{owner}"


async def test_an_owner_given_to_a_second_appointment_leaves_the_first_ones_owner(desk: Desk) -> None:
    booked = desk.first()
    copy = await desk.copy(booked)
    await desk.control("PUT", "/appointments/airedale/second?owner=wharfedale", copy | {"id": "second"})
    assert await desk.owner("second") == "Organization/wharfedale"
    assert await desk.owner(booked.id) == "Organization/airedale"
    await desk.control("PUT", "/appointments/airedale/third?owner=airedale", copy | {"id": "third"})
    assert (await desk.control("GET", "/appointments/airedale/third"))[1]["participant"] == copy["participant"]


@pytest.mark.parametrize(
    "participants", [{}, {"participant": [{"actor": {"reference": "Patient/nobody"}}]}], ids=["none", "unknown"]
)
async def test_an_owner_given_to_an_appointment_without_known_patient_makes_one(
    desk: Desk, participants: dict[str, Any]
) -> None:
    body = {"resourceType": "Appointment", "status": "booked"} | participants
    await desk.control("PUT", "/appointments/airedale/bare?owner=wharfedale", body)
    assert await desk.owner("bare") == "Organization/wharfedale"


async def test_an_owner_is_not_forced_upon_strange_participants(desk: Desk) -> None:
    body = {"participant": ["x", {"actor": 1}, {"actor": {"reference": "https://else.example/Patient/1"}}]}
    _, stored = await desk.control("PUT", "/appointments/airedale/odd?owner=wharfedale", body)
    assert stored["participant"] == body["participant"]
    mixed = {"participant": ["x", {"actor": {"reference": f"Patient/patient-{desk.first().id}"}}]}
    _, stored = await desk.control("PUT", "/appointments/airedale/mixed?owner=wharfedale", mixed)
    assert stored["participant"][0] == "x"
    assert stored["participant"][1]["actor"]["reference"].endswith(".wharfedale")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "what"),
    [
        pytest.param("GET", "/appointments/nowhere/x", None, 404, "airedale", id="unknown customer"),
        pytest.param("GET", "/appointments/airedale/x", None, 404, "no such", id="unknown appointment"),
        pytest.param("PUT", "/appointments/airedale/x", b"{", 400, "line 1", id="malformed"),
        pytest.param("PUT", "/appointments/airedale/x", b"[]", 400, "object", id="no object"),
        pytest.param("PUT", "/appointments/airedale/x?owner=me", b"{}", 400, "owner", id="unknown owner"),
        pytest.param("PUT", "/appointments/airedale/x?by=me", b"{}", 400, "by", id="unknown parameter"),
        pytest.param("POST", "/hl7-review/1", b"{}", 404, "review", id="no such message"),
        pytest.param("GET", "/elsewhere", None, 404, "/control/elsewhere", id="unknown path"),
        pytest.param("DELETE", "/writes", None, 405, "DELETE", id="wrong method"),
    ],
)
async def test_a_bad_order_is_refused_in_json(
    desk: Desk, method: str, path: str, body: bytes | None, status: int, what: str
) -> None:
    answer = await desk.control(method, path, body)
    assert answer[0] == status
    assert what in answer[1]["error"]
    assert desk.pkb.world.boxes["airedale"].get("Appointment", "x") is None


async def test_nothing_waits_for_review(desk: Desk) -> None:
    assert await desk.control("GET", "/hl7-review") == (200, [])


async def test_a_reset_puts_everything_back_but_the_tokens(desk: Desk) -> None:
    before = desk.pkb.appointments
    copy = await desk.copy(before[0])
    await desk.cancel(before[0])
    await desk.order(target="box", kind="status", value=500, count=0, on="any")
    assert (await desk.control("POST", "/reset"))[0] == 200
    assert desk.pkb.appointments == before
    assert (await desk.copy(before[0])) == copy
    assert (await desk.control("GET", "/writes"))[1] == []
    assert (await desk.box("GET", f"Appointment/{before[0].id}"))[0] == 200


# Demo data


def test_the_demonstration_has_enough_of_everything(desk: Desk) -> None:
    found = Counter((a.scenario, a.customer, a.owner) for a in desk.pkb.appointments)
    own, team = ("airedale", "airedale"), ("airedale", "airedale-cardiology")
    assert found.pop(("changeable", *own)) >= 10
    assert set(found) == {
        ("team-owned", *team),
        ("other-customer", "airedale", "wharfedale"),
        ("specialty-outside", "airedale-cardiology", "airedale-cardiology"),
        *((name, *own) for name in ("cancelled", "past", "inside-notice", "label-outside", "fulfilled", "noshow")),
    }
    assert min(found.values()) >= 3
    assert set(CUSTOMERS) == {"airedale", "airedale-cardiology", "wharfedale"}


async def test_the_list_agrees_with_pkbs_own_resources(desk: Desk) -> None:
    scenarios = {scenario.name: scenario for scenario in SCENARIOS}
    for booked in desk.pkb.appointments:
        copy = await desk.copy(booked)
        _, text = await desk.box("GET", copy["participant"][0]["actor"]["reference"])
        patient, identifier = json.loads(text), copy["identifier"][0]
        assert (copy["status"], copy["start"], copy["meta"]["versionId"]) == (
            booked.status,
            booked.start,
            booked.version,
        )
        assert f"{identifier['system']}|{identifier['value']}" == booked.identifier
        assert "{system}|{value}".format(**patient["identifier"][0]) == booked.patient_identifier
        assert patient["birthDate"] == booked.birth_date
        assert patient["managingOrganization"]["reference"] == CUSTOMERS[booked.owner].source
        scenario = scenarios[booked.scenario]
        assert copy["meta"]["security"][0] == {"system": PRIVACY_LABEL, "code": scenario.label}
        assert copy["specialty"][0]["coding"][0]["code"] == scenario.specialty[0]
    assert len({a.patient_identifier for a in desk.pkb.appointments}) == len(desk.pkb.appointments)


@pytest.mark.parametrize(
    ("scenario", "earliest", "latest"),
    [
        ("changeable", timedelta(days=39), timedelta(days=70)),
        ("team-owned", timedelta(days=39), timedelta(days=70)),
        ("inside-notice", timedelta(hours=23, minutes=59), timedelta(hours=24)),
        ("past", timedelta(days=-2), timedelta(0)),
    ],
)
def test_times_are_relative_to_the_start(desk: Desk, scenario: str, earliest: timedelta, latest: timedelta) -> None:
    for booked in desk.all(scenario):
        start = datetime.fromisoformat(booked.start)
        assert earliest <= start - NOW <= latest
        assert start.second == 0


def test_times_are_londons_wall_clock_with_its_offset(desk: Desk) -> None:
    assert desk.first().start == "2026-04-12T10:15:00+01:00"
    assert desk.first("past").start == "2026-03-01T10:00:00+00:00"


async def test_an_appointment_lasts_half_an_hour_even_when_clocks_change() -> None:
    desk = Desk(Simulator(datetime(2026, 3, 28, 0, 45, tzinfo=UTC)), aiohttp.ClientSession())
    await desk.session.close()
    copy = desk.pkb.world.boxes["airedale"].get("Appointment", desk.first("inside-notice").id)
    assert copy is not None
    assert copy.resource["start"] == "2026-03-29T00:45:00+00:00"
    assert copy.resource["end"] == "2026-03-29T02:15:00+01:00"


def test_nhs_numbers_are_of_the_test_range_and_have_their_check_digit(desk: Desk) -> None:
    for booked in desk.pkb.appointments:
        number = booked.patient_identifier.rpartition("|")[2]
        assert number.startswith("999")
        assert sum(int(digit) * weight for digit, weight in zip(number, range(10, 0, -1), strict=True)) % 11 == 0


def test_ids_are_the_same_in_every_start(desk: Desk) -> None:
    later = Simulator(NOW + timedelta(days=100))
    assert [(a.id, a.version, a.identifier, a.patient_identifier, a.birth_date) for a in later.appointments] == [
        (a.id, a.version, a.identifier, a.patient_identifier, a.birth_date) for a in desk.pkb.appointments
    ]
    assert later.appointments[0].start != desk.pkb.appointments[0].start


async def test_closing_does_not_wait_for_what_is_under_way(desk: Desk) -> None:
    await desk.order(target="box", kind="delay", value=60_000)
    late = asyncio.create_task(desk.cancel(desk.first()))
    await desk.arrival()
    started = time.monotonic()
    await desk.pkb.close()
    assert time.monotonic() - started < 2
    with pytest.raises(aiohttp.ClientError):
        await late
