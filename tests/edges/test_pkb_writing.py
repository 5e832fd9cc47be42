import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain import strict_json
from gateway.domain.appointment import CANCEL_REASON_SYSTEM, Appointment, Cancel, Change, Instant, Status, Write
from gateway.domain.grant import Coding
from gateway.domain.strict_json import Number, Object, Value
from gateway.pkb.appointment_reading import read_appointment, read_object
from gateway.pkb.appointment_writing import DATA_ABSENT_REASON, NotExpressible, rewrite
from tests.edges.pkb_documents import Absent, appointment, participant

PAT = Coding(CANCEL_REASON_SYSTEM, "pat")
TIME_ZONE = {"url": "http://hl7.org/fhir/StructureDefinition/tz-code", "valueCode": "Europe/London"}
NOT_KNOWN = {"url": DATA_ABSENT_REASON, "valueCode": "unknown"}


def instant(text: str) -> Instant:
    return Instant(datetime.fromisoformat(text), text)


def facts_of(document: Object) -> Appointment:
    return read_appointment(document, "a1", None).of(None)


def written(document: Object, command: Write) -> Object:
    return read_object(strict_json.write(rewrite(document, facts_of(document), command)))


def document(**members: Any) -> Object:
    return read_object(json.dumps(appointment(**members)).encode())


def changed(before: Object, command: Write) -> dict[str, Value]:
    """The members that are new or other than before; one that went away is None."""
    after = written(before, command)
    gone: dict[str, Value] = {name: None for name in before if name not in after}
    return gone | {name: value for name, value in after.items() if name not in before or before[name] != value}


def test_a_cancel_replaces_status_and_reason_only() -> None:
    assert changed(document(), Cancel((PAT,))) == {
        "status": "cancelled",
        "cancelationReason": {"coding": [{"system": CANCEL_REASON_SYSTEM, "code": "pat"}]},
    }


def test_a_cancel_says_its_text_and_comment_when_given() -> None:
    assert changed(document(), Cancel((PAT,), reason_text="Moved away", comment="Sorry.")) == {
        "status": "cancelled",
        "cancelationReason": {"coding": [{"system": CANCEL_REASON_SYSTEM, "code": "pat"}], "text": "Moved away"},
        "comment": "Sorry.",
    }


@pytest.mark.parametrize(
    ("members", "command", "expected"),
    [
        pytest.param(
            {}, Change(start=instant("2026-04-14T09:00:00+01:00")), {"start": "2026-04-14T09:00:00+01:00"}, id="start"
        ),
        pytest.param(
            {},
            Change(start=instant("2026-04-15T08:00:00.000Z"), end=instant("2026-04-15T08:30:00Z")),
            {"start": "2026-04-15T08:00:00.000Z", "end": "2026-04-15T08:30:00Z"},
            id="times as the partner wrote them",
        ),
        pytest.param({}, Change(comment="New."), {"comment": "New."}, id="comment"),
        pytest.param({"comment": Absent}, Change(comment="New."), {"comment": "New."}, id="a first comment"),
        pytest.param(
            {"minutesDuration": 30},
            Change(end=instant("2026-04-14T10:15:00+01:00")),
            {"end": "2026-04-14T10:15:00+01:00", "minutesDuration": Number("45")},
            id="the length follows the end",
        ),
        pytest.param(
            {"minutesDuration": 30},
            Change(start=instant("2026-04-14T09:29:30+01:00")),
            {"start": "2026-04-14T09:29:30+01:00"},
            id="a part of a minute is no minute",
        ),
        pytest.param(
            {"minutesDuration": 30},
            Change(end=instant("2026-04-14T09:30:20+01:00")),
            {"end": "2026-04-14T09:30:20+01:00", "minutesDuration": Number("1")},
            id="a length is at least a minute",
        ),
        pytest.param(
            {"minutesDuration": 25}, Change(comment="New."), {"comment": "New."}, id="the length without times"
        ),
        pytest.param(
            {"minutesDuration": 25},
            Change(start=instant("2026-04-14T08:30:00Z")),
            {"start": "2026-04-14T08:30:00Z"},
            id="the length with the same time in other words",
        ),
        pytest.param(
            {"minutesDuration": 25, "end": Absent},
            Change(start=instant("2026-04-14T08:00:00Z")),
            {"start": "2026-04-14T08:00:00Z"},
            id="the length without an end",
        ),
        pytest.param(
            {"_start": {"id": "s", "extension": [TIME_ZONE]}},
            Change(start=instant("2026-04-14T08:00:00Z")),
            {"start": "2026-04-14T08:00:00Z"},
            id="a sibling stays",
        ),
        pytest.param(
            {"end": Absent, "_end": {"extension": [NOT_KNOWN]}},
            Change(end=instant("2026-04-14T10:00:00Z")),
            {"end": "2026-04-14T10:00:00Z", "_end": None},
            id="a sibling that says absent goes",
        ),
        pytest.param(
            {"end": Absent, "_end": {"id": "e", "extension": [TIME_ZONE, NOT_KNOWN]}},
            Change(end=instant("2026-04-14T10:00:00Z")),
            {"end": "2026-04-14T10:00:00Z", "_end": {"id": "e", "extension": [TIME_ZONE]}},
            id="only what says absent goes",
        ),
        pytest.param({"_comment": {"id": "c"}}, Change(comment="New."), {"comment": "New."}, id="a sibling with an id"),
        pytest.param({"_comment": None}, Change(comment="New."), {"comment": "New."}, id="a null sibling"),
    ],
)
def test_a_change_replaces_what_it_names(members: Any, command: Change, expected: dict[str, Value]) -> None:
    assert changed(document(**members), command) == expected


