"""Whether an appointment is within a grant's reach, and open to change: both sides of every boundary."""

from datetime import datetime, timedelta

import pytest

from gateway.domain.appointment import (
    CHANGEABLE,
    Change,
    Command,
    Patient,
    PatientClaim,
    Read,
    Status,
)
from gateway.domain.codes import Code
from gateway.domain.decision import PatientMatch, Permit, Refusal
from gateway.domain.grant import Coding, Operation
from gateway.domain.rules import admit, decide, match_patient, weigh
from tests.domain.verdicts import GATE, NOTICE, Changes, asked, ruling, verdict, zone
from tests.makers import (
    BORN,
    CARDIOLOGY,
    DAY,
    DERMATOLOGY,
    GENERAL,
    HOUR,
    NHS_NUMBER,
    NOW,
    SECOND,
    SEXUAL_HEALTH,
    TICK,
    WHO,
    appointment,
    cancel,
    customer,
    grant,
    owned_by,
    policy,
)


def test_an_appointment_that_does_not_exist_is_not_found() -> None:
    decision = decide(WHO, cancel(), None, policy(), NOW)

    checks = asked(*GATE, "appointment-exists", failed=("appointment-exists",))
    assert decision == Refusal(Code.NOT_FOUND, checks, grant())


def test_a_customer_that_left_the_file_meanwhile_has_no_grant() -> None:
    admitted = admit(WHO, frozenset(Operation), policy(), NOW)
    assert isinstance(admitted, Permit)

    decision = weigh(admitted, WHO, cancel(), appointment(), policy(customers=[customer("york")]), NOW)

    assert ruling(decision) == (Code.NO_GRANT, ("customer-known",))


BOTH = frozenset({CARDIOLOGY, DERMATOLOGY})


@pytest.mark.parametrize("command", [Read(), cancel(), Change(comment="Hello")], ids=["read", "cancel", "change"])
@pytest.mark.parametrize(
    ("facts", "terms", "failed"),
    [
        pytest.param({"provenance": owned_by("Organization/wharfedale")}, {}, "owned-by-customer", id="another's"),
        pytest.param({"provenance": owned_by(None)}, {}, "owned-by-customer", id="nobody's"),
        pytest.param({"labels": frozenset()}, {}, None, id="no label"),
        pytest.param(
            {"labels": frozenset()},
            {"privacy_labels": frozenset({SEXUAL_HEALTH})},
            "labels-granted",
            id="no label, not general",
        ),
        pytest.param({"labels": frozenset({SEXUAL_HEALTH})}, {}, "labels-granted", id="a label beyond the grant's"),
        pytest.param({"labels": GENERAL | {SEXUAL_HEALTH}}, {}, "labels-granted", id="one label of two granted"),
        pytest.param({"labels": frozenset({"NEW"})}, {}, "labels-granted", id="an unknown label"),
        pytest.param(
            {"labels": GENERAL | {SEXUAL_HEALTH}},
            {"privacy_labels": GENERAL | {SEXUAL_HEALTH}},
            None,
            id="both labels granted",
        ),
        pytest.param(
            {"labels": frozenset({"MENTAL_HEALTH"})},
            {"privacy_labels": frozenset({"MENTAL_HEALTH"})},
            "labels-granted",
            id="a label the customer itself may not see",
        ),
        pytest.param({"labels": GENERAL}, {"privacy_labels": frozenset()}, "labels-granted", id="no label granted"),
        pytest.param({}, {"specialties": frozenset({CARDIOLOGY})}, "specialty-granted", id="no specialty, one wanted"),
        pytest.param({}, {"specialties": frozenset()}, "specialty-granted", id="none of no specialty"),
        pytest.param({"specialties": BOTH}, {"specialties": frozenset({CARDIOLOGY})}, None, id="one specialty of two"),
        pytest.param({"specialties": BOTH}, {"specialties": None}, None, id="every specialty"),
        pytest.param(
            {"specialties": frozenset({DERMATOLOGY})},
            {"specialties": frozenset({CARDIOLOGY})},
            "specialty-granted",
            id="another specialty",
        ),
        pytest.param(
            {"specialties": frozenset({Coding("urn:local", CARDIOLOGY.code)})},
            {"specialties": frozenset({CARDIOLOGY})},
            "specialty-granted",
            id="the same code of another system",
        ),
    ],
)
def test_an_appointment_is_within_reach(command: Command, facts: Changes, terms: Changes, failed: str | None) -> None:
    code = Code.NOT_FOUND if failed else None

    assert ruling(verdict(command, facts, terms)) == (code, (failed,) if failed else ())


