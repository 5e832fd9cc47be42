"""What a resource that a partner sends back amounts to beside the copy it was made from."""

from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.domain.appointment import CANCEL_REASON_SYSTEM, Cancel, Change
from gateway.domain.codes import Code
from gateway.domain.grant import Coding, Operation
from gateway.domain.intents import NOTHING, Meaning, Unmet
from gateway.domain.strict_json import Number
from gateway.domain.values import LONGEST, LONGEST_CODE, LONGEST_REASON, LONGEST_SYSTEM, MOST_CODINGS
from tests.domain.wanted import CANCELLED, END, FACTS, LATER, REASON, SHOWN, START, meant, moved, place
from tests.makers import DAY, HOUR


def test_what_is_sent_back_as_it_was_read_asks_for_nothing() -> None:
    assert meant(deepcopy(SHOWN)) == NOTHING
    assert NOTHING.operation is None


def test_the_order_of_members_says_nothing_and_that_of_arrays_does() -> None:
    assert meant(dict(reversed(SHOWN.items()))) == NOTHING
    assert meant(place("participant", value=list(reversed(SHOWN["participant"])))).beyond == (
        "Appointment.participant[0].actor.reference"
    )


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(place("meta", "versionId", gone=True), id="no version"),
        pytest.param(place("meta", "lastUpdated", value="2020-01-01T00:00:00Z"), id="another time of the last change"),
        pytest.param(place(start=START.isoformat().replace("+00:00", "Z")), id="the same start in other letters"),
        pytest.param(place(end=END.astimezone(tz=None).isoformat()), id="the same end in another zone"),
    ],
)
def test_what_the_server_sets_and_how_a_time_is_written_is_no_difference(wanted: Any) -> None:
    assert meant(wanted) == NOTHING


def test_meta_may_be_left_out_where_nothing_but_the_stamp_is_in_it() -> None:
    stamped = place(meta={"versionId": "7"})
    assert meant({name: value for name, value in SHOWN.items() if name != "meta"}, shown=stamped) == NOTHING
    assert meant({name: value for name, value in SHOWN.items() if name != "meta"}).beyond == "Appointment.meta"


@pytest.mark.parametrize(
    ("wanted", "command"),
    [
        pytest.param(place(start=LATER), Change(start=moved(LATER)), id="start"),
        pytest.param(place(end=LATER), Change(end=moved(LATER)), id="end"),
        pytest.param(place(comment="x"), Change(comment="x"), id="comment"),
        pytest.param(place(end=LATER, minutesDuration=Number("120")), Change(end=moved(LATER)), id="true length"),
        pytest.param(
            place("participant", 2, "actor", "display", value="Ward 2"),
            Change(location="Ward 2"),
            id="name of the place",
        ),
        pytest.param(
            place("participant", 2, "actor", value={"type": "Location", "display": "Ward 2"}),
            Change(location="Ward 2"),
            id="place without its reference",
        ),
    ],
)
def test_a_change_is_what_the_operation_could_say(wanted: Any, command: Change) -> None:
    facts = replace(FACTS, start=START, end=END)
    if "minutesDuration" in wanted and wanted["minutesDuration"] == Number("120"):
        facts = replace(FACTS, start=datetime.fromisoformat("2026-07-02T08:00:00+01:00"))
        wanted = wanted | {"start": SHOWN["start"]}
    assert meant(wanted, facts) == Meaning(command, frozenset({Operation.CHANGE}))


def test_a_comment_and_a_place_may_be_new() -> None:
    shown = place("comment", gone=True) | {"participant": SHOWN["participant"][:2]}
    bare = replace(FACTS, comment=None, locations=(), places=())
    added = {"actor": {"type": "Location", "display": "Ward 2"}, "status": "accepted"}
    wanted = shown | {"comment": "x", "participant": [*shown["participant"], added]}

    assert meant(wanted, bare, shown).command == Change(comment="x", location="Ward 2")
    assert meant(wanted, bare, shown).beyond is None


@pytest.mark.parametrize(
    "added",
    [
        {"actor": {"type": "Location", "display": "Ward 2"}, "status": "tentative"},
        {"actor": {"type": "Location", "display": "Ward 2", "reference": "Location/1"}, "status": "accepted"},
        {"actor": {"type": "Practitioner", "display": "Dr Eve"}, "status": "accepted"},
        {"actor": {"type": "Location"}, "status": "accepted"},
        {"actor": "x"},
        "x",
    ],
    ids=["another status", "a reference", "a person", "no name", "no actor", "no object"],
)
def test_nobody_else_may_take_part_anew(added: Any) -> None:
    shown = place(participant=SHOWN["participant"][:2])
    bare = replace(FACTS, locations=(), places=())
    assert (
        meant(shown | {"participant": [*shown["participant"], added]}, bare, shown).beyond == "Appointment.participant"
    )


