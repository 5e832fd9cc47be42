import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from gateway.domain.appointment import CANCEL_REASON_SYSTEM, Patient, Provenance, Status
from gateway.domain.codes import Code
from gateway.domain.grant import Coding
from gateway.domain.strict_json import Object
from gateway.flow.ports import UpstreamFault
from gateway.pkb.appointment_reading import (
    ACTOR_TYPE,
    UNKNOWN_SOURCE,
    PatientRecord,
    parse_instant,
    read_appointment,
    read_object,
    read_patient,
)
from tests.edges.pkb_documents import LABEL, NHS_NUMBER, PKB, Absent, appointment, meta, participant, patient

RECORD = PatientRecord(Patient("Patient/p1", "9990548609", date(1960, 2, 29)), "Organization/airedale")
MARKED = {"url": ACTOR_TYPE, "valueString": "Patient"}


def parsed(document: dict[str, Any]) -> Object:
    return read_object(json.dumps(document).encode())


def facts(etag: str | None = None, record: PatientRecord | None = RECORD, **members: Any) -> Any:
    return read_appointment(parsed(appointment(**members)), "a1", etag).of(record)


def test_a_whole_appointment_is_told() -> None:
    told = facts(record=read_patient(parsed(patient()), "p1"))

    bst = timezone(timedelta(hours=1))
    assert (told.id, told.version, told.status) == ("a1", "17", Status.BOOKED)
    assert told.start == datetime(2026, 4, 14, 9, 30, tzinfo=bst)
    assert told.end == datetime(2026, 4, 14, 10, 0, tzinfo=bst)
    assert told.provenance == Provenance(1, "Organization/airedale")
    assert told.patient == Patient("Patient/p1", "9990548609", date(1960, 2, 29))
    assert told.labels == {"GENERAL_HEALTH"}
    assert told.specialties == {Coding("http://snomed.info/sct", "394579002")}
    assert told.comment == "Please arrive early."
    assert told.cancel_reason is None
    assert told.locations == ("Level 2",)
    assert told.identifiers == {Coding("https://trust.example/pas", "APPT1")}


@pytest.mark.parametrize(
    ("given_meta", "labels"),
    [
        pytest.param({"versionId": "17"}, {"GENERAL_HEALTH"}, id="none"),
        pytest.param(meta((f"{PKB}/codesystem/other", "X")), {"GENERAL_HEALTH"}, id="of another system"),
        pytest.param(meta((LABEL, "SEXUAL_HEALTH")), {"SEXUAL_HEALTH"}, id="one"),
        pytest.param({"versionId": "17", "security": [{"code": "N"}]}, {"GENERAL_HEALTH"}, id="of no system"),
        pytest.param(meta((LABEL, "A"), ("http://x", "N"), (LABEL, "B")), {"A", "B"}, id="several, unknown ones too"),
    ],
)
def test_labels(given_meta: Any, labels: set[str]) -> None:
    assert facts(meta=given_meta).labels == labels


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"resourceType": "Slot"}, id="another resource type"),
        pytest.param({"resourceType": Absent}, id="no resource type"),
        pytest.param({"id": "a2"}, id="another id"),
        pytest.param({"status": Absent}, id="no status"),
        pytest.param({"status": "unheard-of"}, id="an unknown status"),
        pytest.param({"status": None}, id="a null status"),
        pytest.param({"meta": Absent}, id="no meta"),
        pytest.param({"meta": {}}, id="no version"),
        pytest.param({"meta": {"versionId": 17}}, id="a version that is a number"),
        pytest.param({"meta": {"versionId": 'a"b'}}, id="a version that no header can carry"),
        pytest.param({"meta": {"versionId": "17", "security": None}}, id="null labels"),
        pytest.param({"meta": {"versionId": "17", "security": {}}}, id="labels that are no array"),
        pytest.param({"meta": {"versionId": "17", "security": ["X"]}}, id="a label that is no coding"),
        pytest.param({"meta": {"versionId": "17", "security": [{"system": LABEL}]}}, id="a label without code"),
        pytest.param({"meta": {"versionId": "17", "security": [{"system": LABEL, "code": ""}]}}, id="an empty label"),
        pytest.param({"meta": {"versionId": "17", "security": [{"system": LABEL, "code": 1}]}}, id="a number as label"),
        pytest.param({"start": "2026-04-14T09:30:00"}, id="a start without offset"),
        pytest.param({"start": "2026-04-14"}, id="a start that is a date"),
        pytest.param({"start": 5}, id="a start that is a number"),
        pytest.param({"end": "2026-04-14T10:00:00"}, id="an end without offset"),
        pytest.param({"comment": ["x"]}, id="a comment that is no string"),
        pytest.param({"participant": {}}, id="participants that are no array"),
        pytest.param({"participant": [{"actor": "Patient/p1"}]}, id="an actor that is no object"),
        pytest.param({"participant": [{"actor": {"reference": ["x"]}}]}, id="a reference that is no string"),
        pytest.param({"specialty": [{"coding": [None]}]}, id="a null coding"),
    ],
)
def test_what_cannot_be_understood_is_no_appointment(members: Any) -> None:
    with pytest.raises(UpstreamFault) as caught:
        facts(**members)
    assert caught.value.code is Code.UPSTREAM_INVALID