KNOWN = Patient("Patient/p-1", NHS_NUMBER, BORN)


@pytest.mark.parametrize(
    ("claim", "patient", "expected"),
    [
        pytest.param(PatientClaim(), KNOWN, PatientMatch.ABSENT, id="nothing said"),
        pytest.param(PatientClaim(), None, PatientMatch.ABSENT, id="nothing said, nothing known"),
        pytest.param(PatientClaim(NHS_NUMBER, BORN), KNOWN, PatientMatch.MATCH, id="both right"),
        pytest.param(PatientClaim(NHS_NUMBER), KNOWN, PatientMatch.MATCH, id="number right"),
        pytest.param(PatientClaim(None, BORN), KNOWN, PatientMatch.MATCH, id="birth date right"),
        pytest.param(PatientClaim("9990000026", BORN), KNOWN, PatientMatch.MISMATCH, id="number wrong"),
        pytest.param(PatientClaim(NHS_NUMBER, BORN + DAY), KNOWN, PatientMatch.MISMATCH, id="birth date wrong"),
        pytest.param(PatientClaim("", BORN), KNOWN, PatientMatch.MISMATCH, id="number empty"),
        pytest.param(
            PatientClaim(NHS_NUMBER), Patient("Patient/p-1", None, BORN), PatientMatch.MISMATCH, id="PKB has no number"
        ),
        pytest.param(
            PatientClaim(None, BORN),
            Patient("Patient/p-1", NHS_NUMBER),
            PatientMatch.MISMATCH,
            id="PKB has no birth date",
        ),
        pytest.param(PatientClaim(NHS_NUMBER, BORN), None, PatientMatch.MISMATCH, id="PKB has no patient"),
    ],
)
def test_what_the_partner_says_of_the_patient_is_held_against_pkb(
    claim: PatientClaim, patient: Patient | None, expected: PatientMatch
) -> None:
    decision = verdict(cancel(claim=claim), {"patient": patient})

    assert match_patient(claim, patient) is expected
    assert decision.facts is not None
    assert decision.facts.patient is expected
    if expected is PatientMatch.MISMATCH:
        assert isinstance(decision, Refusal)
        assert (decision.code, decision.audit_code) == (Code.NOT_FOUND, "patient-mismatch")
    else:
        assert isinstance(decision, Permit)


@pytest.mark.parametrize(
    ("version", "code"),
    [
        (None, None),
        ("7", None),
        ("6", Code.VERSION_CONFLICT),
        ("8", Code.VERSION_CONFLICT),
        ("07", Code.VERSION_CONFLICT),
        ("", Code.VERSION_CONFLICT),
    ],
    ids=["none", "the same", "an earlier one", "a later one", "written otherwise", "an empty one"],
)
def test_an_expected_version_is_the_one_read(version: str | None, code: Code | None) -> None:
    assert ruling(verdict(cancel(), version=version)) == (code, ("version-expected",) if code else ())


@pytest.mark.parametrize("command", [cancel(), Change(comment="Hello")], ids=["cancel", "change"])
@pytest.mark.parametrize("status", list(Status), ids=str)
def test_only_some_statuses_can_be_changed(command: Command, status: Status) -> None:
    code, failed = ruling(verdict(command, {"status": status}))

    if status is Status.CANCELLED:
        assert (code, failed) == (Code.ALREADY_CANCELLED, ("not-cancelled", "status-changeable"))
    elif status in CHANGEABLE:
        assert (code, failed) == (None, ())
    else:
        assert (code, failed) == (Code.NOT_CHANGEABLE, ("status-changeable",))


