from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.appointment import Appointment, Cancel, Change, Instant, Patient, Provenance, Status, Write
from gateway.domain.grant import Coding
from gateway.domain.hl7_limits import Unsayable, is_nhs_number, local_minute, unsayable

LONDON = ZoneInfo("Europe/London")
HALF_PAST_NINE = datetime(2026, 4, 14, 9, 30, tzinfo=timezone(timedelta(hours=1)))
HALF_AN_HOUR = timedelta(minutes=30)
APPOINTMENT = Appointment(
    id="a1",
    version="17",
    status=Status.BOOKED,
    start=HALF_PAST_NINE,
    end=None,
    provenance=Provenance(patients=1),
    patient=Patient("Patient/p1", "9990548609"),
    specialties=frozenset({Coding("urn:nhs", "320")}),
    placer_id="APPT1",
    participants=("Dr Jones (Consultant)",),
)
CANCEL = Cancel(())


def at(text: str) -> Instant:
    return Instant(datetime.fromisoformat(text), text)


def change(**members: Any) -> Change:
    return Change(**members)


def like(**members: Any) -> Appointment:
    return replace(APPOINTMENT, **members)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(CANCEL, id="cancel"),
        pytest.param(Cancel((), reason_text="Ill\nand away"), id="cancel-with-reason-text"),
        pytest.param(Change(start=at("2026-04-15T09:30:00+01:00")), id="start"),
        pytest.param(Change(start=at("2026-04-15T08:30:00Z"), end=at("2026-04-15T09:00:00Z")), id="both-times"),
        pytest.param(Change(comment="Bring | ^ ~ \\ & <b>]]> {x} ü 🙂"), id="delimiters"),
        pytest.param(Change(location="Level 2"), id="location"),
        pytest.param(Change(management_url="https://partner.example/a?b=1&c=2"), id="management-url"),
    ],
)
def test_what_hl7_can_say_passes(command: Write) -> None:
    assert unsayable(command, APPOINTMENT, LONDON) is None


@pytest.mark.parametrize("placer_id", [None, "", "  ", '""', "A\rPV1|", "A\n"])
@pytest.mark.parametrize("command", [CANCEL, Change(comment="x")], ids=["cancel", "change"])
def test_an_appointment_without_a_usable_placer_id_cannot_be_named(command: Write, placer_id: str | None) -> None:
    assert unsayable(command, like(placer_id=placer_id), LONDON) is Unsayable.NO_PLACER_ID


@pytest.mark.parametrize(
    "patient",
    [None, Patient("Patient/p1"), Patient("Patient/p1", "999054860"), Patient("Patient/p1", "999 054 8609")],
    ids=["no-patient", "no-number", "nine-digits", "spaces"],
)
@pytest.mark.parametrize("command", [CANCEL, Change(comment="x")], ids=["cancel", "change"])
def test_a_patient_without_an_nhs_number_cannot_be_named(command: Write, patient: Patient | None) -> None:
    assert unsayable(command, like(patient=patient), LONDON) is Unsayable.NO_NHS_NUMBER


def test_digits_of_other_scripts_are_no_nhs_number() -> None:
    assert not is_nhs_number("٩٩٩٠٥٤٨٦٠٩")


@pytest.mark.parametrize("comment", ["Moved away", ""])
def test_a_cancel_has_no_place_for_a_comment(comment: str) -> None:
    assert unsayable(Cancel((), comment=comment), APPOINTMENT, LONDON) is Unsayable.CANCEL_COMMENT


def test_a_cancel_repeats_nobody_and_so_loses_nobody() -> None:
    bare = like(participants=(None,), specialties=frozenset(), labels=frozenset({"SEXUAL_HEALTH"}))

    assert unsayable(CANCEL, bare, LONDON) is None


@pytest.mark.parametrize("text", ["2026-04-15T09:30:01+01:00", "2026-04-15T09:30:00.000001+01:00"])
@pytest.mark.parametrize("field", ["start", "end"])
def test_a_time_between_two_minutes_is_not_sent(field: str, text: str) -> None:
    assert unsayable(change(**{field: at(text)}), APPOINTMENT, LONDON) is Unsayable.SECONDS


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("2026-10-25T00:59:00Z", Unsayable.REPEATED_HOUR, id="first-of-two"),
        pytest.param("2026-10-25T01:00:00Z", Unsayable.REPEATED_HOUR, id="second-of-two"),
        pytest.param("2026-10-25T00:00:00Z", Unsayable.REPEATED_HOUR, id="as-the-hour-begins"),
        pytest.param("2026-10-25T01:59:00Z", Unsayable.REPEATED_HOUR, id="last-minute"),
        pytest.param("2026-10-24T23:59:00Z", None, id="minute-before"),
        pytest.param("2026-10-25T02:00:00Z", None, id="minute-after"),
        pytest.param("2026-03-29T00:59:00Z", None, id="before-the-skipped-hour"),
        pytest.param("2026-03-29T01:00:00Z", None, id="after-the-skipped-hour"),
    ],
)
@pytest.mark.parametrize("field", ["start", "end"])
def test_the_hour_that_occurs_twice_is_not_sent(field: str, text: str, reason: Unsayable | None) -> None:
    assert unsayable(change(**{field: at(text)}), APPOINTMENT, LONDON) is reason