@pytest.mark.parametrize("etag", [None, 'W/"17"', '"17"', "17", ' W/"17" '])
def test_an_etag_of_the_same_version_is_fine(etag: str | None) -> None:
    assert facts(etag).version == "17"


@pytest.mark.parametrize("etag", ['W/"18"', '"1"', "18", "", 'W/"17', '"17", "18"'])
def test_an_etag_of_another_version_is_not(etag: str) -> None:
    with pytest.raises(UpstreamFault):
        facts(etag)


@pytest.mark.parametrize(
    ("participants", "known"),
    [
        pytest.param([participant("Patient/p1")], "p1", id="one"),
        pytest.param([participant("Patient/p1", type="Patient")] * 2, "p1", id="the same twice"),
        pytest.param([participant("Patient/p1"), participant(display="Dr X (GP)")], "p1", id="a name only beside"),
        pytest.param([participant("Patient/p1"), {"status": "accepted"}], "p1", id="no actor beside"),
        pytest.param(
            [participant("Patient/p1"), participant("https://x.example/fhir/Practitioner/1")],
            "p1",
            id="staff elsewhere",
        ),
        pytest.param(
            [participant("Patient/p1"), participant("urn:uuid:1", type="Practitioner")], "p1", id="staff by uuid"
        ),
        pytest.param([participant("Patient/p1"), participant("#room")], "p1", id="a contained room"),
        pytest.param([], None, id="nobody"),
        pytest.param([participant("Practitioner/1")], None, id="staff only"),
        pytest.param([participant("Patient/p1"), participant("Patient/p2")], None, id="two"),
        pytest.param([participant("https://x.example/fhir/Patient/p1")], None, id="absolute"),
        pytest.param([participant("Patient/p1"), participant("http://x/Patient/p2")], None, id="absolute beside one"),
        pytest.param([participant("Patient/p1"), participant("#someone")], None, id="contained beside one"),
        pytest.param([participant("Patient/p1"), participant("#nobody")], None, id="contained, but nowhere"),
        pytest.param([participant("Patient/p1"), participant("urn:uuid:1")], None, id="a uuid beside one"),
        pytest.param([participant("Patient/p1"), participant(type="Patient")], None, id="an unnamed patient beside"),
        pytest.param(
            [participant("Patient/p1"), participant("Practitioner/1", type="Patient")], None, id="staff as patient"
        ),
        pytest.param(
            [participant("Patient/p1"), participant(identifier={"system": NHS_NUMBER})], None, id="a number beside"
        ),
        pytest.param([participant("Patient/p1", extension=[MARKED])], "p1", id="one, marked"),
        pytest.param([participant("Patient/p1"), participant(extension=[MARKED])], None, id="a mark beside"),
        pytest.param(
            [participant("Patient/p1"), participant("Practitioner/1", extension=[MARKED])], None, id="staff marked"
        ),
        pytest.param([participant("Patient/p1/_history/2")], None, id="a version"),
        pytest.param([participant("Patient/..")], None, id="dots"),
        pytest.param([participant("patient/p1")], None, id="lower case"),
        pytest.param([participant("Patient/p1?x=y")], None, id="a query"),
    ],
)
def test_the_one_patient(participants: Any, known: str | None) -> None:
    contained = [{"resourceType": "Patient", "id": "someone"}, {"resourceType": "Location", "id": "room"}]
    document = parsed(appointment(participant=participants, contained=contained))

    told = read_appointment(document, "a1", None).of(RECORD)

    assert read_appointment(document, "a1", None).one_patient == known
    assert (told.provenance.patients == 1) == (known is not None)
    assert (told.patient is not None) == (known is not None)
    assert (told.provenance.managing_organisation is not None) == (known is not None)