@pytest.mark.parametrize("comment", [None, "Called off."])
def test_a_cancel_is_what_the_operation_could_say(comment: str | None) -> None:
    wanted = place(**CANCELLED) | ({"comment": comment} if comment else {})
    found = meant(wanted)

    command = Cancel((Coding(CANCEL_REASON_SYSTEM, "pat"),), "On holiday", comment)
    assert found == Meaning(command, frozenset({Operation.CANCEL}))
    assert found.operation is Operation.CANCEL


@pytest.mark.parametrize(
    "other",
    [
        {"start": LATER},
        {"end": LATER},
        {"minutesDuration": Number("45")},
        {"participant": place("participant", 2, "actor", "display", value="Ward 2")["participant"]},
    ],
    ids=["start", "end", "length", "place"],
)
def test_a_cancel_that_changes_too_is_mixed(other: Any) -> None:
    found = meant(place(**CANCELLED, **other))
    assert (found.mixed, found.operation) == (True, None)


def test_a_cancel_with_the_same_moment_in_other_letters_is_a_cancel() -> None:
    assert not meant(place(**CANCELLED, start=START.isoformat().replace("+00:00", "Z"))).mixed


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        pytest.param(place(description="x"), "description", id="description"),
        pytest.param(place("description", gone=True), "description", id="no description"),
        pytest.param(
            place("extension", 0, "valueDecimal", value=Number("1.1")), "extension[0].valueDecimal", id="digits"
        ),
        pytest.param(place(status="arrived"), "status", id="another status"),
        pytest.param(place("status", gone=True), "status", id="no status"),
        pytest.param(place(cancelationReason=REASON), "cancelationReason", id="a reason without a cancel"),
        pytest.param(place(id="a-2"), "id", id="another id"),
        pytest.param(place("meta", "security", gone=True), "meta.security", id="no label"),
        pytest.param(place("meta", value=None), "meta", id="meta is nothing"),
        pytest.param(place("start", gone=True), "start", id="no start"),
        pytest.param(place("comment", gone=True), "comment", id="no comment"),
        pytest.param(place("_start", gone=True), "_start", id="what stands beside the start"),
        pytest.param(place("_start", "x", value="y"), "_start", id="more beside the start"),
        pytest.param(place(minutesDuration=Number("45")), "minutesDuration", id="length alone"),
        pytest.param(place(start=LATER, minutesDuration=Number("45")), "minutesDuration", id="untrue length"),
        pytest.param(place(end=LATER, minutesDuration=None), "minutesDuration", id="length is nothing"),
        pytest.param(place("minutesDuration", gone=True), "minutesDuration", id="no length"),
        pytest.param(place("participant", gone=True), "participant", id="nobody"),
        pytest.param(place(participant=[]), "participant", id="an empty list of people"),
        pytest.param(
            place("participant", 0, "actor", "reference", value="Patient/p-2"),
            "participant[0].actor.reference",
            id="another patient",
        ),
        pytest.param(
            place("participant", 1, "actor", "display", value="Dr Eve"),
            "participant[1].actor.display",
            id="another doctor",
        ),
        pytest.param(
            place("participant", 2, "actor", "reference", value="Location/l-2"),
            "participant[2].actor.reference",
            id="another place by reference",
        ),
        pytest.param(
            place("participant", 2, "actor", "reference", gone=True),
            "participant[2].actor.reference",
            id="less of the place",
        ),
        pytest.param(place("participant", 2, value="x"), "participant[2]", id="no participant"),
        pytest.param(place("participant", 2, "status", value="declined"), "participant[2].status", id="its status"),
        pytest.param(
            place("participant", 2, "actor", value={"display": "Ward 2", "note": None}),
            "participant[2].actor.reference",
            id="a null beside the place",
        ),
        pytest.param(place(patientInstruction="x"), "patientInstruction", id="a new element of FHIR"),
    ],
)
def test_everything_else_is_beyond_and_named(wanted: Any, path: str) -> None:
    found = meant(wanted)
    assert found.beyond == f"Appointment.{path}"
    assert found.operations == {Operation.CHANGE}
    assert found.detail == f"Appointment.{path} differs from the copy you read."


