"""Two grants files compared by what they let partners do."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings

from gateway.domain.comparison import Difference, Right, differences
from gateway.domain.decision import Permit
from gateway.domain.grant import Field, Operation, Policy, Rate
from gateway.domain.rules import Claimant, admit
from tests.makers import (
    CARDIOLOGY,
    CUSTOMERS,
    DAY,
    DERMATOLOGY,
    GENERAL,
    HOUR,
    NOW,
    PARTNERS,
    SEXUAL_HEALTH,
    customer,
    grant,
    no_grants,
    partner,
    policy,
)
from tests.strategies import policies

BEGIN, END = grant().valid_from, grant().valid_until
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


def told(old: Policy, new: Policy) -> list[tuple[str, str, object, object, datetime | None, datetime | None]]:
    return [
        (each.right.kind, each.right.name, each.before, each.after, each.since, each.until)
        for each in differences(old, new)
    ]


def test_an_operation_that_ends_earlier_is_lost_from_then() -> None:
    without = grant(valid_from=DECEMBER, operations=frozenset({Operation.READ, Operation.CHANGE}), id="later")
    new = policy(grant(valid_until=DECEMBER), without)
    assert told(policy(), new) == [("operation", "cancel", True, None, DECEMBER, None)]


def test_an_operation_that_is_gained_is_told_with_its_end() -> None:
    old = policy(grant(operations=frozenset({Operation.READ})))
    assert told(old, policy(grant(operations=frozenset({Operation.READ, Operation.CANCEL})))) == [
        ("operation", "cancel", None, True, BEGIN, END)
    ]


def test_a_gap_is_told_with_both_its_ends() -> None:
    new = policy(grant(valid_until=DECEMBER), grant(id="again", valid_from=DECEMBER + DAY))
    assert told(policy(), new) == [
        ("operation", each, True, None, DECEMBER, DECEMBER + DAY) for each in ("cancel", "change", "read")
    ]


def test_nobody_gains_by_another_order_another_id_or_a_grant_cut_in_two() -> None:
    one, other = grant(), grant(id="b", partner="cardiolink")
    halves = (grant(id="x", valid_until=NOW, approved_by="Ann"), grant(id="y", valid_from=NOW))
    renamed = replace(other, id="z")
    assert differences(policy(one, other), policy(renamed, *reversed(halves))) == []


@pytest.mark.parametrize(
    ("changes", "kind", "before", "after"),
    [
        pytest.param({"notice": 3 * DAY}, "notice", 2 * DAY, 3 * DAY, id="notice"),
        pytest.param({"within": 5 * DAY}, "within", None, 5 * DAY, id="how far a start may move"),
        pytest.param({"patient_required": True}, "patient", False, True, id="the patient must be named"),
        pytest.param({"rate": Rate(60, 60)}, "rate", None, Rate(60, 60), id="rate"),
        pytest.param({"hl7_alias": "a"}, "hl7_alias", None, "a", id="alias"),
        pytest.param(
            {"specialties": frozenset({CARDIOLOGY})},
            "specialties", None, "http://snomed.info/sct|394579002", id="specialties",
        ),
        pytest.param({"change_fields": frozenset(Field)}, "field", None, True, id="a field more"),
        pytest.param({"privacy_labels": GENERAL | {SEXUAL_HEALTH}}, "label", None, True, id="a label more"),
        pytest.param({"cancel_reasons": frozenset({"pat"})}, "reason", True, None, id="fewer reasons"),
    ],
)  # fmt: skip
def test_every_bound_is_compared(changes: dict[str, object], kind: str, before: object, after: object) -> None:
    found = told(policy(), policy(grant(**changes)))
    assert found
    assert {(each[0], each[2], each[3], each[4], each[5]) for each in found} == {(kind, before, after, BEGIN, None)}


def test_a_bound_for_a_while_is_told_with_its_end() -> None:
    strict = grant(id="strict", notice=3 * DAY, valid_from=NOW, valid_until=NOW + DAY)
    new = policy(grant(valid_until=NOW), strict, grant(id="then", valid_from=NOW + DAY))
    assert told(policy(), new) == [("notice", "", 2 * DAY, 3 * DAY, NOW, NOW + DAY)]


def test_what_an_operation_brings_along_is_not_told_besides() -> None:
    reads = policy(grant(operations=frozenset({Operation.READ})))
    assert [each[:2] for each in told(reads, policy())] == [("operation", "cancel"), ("operation", "change")]
    assert [each[:2] for each in told(policy(), no_grants())] == [
        ("operation", each) for each in ("cancel", "change", "read")
    ]


def test_a_label_beyond_the_customers_own_is_no_gain() -> None:
    assert differences(policy(), policy(grant(privacy_labels=GENERAL | {"MENTAL_HEALTH"}))) == []


def test_specialties_are_one_list_whatever_their_order() -> None:
    both = policy(grant(specialties=frozenset({DERMATOLOGY, CARDIOLOGY})))
    assert differences(both, policy(grant(specialties=frozenset({CARDIOLOGY, DERMATOLOGY})))) == []


def test_a_suspended_partner_loses_all_and_is_told_to_be_suspended() -> None:
    suspended = [partner(suspended=True), *PARTNERS[1:]]
    found = differences(policy(), policy(partners=suspended))
    assert found[0] == Difference("swiftbook", None, Right("suspended"), before=False, after=True)
    assert [each.right.name for each in found[1:]] == ["cancel", "change", "read"]


def test_a_partner_that_is_gone_loses_all() -> None:
    gone = Policy("d", {}, dict(policy().customers), ())
    assert [each.right.name for each in differences(policy(), gone)] == ["cancel", "change", "read"]


def test_a_partners_own_rate_has_no_dates() -> None:
    faster = [partner(rate=Rate(1200, 60)), *PARTNERS[1:]]
    assert told(policy(), policy(partners=faster)) == [("rate", "", Rate(600, 60), Rate(1200, 60), None, None)]


def test_a_customer_that_pkb_calls_otherwise_reaches_other_appointments() -> None:
    moved = [customer(source="Organization/other"), *CUSTOMERS[1:]]
    assert differences(policy(), policy(customers=moved)) == [
        Difference("", "airedale", Right("source"), "Organization/airedale", "Organization/other")
    ]


def test_shadow_grants_are_compared_apart() -> None:
    found = differences(policy(), policy(grant(), grant(id="s", shadow=True, valid_until=NOW)))
    assert {(each.shadow, each.right.name, each.after) for each in found} == {
        (True, each.value, True) for each in Operation
    }


def _granted(known: Policy, who: Claimant, operation: Operation, at: datetime) -> bool:
    return isinstance(admit(who, frozenset({operation}), known, at), Permit)


@settings(max_examples=40)
@given(policies(), policies())
def test_the_gate_opens_and_closes_exactly_where_a_difference_is_told(old: Policy, new: Policy) -> None:
    found = [each for each in differences(old, new) if each.right.kind == "operation" and not each.shadow]
    for each in found:
        assert each.customer is not None
        assert each.since is not None
        who, operation = Claimant(each.partner, each.customer), Operation(each.right.name)
        assert _granted(old, who, operation, each.since) is bool(each.before)
        assert _granted(new, who, operation, each.since) is bool(each.after)
    for who in (Claimant(known.id, held.id) for known in PARTNERS for held in CUSTOMERS):
        for at in (NOW, NOW + HOUR, NOW - timedelta(days=3), NOW + timedelta(days=20)):
            for operation in Operation:
                differs = _granted(old, who, operation, at) != _granted(new, who, operation, at)
                covered = any(
                    (each.partner, each.customer, each.right.name) == (who.partner, who.customer, operation)
                    and each.since is not None
                    and each.since <= at
                    and (each.until is None or at < each.until)
                    for each in found
                )
                assert covered or not differs


@settings(max_examples=40)
@given(policies())
def test_a_file_does_not_differ_from_itself(known: Policy) -> None:
    assert differences(known, replace(known, digest="another", grants=tuple(reversed(known.grants)))) == []