@pytest.mark.parametrize("status", list(Status), ids=str)
def test_an_appointment_in_any_state_and_at_any_time_can_be_read(status: Status) -> None:
    for start in (None, NOW - DAY, NOW, NOW + SECOND):
        assert isinstance(verdict(Read(), {"status": status, "start": start}, version="6"), Permit)


@pytest.mark.parametrize("command", [cancel(), Change(comment="Hello")], ids=["cancel", "change"])
@pytest.mark.parametrize(
    ("start", "notice", "code", "failed"),
    [
        pytest.param(None, NOTICE, Code.NOT_CHANGEABLE, ("start-known", "notice-kept"), id="no start"),
        pytest.param(None, 0 * DAY, Code.NOT_CHANGEABLE, ("start-known",), id="no start, no notice"),
        pytest.param(NOW - DAY, NOTICE, Code.IN_THE_PAST, ("in-the-future", "notice-kept"), id="yesterday"),
        pytest.param(
            NOW - TICK, 0 * DAY, Code.IN_THE_PAST, ("in-the-future", "notice-kept"), id="just begun, no notice"
        ),
        pytest.param(NOW, 0 * DAY, Code.IN_THE_PAST, ("in-the-future",), id="beginning now, no notice"),
        pytest.param(NOW + TICK, 0 * DAY, None, (), id="about to begin, no notice"),
        pytest.param(NOW + TICK, NOTICE, Code.TOO_LATE, ("notice-kept",), id="about to begin"),
        pytest.param(NOW + NOTICE - TICK, NOTICE, Code.TOO_LATE, ("notice-kept",), id="just inside the notice"),
        pytest.param(NOW + NOTICE, NOTICE, None, (), id="exactly at the notice"),
        pytest.param(NOW + NOTICE + TICK, NOTICE, None, (), id="just outside the notice"),
    ],
)
def test_a_write_keeps_the_notice(
    command: Command, start: datetime | None, notice: timedelta, code: Code | None, failed: tuple[str, ...]
) -> None:
    assert ruling(verdict(command, {"start": start, "end": None}, {"notice": notice})) == (code, failed)


@pytest.mark.parametrize(
    ("start", "notice", "detail"),
    [
        pytest.param(
            NOW + NOTICE - TICK, NOTICE, "The last moment was 2026-06-01T08:59:59Z.", id="rounded down to the second"
        ),
        pytest.param(NOW + HOUR, NOTICE, "The last moment was 2026-05-30T10:00:00Z.", id="two days before"),
        pytest.param(
            datetime.fromisoformat("2026-06-01T12:30:00+02:00"),
            NOTICE,
            "The last moment was 2026-05-30T10:30:00Z.",
            id="told in UTC",
        ),
    ],
)
def test_too_late_tells_the_deadline(start: datetime, notice: timedelta, detail: str) -> None:
    decision = verdict(cancel(), {"start": start}, {"notice": notice})

    assert isinstance(decision, Refusal)
    assert (decision.code, decision.detail) == (Code.TOO_LATE, detail)


FIRST, LAST = datetime.min.replace(tzinfo=zone(14)), datetime.max.replace(tzinfo=zone(-14))


@pytest.mark.parametrize(
    ("now", "start", "notice"),
    [
        pytest.param(FIRST, FIRST + TICK, TICK, id="year 1 east of Greenwich"),
        pytest.param(FIRST, FIRST + DAY, 3650 * DAY, id="year 1 and a long notice"),
        pytest.param(LAST - TICK, LAST, SECOND, id="year 9999 west of Greenwich"),
    ],
)
def test_a_deadline_outside_the_calendar_is_not_told(now: datetime, start: datetime, notice: timedelta) -> None:
    ever = grant(valid_from=FIRST, valid_until=LAST, notice=notice + TICK)

    decision = decide(WHO, cancel(), appointment(start=start), policy(ever), now)

    assert isinstance(decision, Refusal)
    assert (decision.code, decision.detail) == (Code.TOO_LATE, "")
