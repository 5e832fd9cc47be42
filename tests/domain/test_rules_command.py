"""Whether a change or a cancel says what the customer allows: both sides of every boundary."""

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.domain.appointment import (
    CANCEL_REASON_SYSTEM,
    Change,
    Patient,
    Read,
    Write,
)
from gateway.domain.codes import Code
from gateway.domain.decision import Decision, Permit, Refusal
from gateway.domain.grant import Coding, Field
from gateway.domain.hl7_limits import Unsayable
from gateway.domain.rules import Claimant, decide
from tests.domain.verdicts import END, NOTICE, START, Changes, ruling, verdict, zone
from tests.makers import (
    BORN,
    DAY,
    HOUR,
    NOW,
    SECOND,
    TICK,
    by_hl7,
    cancel,
    grant,
    instant,
    move,
    policy,
)

EVERY = frozenset(Field)


@pytest.mark.parametrize(
    ("change", "terms", "code", "failed", "detail"),
    [
        pytest.param(
            Change(management_url="https://x.example"),
            {"change_fields": EVERY},
            Code.NOT_SUPPORTED_ON_ROUTE,
            ("supported-on-route",),
            "Not possible on this route: managementUrl.",
            id="management page on FHIR",
        ),
        pytest.param(
            Change(management_url="https://x.example", comment="Hello"),
            {},
            Code.NOT_SUPPORTED_ON_ROUTE,
            ("supported-on-route", "fields-granted"),
            "Not possible on this route: managementUrl.",
            id="management page on FHIR, not granted either",
        ),
        pytest.param(
            Change(end=instant(END + DAY), comment="Hello"),
            {"change_fields": frozenset({Field.END})},
            Code.FIELD_NOT_CHANGEABLE,
            ("fields-granted",),
            "Not granted: comment.",
            id="one field of two granted",
        ),
        pytest.param(
            Change(end=instant(END + HOUR), location="Ward 7", comment="Hello"),
            {"change_fields": frozenset()},
            Code.FIELD_NOT_CHANGEABLE,
            ("fields-granted",),
            "Not granted: comment, end, location.",
            id="no field granted",
        ),
        pytest.param(
            Change(comment="Hello"), {"change_fields": frozenset({Field.COMMENT})}, None, (), "", id="the field alone"
        ),
    ],
)
def test_fields_are_supported_and_granted(
    change: Change, terms: Changes, code: Code | None, failed: tuple[str, ...], detail: str
) -> None:
    decision = verdict(change, {}, terms)

    assert ruling(decision) == (code, failed)
    assert not isinstance(decision, Refusal) or decision.detail == detail


def at_bradford(command: Write, **facts: Any) -> Decision:
    theirs = policy(grant(customer="bradford", change_fields=EVERY))
    return decide(Claimant("swiftbook", "bradford"), command, by_hl7(**facts), theirs, NOW)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(Change(management_url="https://x.example"), id="management page"),
        pytest.param(move(START + DAY), id="a time to the minute"),
        pytest.param(Change(comment="Hello"), id="comment"),
        pytest.param(cancel(), id="cancel"),
    ],
)
def test_hl7_carries(command: Write) -> None:
    assert isinstance(at_bradford(command), Permit)


REPEATED = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("command", "facts", "why"),
    [
        pytest.param(cancel(comment="Away"), {}, Unsayable.CANCEL_COMMENT, id="comment on a cancel"),
        pytest.param(Change(start=instant(START + SECOND)), {}, Unsayable.SECONDS, id="seconds in a start"),
        pytest.param(Change(end=instant(END + TICK)), {}, Unsayable.SECONDS, id="part of a second in an end"),
        pytest.param(move(REPEATED), {}, Unsayable.REPEATED_HOUR, id="the repeated hour"),
        pytest.param(Change(comment=" "), {}, Unsayable.BLANK, id="a blank comment"),
        pytest.param(Change(location="Ward\r7"), {}, Unsayable.LINE_BREAK, id="a line break"),
        pytest.param(
            Change(comment="Hello"), {"participants": ("Dr. Bell", None)}, Unsayable.NAMELESS_PARTICIPANT, id="nameless"
        ),
        pytest.param(cancel(), {"placer_id": None}, Unsayable.NO_PLACER_ID, id="no placer id"),
        pytest.param(
            Change(comment="Hello"),
            {"patient": Patient("Patient/p-1", None, BORN)},
            Unsayable.NO_NHS_NUMBER,
            id="no NHS number",
        ),
    ],
)
def test_what_no_message_can_say_is_not_supported_and_says_why(command: Write, facts: Changes, why: Unsayable) -> None:
    decision = at_bradford(command, **facts)

    assert ruling(decision) == (Code.NOT_SUPPORTED_ON_ROUTE, ("supported-on-route",))
    assert isinstance(decision, Refusal)
    assert decision.detail == why.value


