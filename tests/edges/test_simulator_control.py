"""The control API's list of writes and its hand in PKB's copies, over real sockets."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.edges.simulator_desk import Desk, open_desk


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_desk() as desk:
        yield desk


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
    booked = desk.all("changeable")[3]
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


async def test_a_patient_can_be_stored_behind_everyones_back_too(desk: Desk) -> None:
    name = f"patient-{desk.first().id}"
    stored = {"resourceType": "Patient", "id": name, "name": [{"family": "Jones"}]}
    status, _ = await desk.control("PUT", f"/patients/airedale/{name}", stored)
    assert status == 200
    shown = json.loads((await desk.box("GET", f"Patient/{name}"))[1])
    assert shown["name"] == [{"family": "Jones"}]


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
