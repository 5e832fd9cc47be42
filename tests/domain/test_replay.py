"""Recorded requests decided again: just as they would have been under the other file."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.appointment import Appointment, Command, PatientClaim, Read
from gateway.domain.decision import Decision, Permit, Refusal
from gateway.domain.grant import Field, Operation, Policy
from gateway.domain.replay import Again, Replayed, replay
from gateway.domain.rules import Claimant, decide
from gateway.flow import records
from tests.makers import (
    CARDIOLOGY,
    DAY,
    HOUR,
    NHS_NUMBER,
    NOW,
    PARTNERS,
    WHO,
    a_claimant,
    appointment,
    cancel,
    grant,
    move,
    no_grants,
    partner,
    policy,
)
from tests.strategies import appointments, by_chance, commands, policies


def recorded(decision: Decision, command: Command, who: Claimant = WHO, /, **changes: Any) -> dict[str, Any]:
    """What the journal would have of a decision."""
    refused = isinstance(decision, Refusal)
    event = "refused" if refused else ("read" if isinstance(command, Read) else "intent")
    told: dict[str, Any] = {
        "event": event,
        "time": records.moment(NOW),
        "partner": who.partner,
        "customer": who.customer,
        "operation": command.operation.value,
        "appointment": "a-1",
        **records.decided(decision, NOW),
        "reason": records.reason(command),
        **changes,
    }
    copy: dict[str, Any] = json.loads(json.dumps(told))
    return copy


def decided(command: Command, known: Policy | None = None, /, **changes: Any) -> dict[str, Any]:
    decision = decide(WHO, command, appointment(specialties=frozenset({CARDIOLOGY})), known or policy(), NOW)
    return recorded(decision, command, **changes)


@settings(max_examples=150)
@given(policies(), policies(), by_chance(a_claimant), commands(), appointments(), st.sampled_from([None, "7", "6"]))
def test_a_record_with_facts_is_decided_as_the_request_would_have_been(
    old: Policy, new: Policy, who: Claimant, command: Command, seen: Appointment, version: str | None
) -> None:
    before = decide(who, command, seen, old, NOW, version)
    expected = decide(who, command, seen, new, NOW, version)
    found = replay(recorded(before, command, who), new)
    if before.facts is None and (expected.facts is not None or isinstance(expected, Permit)):
        assert found.again is Again.UNDECIDED
        return
    code = expected.audit_code if isinstance(expected, Refusal) else None
    assert found.code == code
    assert found.grant == (expected.grant.id if expected.grant else None)
    flipped = isinstance(before, Permit) != isinstance(expected, Permit)
    assert (found.again is Again.FLIPPED) == flipped


@pytest.mark.parametrize(
    ("command", "terms", "code"),
    [
        pytest.param(cancel(), {"operations": frozenset({Operation.READ})}, "operation-not-granted", id="operation"),
        pytest.param(cancel(), {"cancel_reasons": frozenset({"other"})}, "reason-not-allowed", id="reason"),
        pytest.param(cancel(), {"notice": 31 * DAY}, "too-late", id="notice"),
        pytest.param(cancel(), {"privacy_labels": frozenset({"SEXUAL_HEALTH"})}, "not-found", id="labels"),
        pytest.param(cancel(), {"specialties": frozenset()}, "not-found", id="specialties"),
        pytest.param(cancel(), {"patient_required": True}, "missing-parameter", id="the patient must be named"),
        pytest.param(
            move(NOW + 31 * DAY), {"change_fields": frozenset({Field.START})}, "field-not-changeable", id="fields"
        ),
        pytest.param(move(NOW + 31 * DAY), {"within": 2 * HOUR}, "outside-change-window", id="within"),
        pytest.param(Read(), {"valid_until": NOW}, "grant-expired", id="its time"),
    ],
)
def test_a_bound_that_is_drawn_closer_flips_what_it_would_have_refused(
    command: Command, terms: dict[str, Any], code: str
) -> None:
    stricter = policy(grant(**terms))
    assert replay(decided(command), stricter) == Replayed(Again.FLIPPED, code, "airedale-swiftbook")
    assert replay(decided(command), policy()) == Replayed(Again.SAME, None, "airedale-swiftbook")
    if code != "missing-parameter":
        again = replay(decided(command, stricter), policy())
        assert again.again in {Again.FLIPPED, Again.UNDECIDED}


def test_every_field_of_a_change_is_asked_about() -> None:
    change = replace(move(NOW + 31 * DAY), comment="x", location="y", management_url=None)
    for field in (Field.END, Field.COMMENT, Field.LOCATION):
        fewer = policy(grant(change_fields=frozenset(Field) - {field}))
        assert replay(decided(change), fewer).code == "field-not-changeable"
    record = decided(change)
    record["facts"]["fields"].append("managementUrl")
    assert replay(record, policy()).code == "field-not-changeable"


def test_a_patient_who_was_named_is_named_again() -> None:
    named = cancel(claim=PatientClaim(NHS_NUMBER))
    assert replay(decided(named), policy(grant(patient_required=True))).again is Again.SAME


def test_a_partner_that_is_suspended_flips_all_it_was_permitted() -> None:
    suspended = policy(partners=[partner(suspended=True), *PARTNERS[1:]])
    assert replay(decided(Read()), suspended) == Replayed(Again.FLIPPED, "partner-suspended")


@pytest.mark.parametrize(
    ("changes", "known", "again"),
    [
        pytest.param({"event": "search", "facts": None}, policy(), Again.UNDECIDED, id="a search"),
        pytest.param({"event": "search", "facts": None}, no_grants(), Again.FLIPPED, id="a search without a grant"),
        pytest.param({"event": "replayed"}, policy(), Again.UNDECIDED, id="an answer given again"),
        pytest.param({"operation": None}, policy(), Again.UNDECIDED, id="a PUT that was not understood"),
        pytest.param(
            {"decision": "refuse", "code": "upstream-timeout", "facts": None}, policy(), Again.UNDECIDED, id="no PKB"
        ),
        pytest.param(
            {"decision": "refuse", "code": "upstream-timeout", "facts": None}, no_grants(), Again.OTHER_CODE,
            id="no PKB and no grant",
        ),
        pytest.param({"decision": "refuse", "code": "no-grant", "facts": None}, no_grants(), Again.SAME, id="no grant"),
        pytest.param(
            {"decision": "refuse", "code": "scope-insufficient", "facts": None}, policy(), Again.SAME, id="its token"
        ),
        pytest.param(
            {"decision": "refuse", "code": "scope-insufficient", "facts": None}, no_grants(), Again.SAME,
            id="its token comes before its grant",
        ),
        pytest.param(
            {"decision": "refuse", "code": "scope-insufficient", "facts": None},
            Policy("d", {}, {}, ()), Again.OTHER_CODE, id="its partner comes before its token",
        ),
        pytest.param({"now": None}, policy(), Again.SAME, id="no moment but that of the record"),
    ],
)  # fmt: skip
def test_what_a_record_does_not_tell_is_not_made_up(changes: dict[str, Any], known: Policy, again: Again) -> None:
    assert replay(decided(cancel(), **changes), known).again is again


def test_a_busy_appointment_stays_busy_unless_it_is_out_of_reach() -> None:
    busy = decided(cancel(), decision="refuse", code="appointment-busy")
    busy["checks"].append(["appointment-free", False])
    assert replay(busy, policy()).again is Again.SAME
    assert replay(busy, policy(grant(specialties=frozenset()))).code == "not-found"
    assert replay(busy, policy(grant(notice=timedelta(days=31)))).code == "appointment-busy"


@pytest.mark.parametrize(
    "changes",
    [{"operation": "delete"}, {"now": "yesterday"}, {"facts": {}}, {"checks": 5}],
    ids=["an unknown operation", "an unreadable moment", "no facts in facts", "no checks"],
)
def test_what_is_no_record_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        replay(decided(cancel(), **changes), policy())
