"""The Aggregated endpoint: reading, searching, lagging behind, and its faults, over real sockets."""

import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from gateway.simulator import GATEWAY, NHS_NUMBER, PLACER_SYSTEM, STRANGER
from tests.edges.simulator_hl7 import FULL, PKB, Hospital, extension, label, open_hospital, people, placer_of


@pytest.fixture
async def hospital() -> AsyncIterator[Hospital]:
    async with open_hospital() as hospital:
        yield hospital


async def ids(hospital: Hospital, query: str) -> list[str]:
    status, bundle = await hospital.read(f"Appointment?{query}")
    assert (status, bundle["resourceType"], bundle["type"]) == (200, "Bundle", "searchset")
    return [entry["resource"]["id"] for entry in bundle["entry"]]


# Shape


async def test_an_appointment_has_the_shape_of_data_that_came_by_hl7(hospital: Hospital) -> None:
    booked = next(a for a in hospital.all("changeable") if a.id.endswith("-04"))
    status, copy = await hospital.read(f"Appointment/{booked.id}")
    assert (status, copy["id"], copy["status"], copy["start"]) == (200, booked.id, "booked", booked.start)
    assert copy["meta"]["versionId"] == booked.version
    assert copy["meta"]["profile"] == [f"{PKB}/structuredefinition/aggregated-appointment"]
    assert copy["meta"]["security"] == [
        {"system": f"{PKB}/codesystem/privacy-label", "code": "GENERAL_HEALTH"},
        {"system": f"{PKB}/codesystem/source-organization", "code": "bradford"},
    ]
    source = {"url": f"{PKB}/structuredefinition/source-organisation"}
    assert source | {"valueReference": {"reference": "Organization/bradford"}} in copy["meta"]["extension"]
    assert copy["identifier"][0] == {"system": PLACER_SYSTEM, "value": placer_of(booked)}
    assert placer_of(booked) != booked.id
    assert copy["specialty"][0]["coding"][0]["display"] == "Cardiology"
    assert copy["appointmentType"]["coding"] == [{"display": "Cardiology follow-up"}]
    assert extension(copy, "encounter-class")["valueCoding"]["code"] == "O"
    assert people(copy) == [
        f"Patient/patient-{booked.id}",
        "Dr Test Jones (Consultant)",
        "Nurse Test Smith (Specialist Nurse)",
        "Outpatients, Level 2",
    ]
    assert [person["actor"].get("type") for person in copy["participant"]] == [None, None, None, "Location"]


async def test_the_list_agrees_with_what_is_read(hospital: Hospital) -> None:
    for booked in hospital.pkb.appointments:
        _, copy = await hospital.read(f"Appointment/{booked.id}")
        _, patient = await hospital.read(copy["participant"][0]["actor"]["reference"])
        assert (copy["status"], copy["start"]) == (booked.status, booked.start)
        assert label(copy) == ("SEXUAL_HEALTH" if booked.scenario == "label-outside" else "GENERAL_HEALTH")
        assert "{system}|{value}".format(**patient["identifier"][0]) == booked.patient_identifier
        assert (patient["birthDate"], "managingOrganization" in patient) == (booked.birth_date, False)
        assert patient["name"][0]["family"].startswith("XXTESTPATIENT")


async def test_an_answer_carries_its_version_as_etag(hospital: Hospital) -> None:
    booked = hospital.first()
    url = f"{hospital.pkb.aggregated_url}/Appointment/{booked.id}"
    async with hospital.session.get(url, headers={"Authorization": f"Bearer {hospital.token}"}) as answer:
        assert answer.headers["ETag"] == f'W/"{booked.version}"'
        assert answer.content_type == "application/fhir+json"


async def test_an_owner_given_by_hand_is_a_source_of_the_resource(hospital: Hospital) -> None:
    booked = hospital.first()
    copy = await hospital.pkb_copy(booked)
    await hospital.control("PUT", f"/appointments/bradford/{booked.id}?owner=airedale-cardiology", copy)
    _, after = await hospital.read(f"Appointment/{booked.id}")
    named = {e["url"].rpartition("/")[2]: e["valueReference"]["reference"] for e in after["meta"]["extension"][1:]}
    assert named == {
        "source-organisation": "Organization/airedale",
        "source-team": "Organization/airedale-cardiology",
    }
    assert [coding["code"] for coding in after["meta"]["security"]] == [
        "GENERAL_HEALTH",
        "airedale",
        "airedale-cardiology",
    ]


# Searches


async def test_a_patients_appointments_are_found_by_the_documented_search(hospital: Hospital) -> None:
    booked = hospital.first()
    for name in ("actor:Patient.identifier", "patient.identifier"):
        assert await ids(hospital, f"{name}={booked.patient_identifier}") == [booked.id]
        assert await ids(hospital, f"{name}={NHS_NUMBER}|0000000000") == []


