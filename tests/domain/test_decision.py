"""What a decision carries: every check, the facts it saw, and the words for the audit stream."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.appointment import (
    CANCEL_REASONS,
    Change,
    Command,
    PatientClaim,
    Read,
    Status,
)
from gateway.domain.codes import Code
from gateway.domain.decision import Facts, PatientMatch, Permit, Refusal, summary
from gateway.domain.grant import Field, Operation
from gateway.domain.rules import Claimant, admit, allowed_fields, allowed_reasons, decide
from tests.domain.verdicts import END, GATE, REACH, START, WRITE, asked, verdict
from tests.makers import (
    CARDIOLOGY,
    CUSTOMERS,
    DAY,
    DERMATOLOGY,
    GENERAL,
    NHS_NUMBER,
    NOW,
    PARTNERS,
    SEXUAL_HEALTH,
    WHO,
    appointment,
    cancel,
    grant,
    instant,
    move,
    owned_by,
    policy,
)


@pytest.mark.parametrize(
    ("command", "names"),
    [
        pytest.param(Read(), GATE + REACH, id="read"),
        pytest.param(cancel(), GATE + REACH + WRITE, id="cancel"),
        pytest.param(move(NOW + 31 * DAY), GATE + REACH + WRITE, id="change"),
    ],
)
def test_a_permit_carries_every_check_in_the_order_of_precedence(command: Command, names: tuple[str, ...]) -> None:
    decision = verdict(command)

    assert isinstance(decision, Permit)
    assert decision.checks == asked(*names)
    assert decision.grant == grant()


def test_a_refusal_carries_every_check_too() -> None:
    decision = verdict(
        cancel(codings=()), {"labels": frozenset({SEXUAL_HEALTH}), "status": Status.ARRIVED}, version="6"
    )

    failed = ("labels-granted", "version-expected", "status-changeable", "reason-allowed")
    assert isinstance(decision, Refusal)
    assert decision.checks == asked(*GATE, *REACH, *WRITE, failed=failed)


def test_the_facts_are_what_the_decision_saw() -> None:
    facts = {
        "specialties": frozenset({DERMATOLOGY, CARDIOLOGY}),
        "labels": GENERAL | {SEXUAL_HEALTH},
        "provenance": owned_by("Organization/airedale-cardiology"),
    }
    change = Change(instant(START + DAY), instant(END + DAY), "Hello", claim=PatientClaim(NHS_NUMBER))

    assert verdict(change, facts, {"privacy_labels": GENERAL | {SEXUAL_HEALTH}}).facts == Facts(
        owner=("airedale-cardiology", "airedale"),
        status="booked",
        start=START,
        labels=("GENERAL_HEALTH", "SEXUAL_HEALTH"),
        specialties=("http://snomed.info/sct|394579002", "http://snomed.info/sct|394582007"),
        fields=(Field.COMMENT, Field.END, Field.START),
        new_start=START + DAY,
        patient=PatientMatch.MATCH,
    )


@pytest.mark.parametrize("command", [Read(), cancel()], ids=["read", "cancel"])
def test_a_command_that_changes_no_field_has_none_in_its_facts(command: Command) -> None:
    facts = verdict(command).facts

    assert facts is not None
    assert (facts.fields, facts.new_start) == ((), None)


def test_a_grant_without_a_list_allows_every_reason_of_the_system() -> None:
    assert allowed_reasons(grant()) == CANCEL_REASONS
    assert allowed_reasons(grant(cancel_reasons=frozenset({"pat"}))) == {"pat"}
    assert allowed_reasons(grant(cancel_reasons=frozenset())) == frozenset()


def test_the_fields_allowed_are_those_granted_that_the_route_carries() -> None:
    every = frozenset(Field)
    generous, narrow = grant(change_fields=every), grant(change_fields=frozenset({Field.MANAGEMENT_URL}))
    by = {one.id: one for one in CUSTOMERS}

    assert allowed_fields(generous, by["bradford"]) == every
    assert allowed_fields(generous, by["airedale"]) == every - {Field.MANAGEMENT_URL}
    assert allowed_fields(narrow, by["airedale"]) == frozenset()


def test_the_makers_start_from_a_permit() -> None:
    assert {p.id for p in PARTNERS} == {"swiftbook", "cardiolink", "suspended"}
    assert isinstance(verdict(cancel()), Permit)


def test_a_permit_in_the_words_of_the_audit_stream() -> None:
    decision = verdict(Read())

    assert summary(decision) == {
        "decision": "permit",
        "code": None,
        "grant": "airedale-swiftbook",
        "checks": [[name, True] for name in GATE + REACH],
        "shadow": None,
    }


def test_a_refusal_in_the_words_of_the_audit_stream() -> None:
    assert summary(Refusal(Code.NO_GRANT, asked("partner-active", "granted", failed=("granted",)))) == {
        "decision": "refuse",
        "code": "no-grant",
        "grant": None,
        "checks": [["partner-active", True], ["granted", False]],
        "shadow": None,
    }


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        pytest.param({}, {"grant": "try", "decision": "permit", "code": None}, id="one that permits"),
        pytest.param(
            {"privacy_labels": frozenset({"MENTAL_HEALTH"})},
            {"grant": "try", "decision": "refuse", "code": "not-found"},
            id="one that reaches something else",
        ),
        pytest.param(
            {"operations": frozenset({Operation.READ})},
            {"grant": "try", "decision": "refuse", "code": "operation-not-granted"},
            id="one that does not let cancel",
        ),
    ],
)
def test_a_shadow_grant_is_told_beside_and_changes_nothing(terms: dict[str, Any], told: dict[str, Any]) -> None:
    alone = decide(WHO, cancel(), appointment(), policy(), NOW)
    beside = decide(WHO, cancel(), appointment(), policy(grant(), grant(id="try", shadow=True, **terms)), NOW)

    assert beside == alone
    assert summary(beside) == {**summary(alone), "shadow": told}


def test_the_gate_tells_of_shadows_too_and_of_nobody_elses() -> None:
    tried = policy(grant(id="try", shadow=True))
    refused = admit(WHO, frozenset({Operation.READ}), tried, NOW)
    assert (summary(refused)["code"], summary(refused)["shadow"]) == (
        "no-grant",
        {"grant": "try", "decision": "permit", "code": None},
    )
    other = admit(Claimant("cardiolink", "airedale"), frozenset({Operation.READ}), tried, NOW)
    assert summary(other)["shadow"] is None


def test_a_block_outweighs_a_shadow_grant_as_it_would_a_real_one() -> None:
    tried = policy(grant(id="try", shadow=True)).with_blocks(frozenset({("swiftbook", "airedale")}))
    assert summary(admit(WHO, frozenset({Operation.READ}), tried, NOW))["shadow"] == {
        "grant": None,
        "decision": "refuse",
        "code": "no-grant",
    }


def test_the_audit_stream_learns_what_the_partner_does_not() -> None:
    decision = verdict(cancel(claim=PatientClaim("9990000026")))

    assert isinstance(decision, Refusal)
    assert decision.code is Code.NOT_FOUND
    assert summary(decision)["code"] == "patient-mismatch"
    assert summary(replace(decision, recorded_as=""))["code"] == "not-found"
