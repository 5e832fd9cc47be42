"""Commands as new versions of an STU3 document: PKB gets its own words back."""

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain import strict_json
from gateway.domain.appointment import CANCEL_REASON_SYSTEM, Appointment, Cancel, Change, Instant, Status, Write
from gateway.domain.grant import Coding
from gateway.domain.strict_json import Object, Value
from gateway.pkb.appointment_reading import read_appointment, read_object
from gateway.pkb.appointment_writing import NotExpressible, rewrite
from gateway.pkb.dialect import R4, Dialect
from gateway.pkb.stu3 import STU3, STU3_WITHOUT_REASON, as_r4
from tests.edges.pkb_documents import Absent, participant
from tests.edges.stu3_documents import MARK, PLACE, SPOC, back_to_stu3, leeds, realistic, reason_extension

# On a busy machine an example takes long for no reason of ours.
UNHURRIED = settings(suppress_health_check=[HealthCheck.too_slow])
CANCEL = Cancel((Coding(CANCEL_REASON_SYSTEM, "pat"),), reason_text="Moved away")


def instant(text: str) -> Instant:
    return Instant(datetime.fromisoformat(text), text)


def facts_of(document: Object) -> Appointment:
    return read_appointment(as_r4(document), "a1", None).of(None)


def document(**members: Any) -> Object:
    return read_object(json.dumps(leeds(**members)).encode())


def written(before: Object, command: Write, dialect: Dialect = STU3) -> Object:
    return read_object(strict_json.write(rewrite(before, facts_of(before), command, dialect)))


def changed(before: Object, command: Write, dialect: Dialect = STU3) -> Any:
    """The members that are new or other than before; one that went away is None."""
    after = written(before, command, dialect)
    gone: dict[str, Value] = {name: None for name in before if name not in after}
    return gone | {name: value for name, value in after.items() if name not in before or before[name] != value}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(Absent, [reason_extension()], id="no extension yet"),
        pytest.param([SPOC], [SPOC, reason_extension()], id="beside others"),
        pytest.param([reason_extension({"text": "old"}), SPOC], [SPOC, reason_extension()], id="instead of an old one"),
        pytest.param([reason_extension({}), reason_extension({})], [reason_extension()], id="instead of two"),
    ],
)
def test_a_cancel_keeps_its_reason_in_an_extension(before: Any, after: Any) -> None:
    assert changed(document(extension=before), CANCEL) == {"status": "cancelled", "extension": after}


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        pytest.param(Absent, {}, id="no extension"),
        pytest.param([], {}, id="an empty array"),
        pytest.param([SPOC], {}, id="others"),
        pytest.param([SPOC, reason_extension()], {"extension": [SPOC]}, id="an old reason"),
        pytest.param([reason_extension()], {"extension": None}, id="nothing but an old reason"),
    ],
)
def test_a_cancel_without_a_place_for_its_reason_leaves_none_at_all(before: Any, expected: Any) -> None:
    assert changed(document(extension=before), CANCEL, STU3_WITHOUT_REASON) == {"status": "cancelled"} | expected


@pytest.mark.parametrize("dialect", [STU3, STU3_WITHOUT_REASON], ids=["kept", "dropped"])
def test_extensions_that_are_no_array_are_not_written(dialect: Dialect) -> None:
    with pytest.raises(NotExpressible):
        written(document(extension={"url": "x"}), CANCEL, dialect)


def test_a_change_replaces_what_it_names() -> None:
    command = Change(instant("2026-04-14T09:00:00+01:00"), instant("2026-04-14T09:45:00+01:00"), "New.")
    after = changed(document(), command)

    assert json.loads(strict_json.write(after)) == {
        "start": "2026-04-14T09:00:00+01:00",
        "end": "2026-04-14T09:45:00+01:00",
        "comment": "New.",
        "minutesDuration": 45,
    }