PATIENT = participant("Patient/p1")
PLACE = participant("Location/l1", type="Location", display="Level 2", identifier={"value": "L"})
MOVED = {"type": "Location", "display": "Level 3"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            [PATIENT, PLACE | {"required": "required"}, participant("Practitioner/dr")],
            [PATIENT, PLACE | {"required": "required", "actor": MOVED}, participant("Practitioner/dr")],
            id="the one place",
        ),
        pytest.param([PATIENT], [PATIENT, {"actor": MOVED, "status": "accepted"}], id="no place yet"),
        pytest.param(
            [PATIENT, participant("Location/l1")], [PATIENT, {"actor": MOVED, "status": "accepted"}], id="bare"
        ),
        pytest.param(Absent, [{"actor": MOVED, "status": "accepted"}], id="no participants"),
    ],
)
def test_a_new_place_has_a_name_and_no_reference(before: Any, after: Any) -> None:
    assert changed(document(participant=before), Change(location="Level 3")) == {"participant": after}


@pytest.mark.parametrize(
    ("members", "command"),
    [
        pytest.param({}, Change(management_url="https://x.example"), id="a management URL"),
        pytest.param({}, Cancel(()), id="no reason"),
        pytest.param({}, Cancel((Coding("x", "pat"),)), id="a reason of another system"),
        pytest.param({"participant": [PLACE, PLACE]}, Change(location="Level 3"), id="two places"),
    ],
)
def test_what_fhir_cannot_say_is_not_written(members: Any, command: Write) -> None:
    with pytest.raises(NotExpressible):
        written(document(**members), command)


def test_the_document_that_was_read_stays_as_it_is() -> None:
    before = document(_end={"extension": [NOT_KNOWN]}, minutesDuration=30)
    kept = strict_json.write(before)

    written(before, Change(instant("2026-04-14T08:00:00Z"), instant("2026-04-14T09:00:00Z"), "New.", "Level 3"))
    written(before, Cancel((PAT,), comment="New."))

    assert strict_json.write(before) == kept


def test_a_participant_that_is_no_array_is_not_moved() -> None:
    before = document()
    facts = facts_of(before)
    with pytest.raises(NotExpressible):
        rewrite(before | {"participant": "x"}, facts, Change(location="Level 3"))


# On a busy machine an example takes long for no reason of ours.
UNHURRIED = settings(suppress_health_check=[HealthCheck.too_slow])

NUMBERS = st.sampled_from(["1.10", "1e2", "0.50", "-0", "100000000000000000000.000"]).map(Number)
VALUES: st.SearchStrategy[Value] = st.recursive(
    NUMBERS | st.booleans() | st.none() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=15,
)
OTHER_NAMES = st.sampled_from(
    ["slot", "_start", "_status", "_comment", "text", "tariff", "é", "reasonCode", "priority"]
)
TEXTS = st.text(max_size=20)
TIMES = st.sampled_from(["2026-05-01T10:00:00Z", "2026-05-01T11:00:00.5+01:00"]).map(instant)
COMMANDS: st.SearchStrategy[Write] = st.one_of(
    st.builds(Cancel, st.just((PAT,)), st.none() | TEXTS, st.none() | TEXTS),
    st.builds(Change, st.none() | TIMES, st.none() | TIMES, st.none() | TEXTS, st.none() | TEXTS),
)


def touched(command: Write) -> set[str]:
    if isinstance(command, Cancel):
        return {"status", "cancelationReason"} | ({"comment"} if command.comment is not None else set())
    return {"participant" if field.value == "location" else field.value for field in command.fields}


@UNHURRIED
@given(st.dictionaries(OTHER_NAMES, VALUES, max_size=5), COMMANDS)
def test_whatever_is_not_named_stays_as_written_and_in_its_place(extra: dict[str, Value], command: Write) -> None:
    before = document() | extra

    after = written(before, command)

    named = touched(command)
    assert [name for name in after if name in before] == list(before)
    for name, value in before.items():
        if name not in named:
            assert strict_json.write(after[name]) == strict_json.write(value)
    assert set(after) - set(before) <= named


@UNHURRIED
@given(COMMANDS)
def test_what_is_written_reads_back_as_commanded(command: Write) -> None:
    after = facts_of(written(document(), command))
    before = facts_of(document())

    if isinstance(command, Cancel):
        comment = before.comment if command.comment is None else command.comment
        assert after == replace(before, status=Status.CANCELLED, cancel_reason="pat", comment=comment)
    else:
        assert after == replace(
            before,
            start=before.start if command.start is None else command.start.at,
            end=before.end if command.end is None else command.end.at,
            comment=before.comment if command.comment is None else command.comment,
            locations=before.locations if command.location is None else (command.location,),
        )