def test_what_no_message_can_say_may_be_read() -> None:
    theirs = policy(grant(customer="bradford"))
    nameless = by_hl7(placer_id=None, participants=(None,))

    assert isinstance(decide(Claimant("swiftbook", "bradford"), Read(), nameless, theirs, NOW), Permit)


def test_the_limits_of_messages_do_not_bind_other_routes() -> None:
    assert isinstance(verdict(cancel(comment="Away"), {"participants": (None,)}), Permit)
    assert isinstance(verdict(move(REPEATED + SECOND)), Permit)


@pytest.mark.parametrize(
    ("locations", "code"),
    [
        pytest.param((), None, id="none"),
        pytest.param(("Ward 1",), None, id="one"),
        pytest.param((None,), None, id="one without a name"),
        pytest.param(("Ward 1", "Ward 2"), Code.FIELD_NOT_CHANGEABLE, id="two"),
    ],
)
def test_a_location_changes_where_there_is_no_choice_of_them(
    locations: tuple[str | None, ...], code: Code | None
) -> None:
    decision = verdict(Change(location="Ward 7"), {"locations": locations})

    assert ruling(decision) == (code, ("one-location",) if code else ())
    if isinstance(decision, Refusal):
        assert decision.detail == "The appointment has several locations, so location cannot be changed."
    assert isinstance(verdict(Change(comment="Hello"), {"locations": locations}), Permit)


@pytest.mark.parametrize(
    ("codings", "allowed", "permitted"),
    [
        pytest.param([("", "pat")], None, True, id="any of the system"),
        pytest.param([("", "oth-weath")], None, True, id="the last of the system"),
        pytest.param([("", "Pat")], None, False, id="other letters"),
        pytest.param([("", "no-such-reason")], None, False, id="none of the system"),
        pytest.param([("", "pat")], {"pat", "prov"}, True, id="one of the list"),
        pytest.param([("", "pat-crs")], {"pat", "prov"}, False, id="a child of one of the list"),
        pytest.param([("", "pat")], set(), False, id="an empty list"),
        pytest.param([], None, False, id="text only"),
        pytest.param([("", "pat"), ("", "prov")], {"pat", "prov"}, False, id="two"),
        pytest.param([("urn:local", "pat")], None, False, id="another system"),
    ],
)
def test_a_reason_is_one_the_customer_allows(
    codings: list[tuple[str, str]], allowed: set[str] | None, permitted: bool
) -> None:
    command = cancel(codings=tuple(Coding(system or CANCEL_REASON_SYSTEM, code) for system, code in codings))
    terms = {"cancel_reasons": None if allowed is None else frozenset(allowed)}

    decision = verdict(command, {}, terms)

    assert ruling(decision) == ((None, ()) if permitted else (Code.REASON_NOT_ALLOWED, ("reason-allowed",)))
    assert not isinstance(decision, Refusal) or decision.detail == ""


@pytest.mark.parametrize(
    ("change", "facts", "permitted"),
    [
        pytest.param(Change(), {}, False, id="nothing given"),
        pytest.param(Change(start=instant(START)), {}, False, id="the same start"),
        pytest.param(
            Change(start=instant(START.astimezone(zone(1)))), {}, False, id="the same start in another offset"
        ),
        pytest.param(Change(start=instant(START + TICK)), {}, True, id="another start"),
        pytest.param(Change(end=instant(END)), {}, False, id="the same end"),
        pytest.param(Change(end=instant(END + TICK)), {}, True, id="another end"),
        pytest.param(Change(end=instant(END)), {"end": None}, True, id="the first end"),
        pytest.param(Change(comment="Hello"), {"comment": "Hello"}, False, id="the same comment"),
        pytest.param(Change(comment="Hello"), {"comment": "hello"}, True, id="another comment"),
        pytest.param(Change(comment=""), {}, True, id="an empty comment is one"),
        pytest.param(Change(location="Ward 1"), {"locations": ("Ward 1",)}, False, id="the same location"),
        pytest.param(Change(location="Ward 1"), {"locations": (None,)}, True, id="a name for the location"),
        pytest.param(Change(location="Ward 1"), {}, True, id="the first location"),
        pytest.param(Change(instant(START), instant(END), "Hello"), {}, True, id="one of three differs"),
        pytest.param(
            Change(instant(START), instant(END), "Hello"), {"comment": "Hello"}, False, id="none of three differs"
        ),
    ],
)
def test_a_change_changes_something(change: Change, facts: Changes, permitted: bool) -> None:
    assert ruling(verdict(change, facts)) == (
        (None, ()) if permitted else (Code.NOTHING_TO_CHANGE, ("something-changes",))
    )