async def test_an_appointment_is_found_by_its_placer_id(hospital: Hospital) -> None:
    booked = hospital.first()
    assert await ids(hospital, f"identifier={booked.identifier}") == [booked.id]
    assert await ids(hospital, f"identifier=urn:else|{placer_of(booked)}") == []


@pytest.mark.parametrize(
    ("date", "found"),
    [
        pytest.param("2026-04-14", True, id="the day"),
        pytest.param("eq2026-04-13", False, id="the day before"),
        pytest.param("ge2026-04-14", True, id="from the day on"),
        pytest.param("gt2026-04-14", False, id="after the day"),
        pytest.param("le2026-04-14", True, id="until the day"),
        pytest.param("lt2026-04-14", False, id="before the day"),
        pytest.param("lt2026-04-14T08:30:01Z", True, id="before the second after"),
        pytest.param("gt2026-04-14T09:30:00%2B01:00", False, id="after its own second"),
        pytest.param("2026-04-14T08:30:00", True, id="a time without offset is UTC"),
        pytest.param("ge2026-04-14&date=lt2026-04-15", True, id="a period"),
        pytest.param("ge2026-04-14&date=gt2026-04-15", False, id="both must hold"),
    ],
)
async def test_a_date_bounds_the_start(hospital: Hospital, date: str, *, found: bool) -> None:
    booked = hospital.first()
    await hospital.siu("S13", booked, *FULL)
    assert await ids(hospital, f"identifier={booked.identifier}&date={date}") == ([booked.id] if found else [])


@pytest.mark.parametrize("start", [{"start": 7}, {"start": "soon"}, {"start": "2026-04-14T09:30:00"}, {}], ids=str)
async def test_a_start_that_is_no_instant_is_on_no_date(hospital: Hospital, start: dict[str, Any]) -> None:
    body = {"resourceType": "Appointment", "identifier": [{"system": "urn:x", "value": "1"}]} | start
    await hospital.control("PUT", "/appointments/bradford/odd", body)
    assert await ids(hospital, "identifier=urn:x|1") == ["odd"]
    assert await ids(hospital, "identifier=urn:x|1&date=ge1900-01-01") == []


async def test_pages_link_to_the_next_until_all_is_seen(hospital: Hospital) -> None:
    seen: list[str] = []
    sizes = []
    url: str | None = "Appointment?status=booked&_count=10"
    while url is not None:
        status, bundle = await hospital.read(url)
        assert (status, bundle["total"]) == (200, 26)
        sizes.append(len(bundle["entry"]))
        seen += [entry["resource"]["id"] for entry in bundle["entry"]]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
        assert url is None or url.startswith(f"{hospital.pkb.aggregated_url}/Appointment?status=booked&_count=10&")
    assert (sizes, len(set(seen))) == ([10, 10, 6], 26)


async def test_a_search_may_be_posted_as_a_form(hospital: Hospital) -> None:
    booked = hospital.first()
    url = f"{hospital.pkb.aggregated_url}/Appointment/_search"
    headers = {"Authorization": f"Bearer {hospital.token}"}
    async with hospital.session.post(url, data={"identifier": booked.identifier}, headers=headers) as answer:
        assert [entry["resource"]["id"] for entry in json.loads(await answer.text())["entry"]] == [booked.id]


async def test_a_type_that_is_not_aggregated_is_searched_in_vain(hospital: Hospital) -> None:
    assert (await hospital.read("Observation?code=x"))[1]["entry"] == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "Appointment/none", 404, id="unknown id"),
        pytest.param("GET", "Appointment?colour=red", 400, id="unknown parameter"),
        pytest.param("GET", "Appointment?date=soon", 400, id="no date"),
        pytest.param("GET", "Appointment?date=2026-02-30", 400, id="no such day"),
        pytest.param("GET", "Appointment?date=ne2026-02-03", 400, id="unknown prefix"),
        pytest.param("GET", "Appointment?_count=x", 400, id="no count"),
        pytest.param("GET", "Appointment?_page=0", 400, id="no page"),
        pytest.param("PUT", "Appointment/x", 405, id="put"),
        pytest.param("POST", "Appointment", 405, id="post"),
        pytest.param("DELETE", "Appointment/x", 405, id="delete"),
    ],
)
async def test_it_is_for_reading_only_and_refuses_the_rest(
    hospital: Hospital, method: str, path: str, status: int
) -> None:
    answer = await hospital.read(path, method)
    assert (answer[0], answer[1]["resourceType"]) == (status, "OperationOutcome")
    assert hospital.pkb.writes == []


# Tokens


