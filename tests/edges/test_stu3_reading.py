"""An STU3 Appointment as R4: what is told otherwise, and that nothing else is."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from gateway.domain import strict_json
from gateway.domain.appointment import Patient
from gateway.domain.grant import Coding
from gateway.domain.strict_json import Number, Object
from gateway.flow.ports import UpstreamFault
from gateway.pkb.appointment_reading import PatientRecord, read_appointment, read_object
from gateway.pkb.stu3 import as_r4
from tests.edges.pkb_documents import NHS_NUMBER, Absent, participant
from tests.edges.stu3_documents import (
    MARK,
    PAT,
    PLACE,
    SPOC,
    STU3_ONLY,
    back_to_stu3,
    concept,
    leeds,
    realistic,
    reason_extension,
)

# On a busy machine an example takes long for no reason of ours.
UNHURRIED = settings(suppress_health_check=[HealthCheck.too_slow])
RECORD = PatientRecord(Patient("Patient/p1"), "Organization/leeds")


def parsed(document: dict[str, Any]) -> Object:
    return read_object(json.dumps(document).encode())


def told(**members: Any) -> Any:
    return json.loads(strict_json.write(as_r4(parsed(leeds(**members)))))


def test_a_whole_appointment_is_told_in_r4() -> None:
    before = leeds()

    after = told()

    assert after["serviceCategory"] == [STU3_ONLY["serviceCategory"]]
    assert after["reasonCode"] == STU3_ONLY["reason"]
    assert after["reasonReference"] == STU3_ONLY["indication"]
    assert after["basedOn"] == STU3_ONLY["incomingReferral"]
    assert after["participant"][2] == PLACE | {"actor": PLACE["actor"] | {"type": "Location"}}
    others = before.keys() - STU3_ONLY.keys() - {"participant"}
    assert {name: after[name] for name in others} == {name: before[name] for name in others}
    new = {"serviceCategory", "reasonCode", "reasonReference", "basedOn"}
    assert after.keys() == (before.keys() - STU3_ONLY.keys()) | new


def test_members_keep_their_places() -> None:
    names = {"reason": "reasonCode", "indication": "reasonReference", "incomingReferral": "basedOn"}
    assert list(told()) == [names.get(name, name) for name in leeds()]


def test_the_facts_are_those_that_r4_would_tell() -> None:
    facts = read_appointment(as_r4(parsed(leeds())), "a1", 'W/"17"').of(RECORD)

    assert (facts.id, facts.version, facts.status, facts.comment) == ("a1", "17", "booked", "Please arrive early.")
    assert facts.patient == Patient("Patient/p1")
    assert facts.specialties == {Coding("http://snomed.info/sct", "394579002")}
    assert facts.identifiers == {Coding("https://trust.example/pas", "APPT1")}
    assert facts.locations == ("Clinic 4",)
    assert facts.cancel_reason is None


@pytest.mark.parametrize(
    ("extensions", "kept"),
    [
        pytest.param([reason_extension()], Absent, id="alone"),
        pytest.param([SPOC, reason_extension()], [SPOC], id="after another"),
        pytest.param([reason_extension(), SPOC], [SPOC], id="before another"),
    ],
)
def test_the_reason_of_a_cancel_leaves_its_extension(extensions: Any, kept: Any) -> None:
    after = told(status="cancelled", extension=extensions)

    assert after["cancelationReason"] == PAT
    assert after.get("extension", Absent) == kept
    facts = read_appointment(parsed(after), "a1", None).of(RECORD)
    assert facts.cancel_reason == "pat"


def test_the_extension_is_the_reason_whatever_a_box_keeps_beside_it() -> None:
    after = told(status="cancelled", cancelationReason={"text": "old"}, extension=[reason_extension()])

    assert after["cancelationReason"] == PAT


@pytest.mark.parametrize(
    "extensions",
    [
        pytest.param([reason_extension(), reason_extension({"text": "other"})], id="two reasons"),
        pytest.param([{"url": reason_extension()["url"], "valueString": "pat"}], id="a reason in words"),
        pytest.param([reason_extension("pat")], id="a reason that is no concept"),
        pytest.param({"url": reason_extension()["url"]}, id="no array"),
        pytest.param(["x", None, 1.10], id="no objects"),
        pytest.param([], id="none"),
    ],
)
def test_what_is_not_one_reason_stays_an_extension(extensions: Any) -> None:
    after = told(extension=extensions)

    assert after["extension"] == extensions
    assert "cancelationReason" not in after


@pytest.mark.parametrize("stu3", ["reason", "indication", "incomingReferral"])
def test_an_element_of_r4_that_is_there_already_does_not_get_lost(stu3: str) -> None:
    r4 = {"reason": "reasonCode", "indication": "reasonReference", "incomingReferral": "basedOn"}[stu3]

    after = told(**{r4: [{"text": "r4"}]})

    assert after[r4] == [{"text": "r4"}]
    assert after[stu3] == STU3_ONLY[stu3]


def test_a_list_of_categories_is_one_already() -> None:
    assert told(serviceCategory=[concept("1", "x")])["serviceCategory"] == [concept("1", "x")]


@pytest.mark.parametrize(
    ("other", "patients"),
    [
        pytest.param(participant(extension=[MARK], identifier={"system": NHS_NUMBER, "value": "1"}), 0, id="a number"),
        pytest.param(participant("urn:uuid:1", extension=[MARK]), 0, id="a uuid"),
        pytest.param(participant("#someone", extension=[MARK]), 0, id="a contained patient"),
        pytest.param(participant("Patient/p2", extension=[MARK]), 2, id="a patient"),
        pytest.param(participant(type="Patient", extension=[MARK]), 0, id="a patient by type"),
    ],
)
def test_a_mark_makes_no_place_of_somebody_who_may_be_a_patient(other: Any, patients: int) -> None:
    contained = [{"resourceType": "Patient", "id": "someone"}]
    document = as_r4(parsed(leeds(participant=[participant("Patient/p1"), other], contained=contained)))

    assert document["participant"] == parsed({"x": [participant("Patient/p1"), other]})["x"]
    assert read_appointment(document, "a1", None).one_patient is None
    assert read_appointment(document, "a1", None).of(RECORD).provenance.patients == patients


def test_a_type_that_is_there_already_stays() -> None:
    staff = participant(type="Practitioner", display="Dr Test", extension=[MARK])

    assert told(participant=[staff])["participant"] == [staff]


@pytest.mark.parametrize(
    "participants",
    [
        pytest.param("x", id="no array"),
        pytest.param(["x"], id="no objects"),
        pytest.param([{"actor": "Patient/p1"}], id="an actor that is no object"),
        pytest.param([{"actor": {"display": "x", "extension": {}}}], id="extensions that are no array"),
    ],
)
def test_participants_that_cannot_be_understood_are_no_appointment(participants: Any) -> None:
    with pytest.raises(UpstreamFault):
        read_appointment(as_r4(parsed(leeds(participant=participants))), "a1", None).of(RECORD)


def test_the_document_that_was_read_stays_as_it_is() -> None:
    before = parsed(leeds(extension=[reason_extension()]))
    kept = strict_json.write(before)

    as_r4(before)

    assert strict_json.write(before) == kept


@UNHURRIED
@given(realistic())
def test_there_and_back_again_nothing_is_lost(before: Object) -> None:
    after = as_r4(before)

    # Numbers are equal here only if their texts are.
    assert back_to_stu3(after) == before
    assert Number("1.10") != Number("1.1")


@UNHURRIED
@given(realistic())
def test_what_r4_says_the_same_way_is_the_same_text(before: Object) -> None:
    after = as_r4(before)

    for name in before.keys() - STU3_ONLY.keys() - {"participant", "extension"}:
        assert strict_json.write(after[name]) == strict_json.write(before[name])
    assert not STU3_ONLY.keys() - {"serviceCategory"} & after.keys()


@UNHURRIED
@given(realistic())
def test_a_document_told_twice_is_told_the_same(before: Object) -> None:
    assert as_r4(as_r4(before)) == as_r4(before)
