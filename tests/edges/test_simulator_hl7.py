"""PKB's state machine for appointments by HL7, cell by cell, over real sockets."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.simulator import DemoAppointment
from tests.edges.simulator_hl7 import FULL, Hospital, extension, label, open_hospital, people, placer_of

TRIGGERS = ("S12", "S13", "S14", "S15", "S26")
AFTER = {"S12": "booked", "S13": "booked", "S14": "booked", "S15": "cancelled", "S26": "noshow"}
SCENARIO = {"booked": "changeable", "cancelled": "cancelled", "noshow": "noshow"}
KEPT = ("start", "end", "comment", "appointmentType", "serviceType", "specialty", "extension", "identifier")


@pytest.fixture
async def hospital() -> AsyncIterator[Hospital]:
    async with open_hospital() as hospital:
        yield hospital


@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.parametrize("status", SCENARIO)
@pytest.mark.parametrize("full", [True, False], ids=["full", "minimal"])
async def test_a_known_appointment_ends_as_the_state_machine_says(
    hospital: Hospital, status: str, trigger: str, *, full: bool
) -> None:
    booked = hospital.first(SCENARIO[status])
    before = await hospital.pkb_copy(booked)
    ack = await hospital.siu(trigger, booked, *(FULL if full else ()))
    after = await hospital.pkb_copy(booked)
    if trigger == "S12" and not full:
        assert (ack.code, after) == ("AR", before)
        return
    assert (ack.status, ack.code, ack.about, ack.text) == (200, "AA", "c-0001", "")
    assert (before["status"], after["status"]) == (status, AFTER[trigger])
    assert int(after["meta"]["versionId"]) > int(before["meta"]["versionId"])
    touched = trigger in {"S12", "S13", "S14"} and full
    assert after["start"] == ("2026-04-14T09:30:00+01:00" if touched else before["start"])
    assert len(await hospital.by_placer(placer_of(booked))) == 1


@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.parametrize("full", [True, False], ids=["full", "minimal"])
async def test_an_unknown_appointment_is_made_unless_a_check_fails(
    hospital: Hospital, trigger: str, *, full: bool
) -> None:
    ack = await hospital.siu(trigger, hospital.first(), *(FULL if full else ()), placer="PHANTOM-1")
    found = await hospital.by_placer("PHANTOM-1")
    if full or trigger in {"S13", "S14"}:
        assert (ack.code, [copy["status"] for copy in found]) == ("AA", [AFTER[trigger]])
        assert found[0]["id"] == "new-1"
        assert found[0]["participant"][0]["actor"]["reference"] == f"Patient/patient-{hospital.first().id}"
    else:
        assert (ack.code, found) == ("AR", [])
        assert "SCH-11.4" in ack.text


async def test_an_update_replaces_all_that_it_says(hospital: Hospital) -> None:
    booked = hospital.first()
    assert (await hospital.siu("S14", booked, *FULL)).code == "AA"
    copy = await hospital.pkb_copy(booked)
    assert (copy["start"], copy["end"]) == ("2026-04-14T09:30:00+01:00", "2026-04-14T10:00:00+01:00")
    assert copy["appointmentType"]["coding"][0]["display"] == "Heart check"
    assert copy["serviceType"][0]["coding"][0] == {"system": "urn:pkb:appointment-type:LOCAL", "code": "FU"}
    assert copy["comment"] == "Bring your tablets"
    assert copy["specialty"][0]["coding"][0]["code"] == "340"
    assert copy["specialty"][0]["coding"][0]["display"] == "Respiratory Medicine"
    assert extension(copy, "encounter-class")["valueCoding"]["code"] == "V"
    said = {part["url"].rpartition("/")[2]: part["valueString"] for part in extension(copy, "spoc")["extension"]}
    assert said == {
        "spoc-email": "new@trust.example",
        "spoc-phone": "0163",
        "spoc-phone-extension": "7",
        "spoc-note": "Ask Ada",
    }
    assert people(copy) == [f"Patient/patient-{booked.id}", "Dr Sam Jones (Consultant)", "Ward 9"]
    assert copy["participant"][-1]["actor"]["type"] == "Location"
    assert hospital.pkb.world.aggregated.management_urls == {booked.id: "https://manage.example/a?b=1"}


@pytest.mark.parametrize("trigger", ["S13", "S14"])
async def test_blanks_keep_what_was_there_but_people_are_purged(hospital: Hospital, trigger: str) -> None:
    booked = next(a for a in hospital.all("changeable") if a.id.endswith("-04"))
    before = await hospital.pkb_copy(booked)
    assert len(people(before)) == 4
    await hospital.siu(trigger, booked)
    after = await hospital.pkb_copy(booked)
    assert [after[name] for name in KEPT] == [before[name] for name in KEPT]
    assert people(after) == [f"Patient/patient-{booked.id}", "Outpatients, Level 2"]


async def test_a_cancel_touches_nothing_but_the_status_whatever_it_carries(hospital: Hospital) -> None:
    booked = hospital.first("label-outside")
    before = await hospital.pkb_copy(booked)
    await hospital.siu("S15", booked, *FULL)
    after = await hospital.pkb_copy(booked)
    before["meta"] |= {"versionId": after["meta"]["versionId"], "lastUpdated": after["meta"]["lastUpdated"]}
    assert after == before | {"status": "cancelled"}
    assert hospital.pkb.world.aggregated.management_urls == {}


async def test_a_create_of_a_known_appointment_replaces_it_whole(hospital: Hospital) -> None:
    booked = hospital.first()
    await hospital.siu("S14", booked, "SCH|{placer}", "ZAP|https://manage.example/1")
    await hospital.siu("S12", booked, "SCH|{placer}||||||||||^^^202604140930", "PV1|||^^^^^^^^Ward 9")
    copy = await hospital.pkb_copy(booked)
    assert copy["appointmentType"]["coding"][0]["display"] == "Appointment"
    assert not {"end", "comment", "specialty", "extension", "serviceType"} & set(copy)
    assert people(copy) == [f"Patient/patient-{booked.id}", "Ward 9"]
    assert hospital.pkb.world.aggregated.management_urls == {}


@pytest.mark.parametrize(
    ("scenario", "visit", "expected"),
    [
        pytest.param("changeable", "PV1||O||||||||360", "SEXUAL_HEALTH", id="to a sexual health clinic"),
        pytest.param("changeable", "PV1||O||||||||710", "MENTAL_HEALTH", id="to mental health"),
        pytest.param("changeable", "PV1||O||||||||999", "GENERAL_HEALTH", id="to what the map lacks"),
        pytest.param("label-outside", "PV1||O||||||||360", "SEXUAL_HEALTH", id="the same clinic"),
        pytest.param("label-outside", "PV1||O", "GENERAL_HEALTH", id="no clinic said"),
        pytest.param("label-outside", "RGS|", "GENERAL_HEALTH", id="no visit at all"),
    ],
)
@pytest.mark.parametrize("trigger", ["S13", "S14"])
async def test_the_label_is_made_anew_from_the_specialty_code(
    hospital: Hospital, trigger: str, scenario: str, visit: str, expected: str
) -> None:
    booked = hospital.first(scenario)
    await hospital.siu(trigger, booked, "SCH|{placer}", visit)
    copy = await hospital.pkb_copy(booked)
    assert label(copy) == expected
    sources = [coding["code"] for coding in copy["meta"]["security"][1:]]
    assert sources == ["bradford"]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param("202607141005", "2026-07-14T10:05:00+01:00", id="summer"),
        pytest.param("202611141005", "2026-11-14T10:05:00+00:00", id="winter"),
        pytest.param("20261114100530", "2026-11-14T10:05:30+00:00", id="seconds"),
        pytest.param("20261114100530.123", "2026-11-14T10:05:30+00:00", id="fraction"),
        pytest.param("202607141005+0200", "2026-07-14T10:05:00+02:00", id="an offset of its own"),
        pytest.param("202610250130", "2026-10-25T01:30:00+01:00", id="the repeated hour, taken as the first"),
    ],
)
async def test_times_are_the_hospitals_wall_clock(hospital: Hospital, sent: str, expected: str) -> None:
    await hospital.siu("S13", hospital.first(), f"SCH|{{placer}}||||||||||^^^{sent}")
    assert (await hospital.pkb_copy(hospital.first()))["start"] == expected


@pytest.mark.parametrize(
    "sent", ["20260714", "tomorrow", "202613141005", "2026-07-14T10:05", "20260714100", "202607142505"]
)
async def test_a_time_that_is_none_is_rejected(hospital: Hospital, sent: str) -> None:
    before = await hospital.pkb_copy(hospital.first())
    ack = await hospital.siu("S13", hospital.first(), f"SCH|{{placer}}||||||||||^^^^{sent}")
    assert (ack.code, ack.about) == ("AR", "c-0001")
    assert "SCH-11.5" in ack.text
    assert await hospital.pkb_copy(hospital.first()) == before


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        pytest.param(r"a\F\b\S\c\T\d\R\e\E\f", r"a|b^c&d~e\f", id="delimiters"),
        pytest.param(r"one\.br\two\X0D0A\three", "one\ntwo\r\nthree", id="line breaks"),
        pytest.param(r"\XC3A9\\H\bold\N\ \Z9\x", "ébold x", id="hex, highlighting, own ones"),
        pytest.param("<b>&amp;]]></b>", "<b>", id="an ampersand that is not escaped ends the text"),
        pytest.param("first~second", "first", id="repetition"),
    ],
)
async def test_escape_sequences_are_understood(hospital: Hospital, sent: str, shown: str) -> None:
    await hospital.siu("S14", hospital.first(), "SCH|{placer}", f"NTE|||{sent}")
    assert (await hospital.pkb_copy(hospital.first()))["comment"] == shown


@pytest.mark.parametrize(
    ("segment", "shown"),
    [
        pytest.param("AIP|||^Jones^Sam^A^^Dr|^Consultant", "Dr Sam A Jones (Consultant)", id="every part"),
        pytest.param("AIP|||^Dr Sam Jones|Consultant", "Dr Sam Jones (Consultant)", id="role as a code"),
        pytest.param("AIP|||^Dr Sam Jones (Consultant)|^Consultant", "Dr Sam Jones (Consultant)", id="role said twice"),
        pytest.param("AIP|||^Reception", "Reception", id="no role"),
    ],
)
async def test_external_people_are_shown_by_name_with_their_role(hospital: Hospital, segment: str, shown: str) -> None:
    await hospital.siu("S14", hospital.first(), "SCH|{placer}", "RGS|", segment, "AIP|||")
    copy = await hospital.pkb_copy(hospital.first())
    assert people(copy)[1:] == [shown, "Outpatients, Level 2"]
    assert copy["participant"][1] == {"actor": {"display": shown}, "status": "accepted"}


async def test_several_notes_are_one_description(hospital: Hospital) -> None:
    await hospital.siu("S14", hospital.first(), "SCH|{placer}", "NTE|1||One", "NTE|2||", "NTE|3||Two")
    assert (await hospital.pkb_copy(hospital.first()))["comment"] == "One\nTwo"


async def test_the_same_message_twice_is_applied_twice(hospital: Hospital) -> None:
    assert [(await hospital.siu("S15", hospital.first())).code for _ in range(2)] == ["AA", "AA"]
    assert [write.applied for write in hospital.pkb.writes] == [True, True]


async def test_a_placer_id_counts_within_its_organisation_only(hospital: Hospital) -> None:
    booked = hospital.first()
    copy = await hospital.pkb_copy(booked)
    await hospital.control("PUT", f"/appointments/bradford/{booked.id}?owner=wharfedale", copy)
    assert (await hospital.siu("S15", booked)).code == "AR"
    assert (await hospital.siu("S13", booked)).code == "AA"
    assert [held["status"] for held in await hospital.by_placer(placer_of(booked))] == ["booked", "booked"]


async def test_a_copy_stored_by_hand_is_what_the_next_message_finds(hospital: Hospital) -> None:
    booked = hospital.first()
    path = f"/appointments/bradford/{booked.id}"
    copy: Any = await hospital.pkb_copy(booked)
    odd = copy | {"status": 7, "extension": "none", "participant": ["x", {"actor": 1}], "meta": copy["meta"]}
    await hospital.control("PUT", path, odd)
    await hospital.siu("S14", booked, *FULL)
    after = await hospital.pkb_copy(booked)
    assert (after["status"], people(after)) == ("booked", ["Dr Sam Jones (Consultant)", "Ward 9"])


async def test_the_management_url_is_shown_to_the_tester_only(hospital: Hospital) -> None:
    booked: DemoAppointment = hospital.first()
    await hospital.siu("S14", booked, "SCH|{placer}", "ZAP|https://manage.example/é\\T\\x=1")
    async with hospital.session.get(f"{hospital.pkb.control_url}/appointments/bradford/{booked.id}") as answer:
        assert answer.headers["X-Management-Url"] == "https://manage.example/%C3%A9&x=1"
        assert "manage.example" not in await answer.text()