async def test_a_boxes_client_is_not_let_in_nor_is_this_ones_into_a_box(hospital: Hospital) -> None:
    path = f"Appointment/{hospital.first().id}"
    assert (await hospital.box("GET", "Organization/airedale"))[0] == 403
    for client in (GATEWAY, STRANGER):
        await hospital.as_reader(client)
        assert (await hospital.read(path))[0] == 403
    hospital.token = "wrong"
    assert (await hospital.read(path))[0] == 401


async def test_the_other_familys_token_is_easily_had_and_good_for_nothing_here(hospital: Hospital) -> None:
    client = hospital.pkb.aggregated_credentials
    headers = {"Authorization": aiohttp.encode_basic_auth(client.client_id, client.client_secret)}
    form = {"grant_type": "client_credentials"}
    async with hospital.session.post(hospital.pkb.facade_token_url, data=form, headers=headers) as answer:
        members = await answer.json()
    assert (answer.status, members["token_type"], members["expires_in"]) == (200, "bearer", 3599)
    assert "refresh_token" not in members
    hospital.token = members["access_token"]
    assert (await hospital.read(f"Appointment/{hospital.first().id}"))[0] == 401
    assert (await hospital.box("GET", "Organization/airedale"))[0] == 401


@pytest.mark.parametrize(
    ("authorization", "form", "status", "error"),
    [
        pytest.param("", "grant_type=client_credentials", 401, "unauthorized", id="none"),
        pytest.param("Basic ?", "grant_type=client_credentials", 401, "unauthorized", id="no base64"),
        pytest.param("Basic eDp5", "grant_type=client_credentials", 401, "unauthorized", id="unknown client"),
        pytest.param("GOOD", "grant_type=password", 400, "unsupported_grant_type", id="other grant"),
    ],
)
async def test_the_other_familys_server_refuses_in_its_own_words(
    hospital: Hospital, authorization: str, form: str, status: int, error: str
) -> None:
    good = aiohttp.encode_basic_auth(STRANGER.client_id, STRANGER.client_secret)
    headers = {"Authorization": authorization.replace("GOOD", good)}
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    async with hospital.session.post(hospital.pkb.facade_token_url, data=form, headers=headers) as answer:
        assert (answer.status, (await answer.json())["error"]) == (status, error)
    await hospital.order(target="token", kind="drop-before")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await hospital.session.post(hospital.pkb.facade_token_url, data=form, headers=headers)


# Lag


async def test_without_a_fault_a_write_is_seen_at_once(hospital: Hospital) -> None:
    booked = hospital.first()
    await hospital.siu("S15", booked)
    _, copy = await hospital.read(f"Appointment/{booked.id}")
    assert (copy["status"], int(copy["meta"]["versionId"]) > int(booked.version)) == ("cancelled", True)


async def test_a_lagging_write_is_seen_when_its_time_has_come(hospital: Hospital) -> None:
    booked = hospital.first()
    await hospital.order(target="aggregated", kind="lag", value=5000)
    assert (await hospital.siu("S15", booked)).code == "AA"
    assert (await hospital.pkb_copy(booked))["status"] == "cancelled"
    path = f"Appointment/{booked.id}"
    query = f"identifier={booked.identifier}&status=booked"
    hospital.clock.now += timedelta(milliseconds=4999)
    before = (await hospital.read(path))[1]
    assert (before["status"], before["meta"]["versionId"]) == ("booked", booked.version)
    assert await ids(hospital, query) == [booked.id]
    hospital.clock.now += timedelta(milliseconds=1)
    assert (await hospital.read(path))[1]["status"] == "cancelled"
    assert await ids(hospital, query) == []


async def test_messages_build_on_what_readers_do_not_see_yet(hospital: Hospital) -> None:
    booked = hospital.first()
    await hospital.order(target="aggregated", kind="lag", value=5000)
    await hospital.siu("S14", booked, "SCH|{placer}", "NTE|||One")
    await hospital.siu("S13", booked, "SCH|{placer}||||||||||^^^202604140930")
    _, copy = await hospital.read(f"Appointment/{booked.id}")
    assert (copy["comment"], copy["start"]) == ("One", "2026-04-14T09:30:00+01:00")
    hospital.clock.now += timedelta(seconds=6)
    assert (await hospital.read(f"Appointment/{booked.id}"))[1] == copy


async def test_an_appointment_that_lags_is_not_there_yet(hospital: Hospital) -> None:
    await hospital.order(target="aggregated", kind="lag", value=5000)
    await hospital.siu("S13", hospital.first(), *FULL, placer="PHANTOM-1")
    assert (await hospital.read("Appointment/new-1"))[0] == 404
    assert await hospital.by_placer("PHANTOM-1") == []
    hospital.clock.now += timedelta(seconds=5)
    assert (await hospital.read("Appointment/new-1"))[0] == 200