PATIENT = participant("Patient/p1")
IN_WORDS = {"url": MARK["url"], "valueString": "Location"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            [PATIENT, PLACE | {"required": "optional"}],
            [PATIENT, participant(extension=[MARK], display="Clinic 5") | {"required": "optional"}],
            id="the one place",
        ),
        pytest.param(
            [PATIENT, participant("Location/l1", display="Clinic 4", extension=[SPOC, IN_WORDS])],
            [PATIENT, participant(extension=[IN_WORDS], display="Clinic 5")],
            id="a place marked in another type",
        ),
        pytest.param(
            [PATIENT, participant("Location/l1", type="Location", extension=[{"url": MARK["url"], "valueCode": "x"}])],
            [PATIENT, participant(extension=[MARK], display="Clinic 5")],
            id="a place marked as something else",
        ),
        pytest.param([PATIENT], [PATIENT, participant(extension=[MARK], display="Clinic 5")], id="no place yet"),
    ],
)
def test_a_new_place_is_marked_the_way_of_stu3(before: Any, after: Any) -> None:
    told = document(participant=before)

    assert changed(told, Change(location="Clinic 5")) == {"participant": after}
    assert facts_of(written(told, Change(location="Clinic 5"))).locations == ("Clinic 5",)


TEXTS = st.text(max_size=20)
TIMES = st.sampled_from(["2026-05-01T10:00:00Z", "2026-05-01T11:00:00.5+01:00"]).map(instant)
CANCELS = st.builds(Cancel, st.just(CANCEL.codings), st.none() | TEXTS, st.none() | TEXTS)
CHANGES = st.builds(Change, st.none() | TIMES, st.none() | TIMES, st.none() | TEXTS, st.none() | TEXTS)
COMMANDS: st.SearchStrategy[Write] = CANCELS | CHANGES


def touched(command: Write) -> set[str]:
    if isinstance(command, Cancel):
        return {"status", "extension"} | ({"comment"} if command.comment is not None else set())
    times = {"minutesDuration"} if command.start or command.end else set()
    return times | {"participant" if field.value == "location" else field.value for field in command.fields}


@UNHURRIED
@given(realistic(), COMMANDS, st.sampled_from([STU3, STU3_WITHOUT_REASON]))
def test_whatever_is_not_named_stays_as_written_and_in_its_place(
    before: Object, command: Write, dialect: Dialect
) -> None:
    after = written(before, command, dialect)

    named = touched(command)
    assert [name for name in after if name in before] == [name for name in before if name in after]
    assert before.keys() - after.keys() <= {"extension"} & named
    for name, value in before.items():
        if name not in named:
            assert strict_json.write(after[name]) == strict_json.write(value)
    assert after.keys() - before.keys() <= named


@UNHURRIED
@given(realistic(), COMMANDS)
def test_the_partner_sees_what_an_r4_box_would_show(before: Object, command: Write) -> None:
    seen = as_r4(written(before, command))

    same = read_object(strict_json.write(rewrite(as_r4(before), facts_of(before), command, R4)))
    assert unmarked(seen) == unmarked(same)


def unmarked(told: Object) -> Object:
    people = told["participant"]
    assert isinstance(people, list)
    return back_to_stu3(told) | {"participant": [_unmarked(each) for each in people]}


def _unmarked(person: Value) -> Value:
    assert isinstance(person, dict)
    actor = person["actor"]
    assert isinstance(actor, dict)
    return person | {"actor": {name: value for name, value in actor.items() if name not in {"extension", "type"}}}


@UNHURRIED
@given(realistic(), CANCELS)
def test_the_reason_of_a_cancel_is_read_back_where_it_was_put(before: Object, command: Cancel) -> None:
    after = facts_of(written(before, command))
    dropped = facts_of(written(before, command, STU3_WITHOUT_REASON))

    assert (after.status, after.cancel_reason) == (Status.CANCELLED, "pat")
    assert (dropped.status, dropped.cancel_reason) == (Status.CANCELLED, None)


@UNHURRIED
@given(realistic(), COMMANDS, st.sampled_from([STU3, STU3_WITHOUT_REASON]))
def test_the_document_that_was_read_stays_as_it_is(before: Object, command: Write, dialect: Dialect) -> None:
    kept = strict_json.write(before)

    written(before, command, dialect)

    assert strict_json.write(before) == kept


def test_nothing_of_r4_is_sent_to_an_stu3_box() -> None:
    sent = strict_json.write(written(document(participant=[PATIENT]), Change(location="Clinic 5")))
    sent += strict_json.write(written(document(), CANCEL))

    for name in (b'"type":"Location"', b'"cancelationReason"', b'"reasonCode"', b'"basedOn"'):
        assert name not in sent
    assert b"Moved away" in sent