def test_a_name_that_only_the_partner_uses_is_not_repeated() -> None:
    assert meant(place(JaneDoe9434765919="x")).beyond == "Appointment"
    assert meant(place("participant", 1, "actor", "JaneDoe", value=True)).beyond == "Appointment.participant[1].actor"


def test_a_length_that_is_new_is_beyond() -> None:
    shown = place("minutesDuration", gone=True)
    assert meant(shown | {"end": LATER, "minutesDuration": Number("45")}, shown=shown).beyond == (
        "Appointment.minutesDuration"
    )


def test_a_cancel_may_not_touch_anything_else() -> None:
    found = meant(place(**CANCELLED, description="x"))
    assert (found.beyond, found.mixed, found.operation) == ("Appointment.description", False, Operation.CANCEL)


def test_the_second_of_two_places_is_beyond() -> None:
    two = place(participant=[*SHOWN["participant"], SHOWN["participant"][2]])
    both = deepcopy(two)
    for number in (2, 3):
        both["participant"][number]["actor"]["display"] = "Ward 2"
    found = meant(both, replace(FACTS, places=(2, 3)), two)
    assert (found.command, found.beyond) == (Change(location="Ward 2"), "Appointment.participant[3].actor.display")


@pytest.mark.parametrize("wanted", [None, "x", True, Number("1"), []], ids=["null", "text", "true", "number", "array"])
def test_what_is_no_object_is_beyond_altogether(wanted: Any) -> None:
    assert meant(wanted).beyond == "Appointment"


def test_a_patch_that_did_not_apply_says_so() -> None:
    unmet = Unmet(Code.VERSION_CONFLICT, "The test of operation 0 does not hold.")
    assert meant(unmet) == replace(NOTHING, unmet=unmet)
    assert meant(unmet).detail == unmet.detail


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (place(comment="x" * 501), "comment may have at most 500 characters."),
        (place(comment=" "), "comment is blank or holds control characters."),
        (place(comment=None), "comment is no string."),
        (place(start="tomorrow"), "start is no FHIR instant with seconds and offset."),
        (place(end=Number("1")), "end is no FHIR instant with seconds and offset."),
        (place("participant", 2, "actor", "display", value="x" * 201), "location may have at most 200 characters."),
        (place("participant", 2, "actor", "display", value="x\ny"), "location is one line."),
        (place(status="cancelled", cancelationReason="pat"), "cancelationReason is no CodeableConcept."),
        (
            place(status="cancelled", cancelationReason={"coding": [{}] * 11}),
            "cancelationReason has no array of at most 10 codings.",
        ),
        (
            place(status="cancelled", cancelationReason={"coding": ["pat"]}),
            "cancelationReason has something else than a coding.",
        ),
        (
            place(status="cancelled", cancelationReason={"coding": [{"code": True}]}),
            "cancelationReason has something else than a coding.",
        ),
        (
            place(status="cancelled", cancelationReason={"coding": [{"code": "x" * 101}]}),
            "cancelationReason has a code or system that is too long.",
        ),
        (
            place(status="cancelled", cancelationReason={"text": "x" * 201}),
            "cancelationReason needs a text of at most 200 characters, or none.",
        ),
        (
            place(status="cancelled", cancelationReason={"text": None}),
            "cancelationReason needs a text of at most 200 characters, or none.",
        ),
    ],
    ids=range(14),
)
def test_a_value_that_no_operation_takes_is_told(wanted: Any, why: str) -> None:
    assert meant(wanted).unmet == Unmet(Code.INVALID_PARAMETER, why)


def test_a_long_comment_of_pkbs_may_be_sent_back() -> None:
    shown = place(comment="x" * 600)
    assert meant(shown | {"start": LATER}, replace(FACTS, comment="x" * 600), shown).command == Change(
        start=moved(LATER)
    )


SOON = (START + timedelta(days=1)).isoformat()