async def test_a_rejected_message_and_a_read_use_no_lag_up(hospital: Hospital) -> None:
    booked = hospital.first()
    await hospital.order(target="aggregated", kind="lag", value=5000, on="any", customer="bradford")
    await hospital.siu("S15", booked, placer="PHANTOM-1")
    await hospital.read(f"Appointment/{booked.id}")
    assert len((await hospital.control("GET", "/faults"))[1]) == 1
    await hospital.siu("S15", booked)
    assert (await hospital.control("GET", "/faults"))[1] == []


async def test_an_approved_message_lags_from_its_approval(hospital: Hospital) -> None:
    booked = hospital.first()
    await hospital.siu("S15", booked, born="19010101")
    await hospital.order(target="aggregated", kind="lag", value=5000)
    await hospital.control("POST", "/hl7-review/1", {"decision": "approve"})
    assert (await hospital.read(f"Appointment/{booked.id}"))[1]["status"] == "booked"
    hospital.clock.now += timedelta(seconds=5)
    assert (await hospital.read(f"Appointment/{booked.id}"))[1]["status"] == "cancelled"


async def test_clearing_the_faults_ends_every_lag(hospital: Hospital) -> None:
    booked = hospital.first()
    await hospital.order(target="aggregated", kind="lag", value=600_000, count=0)
    await hospital.siu("S15", booked)
    await hospital.control("DELETE", "/faults")
    assert (await hospital.read(f"Appointment/{booked.id}"))[1]["status"] == "cancelled"


async def test_what_is_stored_by_hand_does_not_lag(hospital: Hospital) -> None:
    booked = hospital.first()
    await hospital.order(target="aggregated", kind="lag", value=5000)
    await hospital.siu("S13", booked, *FULL)
    changed = await hospital.pkb_copy(booked) | {"status": "cancelled"}
    await hospital.control("PUT", f"/appointments/bradford/{booked.id}", changed)
    assert (await hospital.read(f"Appointment/{booked.id}"))[1]["status"] == "cancelled"


async def test_a_lag_of_no_time_is_none(hospital: Hospital) -> None:
    await hospital.order(target="aggregated", kind="lag", value=0)
    await hospital.siu("S15", hospital.first())
    assert (await hospital.read(f"Appointment/{hospital.first().id}"))[1]["status"] == "cancelled"


# Faults


@pytest.mark.parametrize("on", [{}, {"on": "read"}, {"on": "any"}], ids=["unsaid", "read", "any"])
async def test_a_fault_strikes_one_read(hospital: Hospital, on: dict[str, str]) -> None:
    path = f"Appointment/{hospital.first().id}"
    await hospital.order(target="aggregated", kind="status", value=503, **on)
    assert [(await hospital.read(path))[0] for _ in range(2)] == [503, 200]


async def test_a_fault_of_writes_strikes_no_read(hospital: Hospital) -> None:
    await hospital.order(target="aggregated", kind="status", value=503, on="write")
    assert (await hospital.read(f"Appointment/{hospital.first().id}"))[0] == 200


async def test_a_fault_of_a_customer_strikes_its_sources_only(hospital: Hospital) -> None:
    booked, other = hospital.all("changeable")[:2]
    copy = await hospital.pkb_copy(other)
    await hospital.control("PUT", f"/appointments/bradford/{other.id}?owner=wharfedale", copy)
    await hospital.order(target="aggregated", kind="status", value=503, on="read", customer="bradford", count=0)
    assert (await hospital.read(f"Appointment/{other.id}"))[0] == 200
    assert (await hospital.read(f"Appointment/{booked.id}"))[0] == 503
    assert (await hospital.read(f"Patient/patient-{booked.id}"))[0] == 503
    assert (await hospital.read("Appointment?status=booked"))[0] == 503


@pytest.mark.parametrize("kind", ["drop-before", "drop-after"])
async def test_a_drop_sends_no_byte(hospital: Hospital, kind: str) -> None:
    await hospital.order(target="aggregated", kind=kind, on="read", count=0)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await hospital.read(f"Appointment/{hospital.first().id}")


async def test_a_delay_answers_late_and_garbage_is_html(hospital: Hospital) -> None:
    url = f"{hospital.pkb.aggregated_url}/Appointment/{hospital.first().id}"
    await hospital.order(target="aggregated", kind="delay", value=50, on="read")
    await hospital.order(target="aggregated", kind="garbage", on="read")
    headers = {"Authorization": f"Bearer {hospital.token}"}
    started = time.monotonic()
    async with hospital.session.get(url, headers=headers) as answer:
        assert answer.status == 200
    assert time.monotonic() - started >= 0.05
    async with hospital.session.get(url, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