def test_a_management_page_cannot_be_read_so_it_always_changes_something() -> None:
    failed = ruling(verdict(Change(management_url="https://x.example")))[1]

    assert "something-changes" not in failed


@pytest.mark.parametrize(
    ("change", "facts", "permitted"),
    [
        pytest.param(Change(instant(START), instant(START + TICK)), {}, True, id="both, just after"),
        pytest.param(Change(instant(START), instant(START)), {}, False, id="both, the same"),
        pytest.param(Change(instant(START), instant(START - TICK)), {}, False, id="both, before"),
        pytest.param(Change(end=instant(START)), {}, False, id="the end at PKB's start"),
        pytest.param(Change(end=instant(START + TICK)), {}, True, id="the end just after PKB's start"),
        pytest.param(Change(start=instant(END)), {}, False, id="the start at PKB's end"),
        pytest.param(Change(start=instant(END - TICK)), {}, True, id="the start just before PKB's end"),
        pytest.param(Change(start=instant(END)), {"end": None}, True, id="the start, PKB has no end"),
        pytest.param(
            Change(comment="Hello"), {"end": START - HOUR}, True, id="a comment on what PKB has the wrong way round"
        ),
    ],
)
def test_an_appointment_ends_after_it_starts(change: Change, facts: Changes, permitted: bool) -> None:
    assert ruling(verdict(change, facts)) == (
        (None, ()) if permitted else (Code.END_BEFORE_START, ("ends-after-start",))
    )


def test_without_any_start_an_end_says_nothing_of_the_order() -> None:
    assert "ends-after-start" not in ruling(verdict(Change(end=instant(END)), {"start": None}))[1]


@pytest.mark.parametrize(
    ("new", "terms", "code", "failed"),
    [
        pytest.param(
            NOW - TICK,
            {},
            Code.NEW_TIME_IN_THE_PAST,
            ("new-start-in-the-future", "new-start-in-the-window"),
            id="just past",
        ),
        pytest.param(
            NOW, {"notice": 0 * DAY}, Code.NEW_TIME_IN_THE_PAST, ("new-start-in-the-future",), id="exactly now"
        ),
        pytest.param(NOW + TICK, {"notice": 0 * DAY}, None, (), id="just in the future"),
        pytest.param(
            NOW + NOTICE - TICK,
            {},
            Code.OUTSIDE_CHANGE_WINDOW,
            ("new-start-in-the-window",),
            id="just inside the notice",
        ),
        pytest.param(NOW + NOTICE, {}, None, (), id="exactly at the notice"),
        pytest.param(
            START + DAY + TICK,
            {"within": DAY},
            Code.OUTSIDE_CHANGE_WINDOW,
            ("new-start-in-the-window",),
            id="just too far ahead",
        ),
        pytest.param(START + DAY, {"within": DAY}, None, (), id="exactly as far ahead as allowed"),
        pytest.param(START - DAY, {"within": DAY}, None, (), id="exactly as far back as allowed"),
        pytest.param(
            START - DAY - TICK,
            {"within": DAY},
            Code.OUTSIDE_CHANGE_WINDOW,
            ("new-start-in-the-window",),
            id="just too far back",
        ),
        pytest.param(
            START + TICK,
            {"within": 0 * DAY},
            Code.OUTSIDE_CHANGE_WINDOW,
            ("new-start-in-the-window",),
            id="no move allowed",
        ),
        pytest.param(NOW + 3650 * DAY, {}, None, (), id="ten years ahead without a limit"),
    ],
)
def test_a_new_start_lies_in_the_window(
    new: datetime, terms: Changes, code: Code | None, failed: tuple[str, ...]
) -> None:
    assert ruling(verdict(move(new), {}, terms)) == (code, failed)


@pytest.mark.parametrize("change", [Change(end=instant(END + DAY)), Change(comment="Hello")], ids=["end", "comment"])
def test_the_window_is_about_a_new_start_only(change: Change) -> None:
    assert isinstance(verdict(change, {}, {"within": 0 * DAY}), Permit)
