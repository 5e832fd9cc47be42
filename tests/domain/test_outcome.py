"""What is known of a write after PKB was asked to do it."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.domain.appointment import Cancel, Change, Status, Write
from gateway.domain.codes import Code
from gateway.domain.outcome import (
    Accepted,
    Applied,
    Outcome,
    Rejected,
    TaskStatus,
    Unknown,
    can_be_seen,
    collateral,
    is_final,
    read_back,
    repeatable,
    shows,
    task_status,
    word,
)
from tests.makers import CARDIOLOGY, DAY, HOUR, NOW, PATIENT_CANCELS, SECOND, TICK, appointment, cancel, instant, move

BEFORE = appointment()
SETTLED_AT = NOW + 30 * SECOND
LATER = NOW + 40 * DAY
MOVE = move(LATER)
MOVED: dict[str, Any] = {"start": LATER, "end": LATER + HOUR / 2}
GONE: dict[str, Any] = {"status": Status.CANCELLED, "cancel_reason": "pat"}


@pytest.mark.parametrize("code", Code)
def test_only_a_write_that_was_not_attempted_is_carried_out_when_it_is_repeated(code: Code) -> None:
    assert repeatable(Rejected(code)) is (code in {Code.UPSTREAM_UNAVAILABLE, Code.STATE_UNAVAILABLE})
    others: tuple[Outcome, ...] = (Applied("7"), Accepted(), Accepted(final=True), Unknown())
    assert not any(repeatable(outcome) for outcome in others)


@pytest.mark.parametrize(
    ("command", "changes", "now", "expected"),
    [
        pytest.param(cancel(), {}, SETTLED_AT - TICK, Unknown(), id="unchanged, before it has settled"),
        pytest.param(
            cancel(), {}, SETTLED_AT, Rejected(Code.UPSTREAM_REFUSED), id="unchanged, exactly when it has settled"
        ),
        pytest.param(cancel(), {}, SETTLED_AT + DAY, Rejected(Code.UPSTREAM_REFUSED), id="unchanged, long after"),
        pytest.param(cancel(), GONE, NOW, Unknown(), id="our values under the old version, before it has settled"),
        pytest.param(cancel(), GONE | {"version": "8"}, NOW, Applied("8"), id="cancelled as we said"),
        pytest.param(cancel(), GONE | {"version": "10"}, NOW, Applied("10"), id="a version is a number, not a text"),
        pytest.param(MOVE, MOVED | {"version": "8"}, NOW, Applied("8"), id="moved as we said"),
        pytest.param(cancel(), {"version": "8"}, NOW, Unknown(), id="a later version, still booked"),
        pytest.param(cancel(), {"version": "8"}, SETTLED_AT + DAY, Unknown(), id="a later version settles nothing"),
        pytest.param(
            cancel(),
            GONE | {"version": "8", "cancel_reason": "prov"},
            NOW,
            Unknown(),
            id="cancelled for another's reason",
        ),
        pytest.param(
            cancel(), GONE | {"version": "8", "cancel_reason": None}, NOW, Unknown(), id="cancelled without a reason"
        ),
        pytest.param(
            cancel(comment="Away"),
            GONE | {"version": "8", "comment": "Ill"},
            NOW,
            Unknown(),
            id="cancelled, other comment",
        ),
        pytest.param(MOVE, {"version": "8"}, NOW, Unknown(), id="a later version at the old time"),
        pytest.param(
            MOVE,
            {"version": "8", "status": Status.CANCELLED},
            NOW,
            Rejected(Code.VERSION_CONFLICT),
            id="cancelled after it",
        ),
        pytest.param(
            MOVE, MOVED | {"version": "8"} | GONE, NOW, Rejected(Code.VERSION_CONFLICT), id="our values, but cancelled"
        ),
        pytest.param(
            MOVE, {"version": "6", "status": Status.CANCELLED}, NOW, Unknown(), id="cancelled in an earlier version"
        ),
        pytest.param(MOVE, MOVED | {"version": "6"}, SETTLED_AT, Unknown(), id="an earlier version, whatever it shows"),
        pytest.param(MOVE, MOVED | {"version": "07"}, SETTLED_AT, Unknown(), id="the same number written otherwise"),
        pytest.param(
            MOVE, MOVED | {"version": "b"}, NOW, Applied("b"), id="a version that is no number is another one"
        ),
        pytest.param(MOVE, MOVED | {"version": "٩"}, NOW, Applied("٩"), id="foreign digits are no number"),
        pytest.param(MOVE, MOVED | {"version": "٦"}, NOW, Applied("٦"), id="foreign digits cannot be earlier"),
        pytest.param(MOVE, MOVED | {"version": "9" * 5000}, NOW, Applied("9" * 5000), id="a number without end"),
    ],
)
def test_a_read_back_proves(command: Write, changes: dict[str, Any], now: datetime, expected: Outcome) -> None:
    assert read_back(command, BEFORE, appointment(**changes), now, SETTLED_AT) == expected


@pytest.mark.parametrize(
    ("command", "changes", "expected"),
    [
        pytest.param(cancel(), {}, Unknown(), id="unchanged, which never settles"),
        pytest.param(cancel(), GONE | {"version": "8"}, Applied("8"), id="cancelled as we said"),
        pytest.param(MOVE, GONE | {"version": "8"}, Rejected(Code.VERSION_CONFLICT), id="cancelled after our change"),
        pytest.param(MOVE, {"version": "8"}, Unknown(), id="another change, with ours still to come"),
        pytest.param(
            cancel(),
            {"version": "8", "status": Status.CANCELLED, "reason_shown": False},
            Applied("8"),
            id="cancelled, where no read shows a reason",
        ),
        pytest.param(
            cancel(comment="Away"),
            {"version": "8", "status": Status.CANCELLED, "reason_shown": False},
            Unknown(),
            id="cancelled without our comment, where no read shows a reason",
        ),
        pytest.param(
            Change(management_url="https://x.example"), {"version": "8"}, Unknown(), id="a page, which no read shows"
        ),
        pytest.param(
            Change(management_url="https://x.example"),
            GONE | {"version": "8"},
            Rejected(Code.VERSION_CONFLICT),
            id="a page of what is cancelled now",
        ),
        pytest.param(
            Change(management_url="https://x.example", comment="Away"),
            {"version": "8", "comment": "Away"},
            Applied("8"),
            id="a page beside a comment that is seen",
        ),
    ],
)
def test_a_read_back_of_what_may_be_held_for_years_proves(
    command: Write, changes: dict[str, Any], expected: Outcome
) -> None:
    assert read_back(command, BEFORE, appointment(**changes), NOW + 3650 * DAY, None) == expected


@pytest.mark.parametrize(
    ("command", "seen"),
    [
        pytest.param(cancel(), True, id="cancel"),
        pytest.param(MOVE, True, id="times"),
        pytest.param(Change(management_url="https://x.example"), False, id="page"),
        pytest.param(Change(management_url="https://x.example", location="Ward 7"), True, id="page and place"),
        pytest.param(Change(), False, id="nothing at all"),
    ],
)
def test_a_command_can_be_seen_unless_it_is_about_the_page_alone(command: Write, seen: bool) -> None:
    assert can_be_seen(command) is seen


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        pytest.param({"comment": "Away", "start": LATER, "status": Status.CANCELLED}, (), id="what may be asked for"),
        pytest.param({"labels": frozenset({"SEXUAL_HEALTH"})}, ("labels",), id="a label"),
        pytest.param({"specialties": frozenset({CARDIOLOGY})}, ("specialties",), id="a specialty"),
        pytest.param({"participants": ("Dr. Bell",)}, ("participants",), id="a participant"),
        pytest.param(
            {"labels": frozenset({"SEXUAL_HEALTH"}), "participants": (None,), "specialties": frozenset({CARDIOLOGY})},
            ("labels", "specialties", "participants"),
            id="everything",
        ),
    ],
)
def test_collateral_is_what_nobody_asked_to_change(changes: dict[str, Any], names: tuple[str, ...]) -> None:
    assert collateral(BEFORE, appointment(**changes)) == names


def test_a_change_of_the_order_of_participants_is_collateral() -> None:
    before, after = (appointment(participants=names) for names in (("a", "b"), ("b", "a")))

    assert collateral(before, after) == ("participants",)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param("x", "x", Unknown(), id="the same"),
        pytest.param("x", "y", Applied("y"), id="another"),
        pytest.param("x", "8", Applied("8"), id="a number after a name"),
        pytest.param("0", "1", Applied("1"), id="from nought"),
        pytest.param("100", "b", Applied("b"), id="a name after a longer number"),
        pytest.param("100", "٦", Applied("٦"), id="foreign digits after a longer number"),
        pytest.param("99", "100", Applied("100"), id="one more digit"),
        pytest.param("100", "99", Unknown(), id="one digit less"),
    ],
)
def test_versions_that_are_numbers_have_an_order_and_others_have_not(
    before: str, after: str, expected: Outcome
) -> None:
    was, found = appointment(version=before), appointment(version=after, **GONE)

    assert read_back(cancel(), was, found, NOW, SETTLED_AT) == expected


@pytest.mark.parametrize("now", [NOW, SETTLED_AT + timedelta(days=3650)], ids=["at once", "ten years later"])
def test_an_appointment_that_is_gone_proves_nothing(now: datetime) -> None:
    assert read_back(cancel(), BEFORE, None, now, SETTLED_AT) == Unknown()


@pytest.mark.parametrize(
    ("command", "changes", "expected"),
    [
        pytest.param(cancel(comment="Away"), GONE | {"comment": "Away"}, True, id="cancel with its comment"),
        pytest.param(cancel(), GONE | {"comment": "Away"}, True, id="cancel that said no comment"),
        pytest.param(cancel(), GONE | {"status": Status.BOOKED}, False, id="a reason, but still booked"),
        pytest.param(cancel(comment="Away"), GONE, False, id="cancel without its comment"),
        pytest.param(Cancel((PATIENT_CANCELS, PATIENT_CANCELS)), GONE, False, id="cancel with two reasons"),
        pytest.param(Cancel(()), GONE | {"cancel_reason": None}, False, id="cancel without reason shows in nothing"),
        pytest.param(Change(instant(LATER)), {"start": LATER}, True, id="start"),
        pytest.param(Change(instant(LATER)), {}, False, id="not the start"),
        pytest.param(Change(instant(LATER)), {"start": LATER, "comment": "Away"}, True, id="start, comment left alone"),
        pytest.param(Change(end=instant(LATER)), {"end": LATER}, True, id="end"),
        pytest.param(Change(end=instant(LATER)), {}, False, id="not the end"),
        pytest.param(Change(comment="Away"), {"comment": "Away"}, True, id="comment"),
        pytest.param(Change(comment="Away"), {"comment": None}, False, id="not the comment"),
        pytest.param(Change(location="Side door"), {"locations": ("Side door",)}, True, id="location"),
        pytest.param(Change(location="Side door"), {"locations": ()}, False, id="not the location"),
        pytest.param(
            Change(location="Side door"), {"locations": ("Side door", "Ward")}, False, id="one location of two"
        ),
        pytest.param(MOVE, MOVED | {"start": LATER + TICK}, False, id="end but not start"),
        pytest.param(MOVE, MOVED | {"status": Status.FULFILLED}, True, id="moved and over"),
        pytest.param(MOVE, MOVED | GONE, False, id="moved and cancelled"),
    ],
)
def test_an_appointment_shows_a_command_when_it_has_every_value(
    command: Write, changes: dict[str, Any], expected: bool
) -> None:
    assert shows(command, appointment(**changes)) is expected


@pytest.mark.parametrize(
    ("outcome", "closed", "name", "final", "status"),
    [
        pytest.param(Applied("8"), False, "applied", True, TaskStatus.COMPLETED, id="applied"),
        pytest.param(Applied("8"), True, "applied", True, TaskStatus.COMPLETED, id="applied, closed"),
        pytest.param(Accepted(), False, "accepted", False, TaskStatus.ACCEPTED, id="accepted, to be seen"),
        pytest.param(
            Accepted(final=True), False, "accepted", True, TaskStatus.COMPLETED, id="accepted, never to be seen"
        ),
        pytest.param(Rejected(Code.NOT_FOUND), False, "rejected", True, TaskStatus.REJECTED, id="rejected"),
        pytest.param(Unknown(), False, "unknown", False, TaskStatus.IN_PROGRESS, id="unknown"),
        pytest.param(Unknown(), True, "unknown", False, TaskStatus.FAILED, id="unknown, closed"),
    ],
)
def test_every_outcome_has_a_word_an_end_and_a_task_status(
    outcome: Outcome, closed: bool, name: str, final: bool, status: TaskStatus
) -> None:
    assert word(outcome) == name
    assert is_final(outcome) is final
    assert task_status(outcome, closed=closed) is status


def test_an_outcome_is_open_until_somebody_closes_it() -> None:
    assert task_status(Unknown()) is TaskStatus.IN_PROGRESS


def test_the_words_of_a_task_are_those_of_fhir() -> None:
    assert [status.value for status in TaskStatus] == [
        "requested",
        "in-progress",
        "accepted",
        "completed",
        "rejected",
        "failed",
    ]
