"""Appointments as an STU3 box holds them, and a way back from R4 that shares nothing with the gateway's way there."""

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from gateway.domain.appointment import CANCEL_REASON_SYSTEM
from gateway.domain.strict_json import Number, Object, Value
from gateway.pkb.appointment_reading import read_object
from tests.edges.pkb_documents import LABEL, PKB, appointment, participant

REASON_URL = "http://hl7.org/fhir/4.0/StructureDefinition/extension-Appointment.cancelationReason"
MARK = {"url": f"{PKB}/structuredefinition/appointment-actor-type", "valueCode": "Location"}
SPOC = {
    "url": f"{PKB}/structuredefinition/spoc",
    "extension": [{"url": f"{PKB}/structuredefinition/spoc-phone", "valueString": "0113 496 0000"}],
}
PAT = {"coding": [{"system": CANCEL_REASON_SYSTEM, "code": "pat"}], "text": "Moved away"}
PLACE = participant(extension=[MARK], display="Clinic 4")


def reason_extension(concept: object = PAT) -> dict[str, Any]:
    return {"url": REASON_URL, "valueCodeableConcept": concept}


def concept(code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": "http://snomed.info/sct", "code": code, "display": display}]}


STU3_ONLY: Mapping[str, Any] = {
    "serviceCategory": concept("310000008", "Accident and emergency service"),
    "reason": [concept("195967001", "Asthma"), {"text": "Wheeze since March"}],
    "indication": [{"reference": "Condition/asthma", "display": "Asthma"}],
    "incomingReferral": [{"reference": "ReferralRequest/r1"}],
}
"""The elements that R4 calls or writes otherwise."""


def leeds(**members: Any) -> dict[str, Any]:
    """Whatever PKB's guide for a box asks for, and one of everything that R4 says otherwise."""
    document: dict[str, Any] = {
        "extension": [SPOC],
        "serviceType": [concept("11429006", "Consultation")],
        "appointmentType": {"coding": [{"display": "Asthma review (face to face)"}]},
        "priority": 5,
        "minutesDuration": 30,
        "participant": [participant("Patient/p1"), participant("Practitioner/dr", display="Dr Test (GP)"), PLACE],
        "requestedPeriod": [{"start": "2026-04-13", "end": "2026-04-17"}],
    }
    return appointment(**(document | dict(STU3_ONLY) | members))


def cancelled_at_leeds(version: str = "18", **members: Any) -> dict[str, Any]:
    document = {"meta": {"versionId": version}, "status": "cancelled", "extension": [SPOC, reason_extension()]}
    return leeds(**(document | members))


def back_to_stu3(document: Object) -> Object:
    """Undo by hand what the gateway does to a well-formed STU3 Appointment."""
    names = {"reasonCode": "reason", "reasonReference": "indication", "basedOn": "incomingReferral"}
    back: Object = {names.get(name, name): value for name, value in document.items()}
    if isinstance(category := back.get("serviceCategory"), list):
        (back["serviceCategory"],) = category
    if "cancelationReason" in back:
        held = back.get("extension", [])
        assert isinstance(held, list)
        back["extension"] = [*held, {"url": REASON_URL, "valueCodeableConcept": back.pop("cancelationReason")}]
    people = back.get("participant", [])
    assert isinstance(people, list)
    back["participant"] = [_without_type(each) for each in people]
    return back


def _without_type(participant_: Value) -> Value:
    assert isinstance(participant_, dict)
    actor = participant_["actor"]
    assert isinstance(actor, dict)
    return participant_ | {"actor": {name: value for name, value in actor.items() if name != "type"}}


# Realistic resources.

NUMBERS = st.sampled_from(["1.10", "51.50", "1e2", "0", "-0.1160", "100000000000000000000.000"]).map(Number)
WORDS = st.sampled_from(["Asthma", "Überweisung", 'a "quoted" word', "line\nline", "", "1.10"]) | st.text(max_size=6)


def _objects(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[Object]:
    """Objects with some of these members, in any order."""
    return st.lists(st.sampled_from(sorted(values)), unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: values[name] for name in names})
    )


QUANTITIES = _objects(value=NUMBERS, unit=WORDS, code=WORDS)
CODINGS = _objects(system=st.just("http://snomed.info/sct"), code=st.sampled_from(["1", "195967001"]), display=WORDS)
OTHER_EXTENSIONS = st.builds(
    lambda name, kind, value: {"url": f"https://trust.example/{name}", kind: value},
    st.sampled_from(["tariff", "room", "spoc"]),
    st.sampled_from(["valueDecimal", "valueQuantity", "valueString"]),
    NUMBERS | QUANTITIES | WORDS,
)
CONCEPTS = _objects(coding=st.lists(CODINGS, max_size=2), text=WORDS, extension=st.lists(OTHER_EXTENSIONS, max_size=1))
REFERENCES = _objects(
    reference=st.sampled_from(["Condition/1", "#held", "https://x.example/fhir/Slot/1"]), display=WORDS
)
MARKS = st.sampled_from([MARK, {"url": MARK["url"], "valueString": "Location"}])
STAFF = st.builds(lambda display: participant(display=display), WORDS)
MARKED = st.builds(lambda mark, display: participant(extension=[mark], display=display), MARKS, WORDS)
REFERRED = st.builds(lambda display: participant("Location/l1", display=display), WORDS)


@st.composite
def realistic(draw: st.DrawFn) -> Object:
    """An STU3 Appointment of the patient p1 with at most one place; any order of members, the oddest of numbers."""
    extra = _objects(
        serviceCategory=CONCEPTS,
        serviceType=st.lists(CONCEPTS, max_size=2),
        reason=st.lists(CONCEPTS, max_size=2),
        indication=st.lists(REFERENCES, max_size=2),
        incomingReferral=st.lists(REFERENCES, max_size=2),
        supportingInformation=st.lists(REFERENCES, max_size=2),
        slot=st.lists(REFERENCES, max_size=2),
        appointmentType=CONCEPTS,
        priority=NUMBERS,
        minutesDuration=st.just(Number("30")),
        created=st.just("2026-03-01"),
        text=_objects(status=st.just("generated"), div=WORDS),
        contained=st.lists(QUANTITIES, max_size=1),
        tariff=NUMBERS | QUANTITIES,
        _start=_objects(id=WORDS, extension=st.lists(OTHER_EXTENSIONS, max_size=1)),
        _comment=st.none(),
    )
    extensions = draw(st.lists(OTHER_EXTENSIONS, max_size=2))
    people: list[Value] = [participant("Patient/p1"), *draw(st.lists(STAFF, max_size=2))]
    people += draw(st.lists(MARKED | REFERRED, max_size=1))
    document = read_object(json.dumps(appointment(participant=[])).encode()) | draw(extra)
    document["participant"] = draw(st.permutations(people))
    document["meta"] = {"versionId": "17", "security": [{"system": LABEL, "code": "GENERAL_HEALTH"}]}
    if held := [*extensions, *draw(st.sampled_from([[], [reason_extension()]]))]:
        document["extension"] = held
    return dict(draw(st.permutations(list(document.items()))))