@pytest.mark.parametrize(
    ("members", "minutes", "facts", "carried"),
    [
        pytest.param({"end": (END + HOUR).isoformat()}, "90", {}, True, id="a later end"),
        pytest.param({"start": (START - HOUR).isoformat()}, "90", {}, True, id="an earlier start"),
        pytest.param({"start": SOON, "end": (END + DAY).isoformat()}, "30", {}, True, id="as long as before"),
        pytest.param({"end": (END + HOUR).isoformat()}, "90.0", {}, False, id="written otherwise"),
        pytest.param({"end": (END + HOUR).isoformat()}, "91", {}, False, id="too long"),
        pytest.param({"comment": "x"}, "31", {}, False, id="no new time"),
        pytest.param({"start": SOON}, "30", {"end": None}, None, id="no end, and the length as it was"),
        pytest.param({"start": SOON}, "31", {"end": None}, False, id="no end"),
        pytest.param({"end": SOON}, "31", {"start": None}, False, id="no start"),
    ],
)
def test_a_length_has_to_be_true(members: Any, minutes: str, facts: Any, carried: bool | None) -> None:
    found = meant(place(**members, minutesDuration=Number(minutes)), replace(FACTS, **facts))
    assert found.beyond == ("Appointment.minutesDuration" if carried is False else None)


def test_a_true_length_is_not_added_where_there_was_none() -> None:
    shown = place("minutesDuration", gone=True)
    wanted = shown | {"end": (END + HOUR).isoformat(), "minutesDuration": Number("90")}
    assert meant(wanted, shown=shown).beyond == "Appointment.minutesDuration"


def test_a_reason_may_be_as_long_as_the_operation_takes() -> None:
    codings = [{"system": "s" * 200, "code": "c" * 100}, *[{"display": "ignored"}] * 9]
    found = meant(place(status="cancelled", cancelationReason={"coding": codings, "text": "t" * 200}))
    assert found.unmet is None
    assert found.command == Cancel((Coding("s" * 200, "c" * 100), *[Coding("", "")] * 9), "t" * 200)


@pytest.mark.parametrize(
    "concept",
    [
        {"coding": {"code": "pat"}},
        {"coding": [{"system": "s" * 201}]},
        {"coding": [{"system": 1, "code": "pat"}]},
        {"coding": [{}] * 11},
        {"text": " "},
        {"text": 1},
    ],
    ids=["no array", "long system", "system is a number", "eleven", "blank text", "text is a number"],
)
def test_a_reason_that_the_operation_would_not_take_is_none(concept: Any) -> None:
    unmet = meant(place(status="cancelled", cancelationReason=concept)).unmet
    assert unmet is not None
    assert unmet.code is Code.INVALID_PARAMETER


@pytest.mark.parametrize(
    "actor",
    [
        {"reference": "Location/l-1", "type": "Location"},
        {"reference": "Location/l-1", "type": "Location", "display": True},
        {"reference": "Location/l-1", "type": "Practitioner", "display": "Ward 2"},
        {"reference": "Location/l-2", "type": "Location", "display": "Ward 2"},
        {"type": "Location", "display": "Ward 2", "identifier": {"value": "x"}},
        "Ward 2",
    ],
    ids=["no name", "no text", "a person", "another reference", "an identifier", "a text"],
)
def test_of_a_place_only_the_name_may_be_another(actor: Any) -> None:
    found = meant(place("participant", 2, "actor", value=actor))
    assert found.command == Change()
    assert found.beyond is not None
    assert found.beyond.startswith("Appointment.participant[2].actor")


def test_a_place_may_gain_its_type() -> None:
    shown = place("participant", 2, "actor", "type", gone=True)
    wanted = place("participant", 2, "actor", "display", value="Ward 2")
    assert meant(wanted, shown=shown) == Meaning(Change(location="Ward 2"), frozenset({Operation.CHANGE}))


def test_nobody_may_be_added_where_there_is_a_place_and_nobody_may_leave() -> None:
    added = {"actor": {"type": "Location", "display": "Ward 2"}, "status": "accepted"}
    assert meant(place(participant=[*SHOWN["participant"], added])).beyond == "Appointment.participant"
    assert meant(place(participant=SHOWN["participant"][:2])).beyond == "Appointment.participant"
    assert meant(place(participant="Ward 2")).beyond == "Appointment.participant"


def test_what_a_copy_has_no_word_of_is_beyond_wherever_it_is() -> None:
    strange = place(participant="nobody")
    assert meant(SHOWN, shown=strange).beyond == "Appointment.participant"
    odd = place(participant=["nobody"])
    assert meant(SHOWN | {"participant": ["somebody"]}, replace(FACTS, places=(0,)), odd).beyond == (
        "Appointment.participant[0]"
    )
    assert meant(place(meta="x"), shown=place(meta="y")).beyond == "Appointment.meta"


def test_the_limits_are_those_of_the_operations() -> None:
    assert [*LONGEST.values(), LONGEST_REASON, MOST_CODINGS, LONGEST_SYSTEM, LONGEST_CODE] == [
        500,
        200,
        200,
        10,
        200,
        100,
    ]