def test_without_its_patient_nothing_is_proven() -> None:
    told = facts(record=None)

    assert told.patient is None
    assert told.provenance.patients == 0


def test_the_record_of_another_patient_proves_nothing() -> None:
    told = facts(record=PatientRecord(Patient("Patient/p9"), "Organization/airedale"))

    assert told.patient is None
    assert told.provenance == Provenance(0)


def extension(kind: str, reference: object) -> dict[str, Any]:
    return {"url": f"{PKB}/structuredefinition/source-{kind}", "valueReference": {"reference": reference}}


ORG = (f"{PKB}/codesystem/source-organization", "coded")
TEAM = (f"{PKB}/codesystem/source-team", "coded-team")


@pytest.mark.parametrize(
    ("given_meta", "organisations", "teams"),
    [
        pytest.param(meta(), (), (), id="none"),
        pytest.param(meta(ORG, TEAM), ("Organization/coded",), ("Organization/coded-team",), id="codes"),
        pytest.param(
            meta(ORG, extension=[extension("organisation", "Organization/x")]),
            ("Organization/x",),
            (),
            id="an extension wins over a code",
        ),
        pytest.param(
            meta(extension=[extension("organisation", "Organization/x")] * 2 + [extension("team", "Organization/t")]),
            ("Organization/x",),
            ("Organization/t",),
            id="the same twice, and a team",
        ),
        pytest.param(
            meta(ORG, extension=[extension("organisation", "https://x.example/Organization/x")]),
            (UNKNOWN_SOURCE,),
            (),
            id="an absolute one is unknown, not absent",
        ),
        pytest.param(meta(ORG, extension=[extension("organisation", "#x")]), (UNKNOWN_SOURCE,), (), id="contained"),
        pytest.param(meta(ORG, extension=[extension("organisation", "Group/x")]), (UNKNOWN_SOURCE,), (), id="a group"),
        pytest.param(
            meta(ORG, extension=[{"url": f"{PKB}/structuredefinition/source-organisation"}]),
            (UNKNOWN_SOURCE,),
            (),
            id="without value",
        ),
    ],
)
def test_sources(given_meta: Any, organisations: tuple[str, ...], teams: tuple[str, ...]) -> None:
    told = facts(meta=given_meta).provenance

    assert told.source_organisations == organisations
    assert told.source_teams == teams


@pytest.mark.parametrize(
    ("actor", "found"),
    [
        pytest.param(participant("Location/l"), (None,), id="by reference"),
        pytest.param(participant(type="Location", display="A"), ("A",), id="by type"),
        pytest.param(participant("https://x.example/fhir/Location/l", display="A"), ("A",), id="by absolute reference"),
        pytest.param(
            participant(display="A", extension=[{"url": ACTOR_TYPE, "valueCode": "Location"}]),
            ("A",),
            id="by extension",
        ),
        pytest.param(participant(display="A", extension=[{"url": "x", "valueCode": "Location"}]), (), id="another one"),
        pytest.param(participant("Practitioner/1", display="A"), (), id="staff"),
        pytest.param(participant("Patient/p1", type="Location", display="A"), (), id="a patient called a place"),
        pytest.param(
            participant("Patient/p1", extension=[{"url": ACTOR_TYPE, "valueCode": "Location"}]),
            (),
            id="a patient marked as a place",
        ),
        pytest.param(
            participant(display="A", extension=[MARKED, {"url": ACTOR_TYPE, "valueCode": "Location"}]),
            (),
            id="marked as both",
        ),
    ],
)
def test_locations(actor: Any, found: tuple[str | None, ...]) -> None:
    assert facts(participant=[participant("Patient/p1"), actor]).locations == found


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        pytest.param({"coding": [{"system": CANCEL_REASON_SYSTEM, "code": "pat"}]}, "pat", id="one"),
        pytest.param({"coding": [{"system": "x", "code": "pat"}]}, None, id="of another system"),
        pytest.param(
            {"coding": [{"system": CANCEL_REASON_SYSTEM, "code": code} for code in ("pat", "prov")]}, None, id="two"
        ),
        pytest.param({"text": "moved"}, None, id="text"),
        pytest.param({"coding": [{"code": "pat"}, {"display": "x"}]}, None, id="of no system"),
    ],
)
def test_the_reason_of_a_cancel(reason: Any, code: str | None) -> None:
    assert facts(cancelationReason=reason).cancel_reason == code