def test_the_zone_is_the_customers() -> None:
    twice_in_new_york = Change(start=at("2026-11-01T05:30:00Z"))

    assert unsayable(twice_in_new_york, APPOINTMENT, LONDON) is None
    assert unsayable(twice_in_new_york, APPOINTMENT, ZoneInfo("America/New_York")) is Unsayable.REPEATED_HOUR


def test_a_time_beyond_the_calendar_of_the_zone_is_not_sent() -> None:
    last = Instant(datetime(9999, 12, 31, 23, 59, tzinfo=UTC), "")

    assert unsayable(Change(end=last), APPOINTMENT, ZoneInfo("Asia/Tokyo")) is Unsayable.SECONDS


@pytest.mark.parametrize("text", ["", " ", "\t", '""', ' "" '])
@pytest.mark.parametrize("field", ["comment", "location", "management_url"])
def test_a_value_cannot_be_emptied(field: str, text: str) -> None:
    assert unsayable(change(**{field: text}), APPOINTMENT, LONDON) is Unsayable.BLANK


@pytest.mark.parametrize("sign", ["\r", "\n", "\0", "\t", "\x0b", "\x0c", "\x1c", "\x7f", "\x85", "\u2028", "\ufffe"])
@pytest.mark.parametrize("field", ["comment", "location", "management_url"])
def test_a_text_of_several_lines_is_not_sent(field: str, sign: str) -> None:
    assert unsayable(change(**{field: f"a{sign}b"}), APPOINTMENT, LONDON) is Unsayable.LINE_BREAK


@pytest.mark.parametrize("display", [None, "", " ", '""', "Dr\nJones"])
def test_a_participant_that_a_change_would_lose_forbids_it(display: str | None) -> None:
    held = like(participants=("Dr Jones", display))

    assert unsayable(Change(comment="x"), held, LONDON) is Unsayable.NAMELESS_PARTICIPANT


def test_nobody_takes_part_and_nobody_is_lost() -> None:
    assert unsayable(Change(comment="x"), like(participants=()), LONDON) is None


def test_a_second_specialty_would_be_lost() -> None:
    two = like(specialties=frozenset({Coding("urn:nhs", "320"), Coding("urn:nhs", "360")}))

    assert unsayable(Change(comment="x"), two, LONDON) is Unsayable.SEVERAL_SPECIALTIES


def test_one_specialty_in_two_systems_is_one() -> None:
    one = like(specialties=frozenset({Coding("urn:nhs", "320"), Coding("http://snomed.info/sct", "394579002")}))

    assert unsayable(Change(comment="x"), one, LONDON) is None


def test_a_label_that_follows_from_no_specialty_would_be_lost() -> None:
    bare = like(specialties=frozenset(), labels=frozenset({"SEXUAL_HEALTH"}))

    assert unsayable(Change(comment="x"), bare, LONDON) is Unsayable.LABEL_LOST
    assert unsayable(Change(comment="x"), replace(bare, labels=frozenset()), LONDON) is None


def test_the_reasons_are_sentences_that_tell_nothing_of_the_patient() -> None:
    assert all(reason.endswith(".") and reason.isascii() for reason in Unsayable)


@given(
    st.integers(-2_000_000, 3_000_000).map(lambda halves: datetime(2026, 1, 1, tzinfo=UTC) + halves * HALF_AN_HOUR),
    st.sampled_from(["Europe/London", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
def test_local_time_is_given_only_where_it_leads_back_to_the_same_instant(moment: datetime, name: str) -> None:
    zone = ZoneInfo(name)

    text = local_minute(moment, zone)

    if text is not None:
        for fold in (0, 1):
            local = datetime.strptime(text, "%Y%m%d%H%M").replace(tzinfo=zone, fold=fold)
            assert local.astimezone(UTC) == moment


def test_a_year_has_four_digits() -> None:
    assert local_minute(datetime(476, 9, 4, 12, 30, tzinfo=UTC), ZoneInfo("UTC")) == "047609041230"


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.BOOKED])
def test_a_change_would_book_what_is_not_booked(status: Status) -> None:
    assert unsayable(change(comment="Bring glasses"), like(status=status), LONDON) is Unsayable.NOT_BOOKED


@pytest.mark.parametrize("status", list(Status))
def test_a_cancel_is_sayable_of_any_status(status: Status) -> None:
    assert unsayable(CANCEL, like(status=status), LONDON) is None


@pytest.mark.parametrize(
    "moment", ["2026-04-14T09:30:01+01:00", "2026-10-25T01:30:00+01:00"], ids=["seconds", "the repeated hour"]
)
def test_a_moment_that_local_time_loses_has_no_local_minute(moment: str) -> None:
    assert local_minute(datetime.fromisoformat(moment), LONDON) is None


def test_a_label_that_a_specialty_can_give_is_no_hindrance() -> None:
    labelled = like(labels=frozenset({"SEXUAL_HEALTH"}))

    assert unsayable(change(comment="Bring glasses"), labelled, LONDON) is None
    bare = replace(labelled, specialties=frozenset())
    assert unsayable(change(comment="Bring glasses"), bare, LONDON) is Unsayable.LABEL_LOST
