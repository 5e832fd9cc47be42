"""The messages byte for byte, and as python-hl7 reads them: a library that shares nothing with our writer."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import hl7
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.hl7_limits import is_sayable
from gateway.pkb import hl7_message
from gateway.pkb.hl7_message import Details, Envelope, Kept, NotSayable, Person, Times

LONDON = ZoneInfo("Europe/London")
SUMMER = timezone(timedelta(hours=1))
ENVELOPE = Envelope("bradford", "c0ffee-0001", datetime(2026, 4, 2, 9, 15, 7, 250_000, tzinfo=UTC), "P", LONDON)
ADA = Person("9990548609", "Test", "Ada", date(1970, 1, 1))
TIMES = Times(datetime(2026, 4, 21, 11, 0, tzinfo=SUMMER), datetime(2026, 4, 21, 11, 30, tzinfo=SUMMER))
KEPT = Kept("O", "320", ("Dr Jones (Consultant)", "Nurse Smith"))
DETAILS = Details("Please arrive early", "Outpatients Level 2", "https://manage.partner.example/a/123?x=1&y=2")

HEAD = b"MSH|^~\\&|PKB-GATEWAY|bradford{bradford}|HL7API|PKB|20260402101507||SIU^%b|c0ffee-0001|P|2.4\r"
PID = b"PID|||9990548609^^^NHS^NH||Test^Ada||19700101\r"
PEOPLE = b"RGS|\rAIP|||^Dr Jones (Consultant)|^Consultant\rAIP|||^Nurse Smith\r"


def cancelled(envelope: Envelope = ENVELOPE, person: Person = ADA, placer_id: str = "APPT000001") -> str:
    return hl7_message.cancel(envelope, person, placer_id)


def moved(details: Details = Details(), times: Times = TIMES, kept: Kept = KEPT) -> str:  # noqa: B008 - a frozen value
    return hl7_message.move(ENVELOPE, ADA, "APPT000001", times, kept, details)


def updated(details: Details = DETAILS, kept: Kept = KEPT) -> str:
    return hl7_message.update(ENVELOPE, ADA, "APPT000001", kept, details)


# Golden bytes.


def test_the_s15_has_three_segments_and_nothing_that_could_create_an_appointment() -> None:
    assert cancelled().encode() == HEAD % b"S15" + PID + b"SCH|APPT000001\r"


def test_the_s13_has_the_new_times_and_repeats_what_pkb_would_lose() -> None:
    golden = HEAD % b"S13" + PID + b"SCH|APPT000001||||||||||^^^202604211100^202604211130\rPV1||O||||||||320\r" + PEOPLE

    assert moved().encode() == golden


def test_the_s14_has_the_new_texts_and_leaves_the_times_alone() -> None:
    golden = (
        HEAD % b"S14"
        + PID
        + b"SCH|APPT000001\rNTE|||Please arrive early\rPV1||O|^^^^^^^^Outpatients Level 2|||||||320\r"
        + PEOPLE
        + b"ZAP|https://manage.partner.example/a/123?x=1\\T\\y=2\r"
    )

    assert updated().encode() == golden


def test_times_and_texts_go_into_one_s13() -> None:
    golden = (
        HEAD % b"S13"
        + PID
        + b"SCH|APPT000001||||||||||^^^202604211100^202604211130\r"
        + b"NTE|||Please arrive early\rPV1||O|^^^^^^^^Outpatients Level 2|||||||320\r"
        + PEOPLE
        + b"ZAP|https://manage.partner.example/a/123?x=1\\T\\y=2\r"
    )

    assert moved(DETAILS).encode() == golden


def test_an_update_of_an_appointment_that_has_nothing_more_is_as_short_as_pkbs_own_sample() -> None:
    message = updated(Details(management_url="https://manage.partner.example/a/123"), Kept())

    assert message.encode() == HEAD % b"S14" + PID + b"SCH|APPT000001\rZAP|https://manage.partner.example/a/123\r"


@pytest.mark.parametrize(
    ("times", "field"),
    [(replace(TIMES, end=None), "^^^202604211100"), (replace(TIMES, start=None), "^^^^202604211130")],
    ids=["start", "end"],
)
def test_a_time_that_is_not_given_is_left_blank_which_pkb_ignores(times: Times, field: str) -> None:
    assert f"SCH|APPT000001||||||||||{field}\r" in moved(times=times)


@pytest.mark.parametrize(
    ("person", "segment"),
    [
        (replace(ADA, given=None), "PID|||9990548609^^^NHS^NH||Test||19700101\r"),
        (replace(ADA, family=None), "PID|||9990548609^^^NHS^NH||^Ada||19700101\r"),
        (replace(ADA, family=None, given=None), "PID|||9990548609^^^NHS^NH||||19700101\r"),
        (replace(ADA, birth_date=None), "PID|||9990548609^^^NHS^NH||Test^Ada\r"),
    ],
    ids=["no-given-name", "no-family-name", "no-name", "no-birth-date"],
)
def test_what_is_not_known_of_the_patient_is_left_out(person: Person, segment: str) -> None:
    assert segment in cancelled(person=person)


# Times.


@pytest.mark.parametrize(
    ("at", "zone", "local"),
    [
        ("2026-03-29T00:30:00Z", "Europe/London", "202603290030"),
        ("2026-03-29T01:30:00Z", "Europe/London", "202603290230"),
        ("2026-10-24T23:30:00Z", "Europe/London", "202610250030"),
        ("2026-10-25T02:30:00Z", "Europe/London", "202610250230"),
        ("2026-07-01T09:00:00+05:00", "Europe/London", "202607010500"),
        ("2026-07-01T22:30:00Z", "Europe/Berlin", "202607020030"),
    ],
)
def test_times_are_local_to_the_customer(at: str, zone: str, local: str) -> None:
    envelope = replace(ENVELOPE, zone=ZoneInfo(zone))
    times = Times(datetime.fromisoformat(at))

    assert f"^^^{local}\r" in hl7_message.move(envelope, ADA, "A1", times, Kept())


@pytest.mark.parametrize(
    "at",
    ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-07-01T09:00:01Z", "2026-07-01T09:00:00.5Z"],
    ids=["first-of-two", "second-of-two", "seconds", "half-a-second"],
)
def test_a_time_that_local_minutes_cannot_tell_has_no_message(at: str) -> None:
    with pytest.raises(NotSayable):
        moved(times=Times(datetime.fromisoformat(at)))


def test_the_time_of_the_message_is_local_too() -> None:
    winter = replace(ENVELOPE, at=datetime(2026, 1, 2, 9, 15, 7, tzinfo=UTC))

    assert "|20260102091507||SIU^S15|" in cancelled(winter)


# As an independent library reads them.


def parsed(message: str) -> hl7.Message:
    return hl7.parse(message)


def names(message: hl7.Message) -> list[str]:
    return [str(segment[0]) for segment in message]


def test_the_s13_field_by_field() -> None:
    message = parsed(moved(DETAILS))

    assert names(message) == ["MSH", "PID", "SCH", "NTE", "PV1", "RGS", "AIP", "AIP", "ZAP"]
    told = {
        "MSH.4": "bradford{bradford}",
        "MSH.7": "20260402101507",
        "MSH.9.1.1": "SIU",
        "MSH.9.1.2": "S13",
        "MSH.10": "c0ffee-0001",
        "MSH.11": "P",
        "PID.3.1.1": "9990548609",
        "PID.3.1.4": "NHS",
        "PID.3.1.5": "NH",
        "PID.5.1.1": "Test",
        "PID.5.1.2": "Ada",
        "PID.7": "19700101",
        "SCH.1": "APPT000001",
        "SCH.11.1.4": "202604211100",
        "SCH.11.1.5": "202604211130",
        "NTE.3": "Please arrive early",
        "PV1.2": "O",
        "PV1.3.1.9": "Outpatients Level 2",
        "PV1.10": "320",
        "ZAP.1": "https://manage.partner.example/a/123?x=1&y=2",
    }
    assert {key: message[key] for key in told} == told
    people = [[message.unescape(str(aip(n)(1)(2))) if len(aip) > n else None for n in (3, 4)] for aip in message["AIP"]]
    assert people == [["Dr Jones (Consultant)", "Consultant"], ["Nurse Smith", None]]


def test_the_s15_field_by_field() -> None:
    message = parsed(cancelled())

    assert names(message) == ["MSH", "PID", "SCH"]
    assert message["MSH.9.1.2"] == "S15"
    assert message["SCH.1"] == "APPT000001"
    assert len(message["SCH"][0]) == 2


# Texts.

texts = st.text(min_size=1).map(lambda text: f"x{text}") | st.text("|^~\\&{}<>]\r\nFSTRE.PV1x ", min_size=1)
plain: st.SearchStrategy[str] = texts.filter(lambda text: is_sayable(text))  # noqa: PLW0108 - a type guard otherwise


def shape(message: str) -> list[list[list[list[int]]]]:
    """How many segments, fields, repetitions, components and subcomponents there are."""
    return [
        [
            [[component.count("&") + 1 for component in repetition.split("^")] for repetition in field.split("~")]
            for field in segment.split("|")
        ]
        for segment in message.splitlines()
    ]


WRITERS: dict[str, Callable[[str], str]] = {
    "comment": lambda text: updated(Details(comment=text)),
    "location": lambda text: updated(Details(location=text)),
    "management-url": lambda text: updated(Details(management_url=text)),
    "placer-id": lambda text: cancelled(placer_id=text),
    "encounter-class": lambda text: moved(kept=Kept(text, "320")),
    "specialty": lambda text: moved(kept=Kept("O", text)),
    "family-name": lambda text: cancelled(person=replace(ADA, family=text)),
    "given-name": lambda text: cancelled(person=replace(ADA, given=text)),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
@settings(max_examples=40)
@given(text=plain)
def test_no_text_creates_a_segment_a_field_or_a_part_of_one(write: Callable[[str], str], text: str) -> None:
    assert shape(write(text)) == shape(write("x"))


@given(text=plain)
def test_no_participant_creates_more_than_itself_and_its_role(text: str) -> None:
    message = moved(kept=Kept(participants=(text, "Dr Jones")))

    last = shape(message)[-2]
    assert len(shape(message)) == 6
    assert last in ([[[1]], [[1]], [[1]], [[1, 1]]], [[[1]], [[1]], [[1]], [[1, 1]], [[1, 1]]])


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
@settings(max_examples=40)
@given(text=texts)
def test_a_text_is_written_on_one_line_or_not_at_all(write: Callable[[str], str], text: str) -> None:
    try:
        message = write(text)
    except NotSayable:
        return
    assert message.isprintable() is False
    assert "\n" not in message
    assert [segment[:3] for segment in message.split("\r")] == [segment[:3] for segment in write("x").split("\r")]


@given(text=plain)
def test_a_text_reads_back_as_it_was(text: str) -> None:
    def field(name: str, number: int) -> str:
        segment = next(held for held in message.split("\r") if held.startswith(name))
        return unescaped(segment.split("|")[number])

    message = updated(Details(comment=text))

    assert field("NTE", 3) == text


def unescaped(text: str) -> str:
    parts = text.split("\\")
    signs = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\"}
    return "".join(signs[part] if index % 2 else part for index, part in enumerate(parts))


@pytest.mark.parametrize("sign", ["\r", "\n", "\0", "\x1c", "\x85", "\u2029", "\ud800", "\uffff"])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_a_line_break_has_no_message(write: Callable[[str], str], sign: str) -> None:
    with pytest.raises(NotSayable):
        write(f"a{sign}PV1|")


@pytest.mark.parametrize("text", ["", " ", '""'], ids=["empty", "blank", "null"])
@pytest.mark.parametrize("name", ["comment", "location", "management-url", "placer-id", "specialty"])
def test_a_blank_that_pkb_would_read_as_leave_or_delete_has_no_message(name: str, text: str) -> None:
    with pytest.raises(NotSayable):
        WRITERS[name](text)


# Roles.


@pytest.mark.parametrize(
    ("display", "segment"),
    [
        ("Dr Jones (Consultant)", "AIP|||^Dr Jones (Consultant)|^Consultant"),
        ("Dr Jones (A) (B)", "AIP|||^Dr Jones (A) (B)|^B"),
        ("Dr Jones (Head & Neck)", "AIP|||^Dr Jones (Head \\T\\ Neck)|^Head \\T\\ Neck"),
        ("Dr Jones", "AIP|||^Dr Jones"),
        ("Dr Jones ()", "AIP|||^Dr Jones ()"),
        ("Dr Jones ( )", "AIP|||^Dr Jones ( )"),
        ("Dr Jones (A) B", "AIP|||^Dr Jones (A) B"),
        ("Dr Jones (A))", "AIP|||^Dr Jones (A))"),
        ("Dr Jones A)", "AIP|||^Dr Jones A)"),
    ],
)
def test_the_role_is_repeated_where_a_display_ends_with_it(display: str, segment: str) -> None:
    assert moved(kept=Kept(participants=(display,))).endswith(f"RGS|\r{segment}\r")


# What must not be said.


@pytest.mark.parametrize(
    "broken",
    [
        {"alias": "a}|b"},
        {"alias": "{a"},
        {"alias": ""},
        {"alias": "a b"},
        {"alias": "a" * 65},
        {"control_id": ""},
        {"control_id": "a|b"},
        {"control_id": "a\r"},
        {"control_id": "a" * 37},
        {"processing_id": "X"},
        {"processing_id": ""},
    ],
    ids=str,
)
def test_an_envelope_that_could_mislead_pkb_has_no_message(broken: dict[str, Any]) -> None:
    with pytest.raises(NotSayable):
        cancelled(replace(ENVELOPE, **broken))


@pytest.mark.parametrize("number", ["", "999054860", "99905486090", "999-054-86", "9990548609^^^PKB^PI"])
def test_a_patient_without_an_nhs_number_has_no_message(number: str) -> None:
    with pytest.raises(NotSayable):
        cancelled(person=replace(ADA, nhs_number=number))


def test_a_message_that_says_nothing_is_not_written_for_it_would_still_revive_an_appointment() -> None:
    with pytest.raises(NotSayable):
        updated(Details())
    with pytest.raises(NotSayable):
        moved(times=Times())


def test_a_reason_why_not_repeats_nothing_of_the_text() -> None:
    with pytest.raises(NotSayable) as caught:
        updated(Details(comment="secret\r"))

    assert "secret" not in str(caught.value)


def test_there_are_three_writers_and_none_writes_an_s12() -> None:
    written = {cancelled(), moved(), moved(DETAILS), updated()}

    assert {message.split("|")[8] for message in written} == {"SIU^S13", "SIU^S14", "SIU^S15"}
    public = {name for name, each in vars(hl7_message).items() if callable(each) and not name.startswith("_")}
    ours = {name for name in public if getattr(hl7_message, name).__module__ == hl7_message.__name__}
    assert {name for name in ours if name.islower()} == {"cancel", "move", "update"}