def number(value: str) -> dict[str, str]:
    return {"system": NHS_NUMBER, "value": value}


@pytest.mark.parametrize(
    ("members", "nhs_number", "birth_date", "organisation"),
    [
        pytest.param({}, "9990548609", date(1960, 2, 29), "Organization/airedale", id="whole"),
        pytest.param(
            {"identifier": Absent, "birthDate": Absent, "managingOrganization": Absent}, None, None, None, id="empty"
        ),
        pytest.param(
            {"identifier": [number("1"), number("2")]},
            None,
            date(1960, 2, 29),
            "Organization/airedale",
            id="two numbers",
        ),
        pytest.param(
            {"identifier": [number("1"), number("1")]}, "1", date(1960, 2, 29), "Organization/airedale", id="one, twice"
        ),
        pytest.param(
            {"identifier": [{"value": "1"}, {"system": NHS_NUMBER}]},
            None,
            date(1960, 2, 29),
            "Organization/airedale",
            id="half identifiers",
        ),
        pytest.param({"birthDate": "1960"}, "9990548609", None, "Organization/airedale", id="a year"),
        pytest.param({"birthDate": "1961-02-29"}, "9990548609", None, "Organization/airedale", id="no such day"),
        pytest.param(
            {"managingOrganization": {"reference": "https://x.example/Organization/airedale"}},
            "9990548609",
            date(1960, 2, 29),
            None,
            id="an absolute organisation",
        ),
        pytest.param(
            {"managingOrganization": {"reference": "#o"}}, "9990548609", date(1960, 2, 29), None, id="a contained one"
        ),
    ],
)
def test_patients(members: Any, nhs_number: str | None, birth_date: date | None, organisation: str | None) -> None:
    expected = PatientRecord(Patient("Patient/p1", nhs_number, birth_date), organisation)
    assert read_patient(parsed(patient(**members)), "p1") == expected


@pytest.mark.parametrize("members", [{"resourceType": "Person"}, {"id": "p2"}, {"birthDate": 1960}, {"identifier": {}}])
def test_what_is_not_the_patient_asked_for_is_refused(members: Any) -> None:
    with pytest.raises(UpstreamFault):
        read_patient(parsed(patient(**members)), "p1")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"null", b'{"a":1,"a":2}', b"\xff", b"\xef\xbb\xbf{}", b"[" * 99]
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamFault):
        read_object(body)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-04-14T09:30:00Z", datetime(2026, 4, 14, 9, 30, tzinfo=UTC)),
        ("2026-04-14T09:30:00.5+01:00", datetime(2026, 4, 14, 8, 30, 0, 500_000, tzinfo=UTC)),
        ("2026-04-14T09:30:00.1234567890-05:30", datetime(2026, 4, 14, 15, 0, 0, 123_456, tzinfo=UTC)),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("9999-12-31T23:59:59-05:00", None),
        ("0001-01-01T00:00:00Z", None),
        ("2026-02-30T09:30:00Z", None),
        ("2026-04-14T09:30Z", None),
        ("2026-04-14 09:30:00Z", None),
        ("2026-04-14T09:30:00", None),
        ("2026-04-14T09:30:00+15:00", None),
        ("2026-04-14T24:00:00Z", None),
        ("2026-04-14T23:59:60Z", None),
        ("٢٠٢٦-04-14T09:30:00Z", None),
    ],
)
def test_instants(text: str, at: datetime | None) -> None:
    assert parse_instant(text) == at
