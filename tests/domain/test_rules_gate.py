"""What is decided before PKB is read: partner, grant, its time, and its operations."""

from datetime import datetime

import pytest

from gateway.domain.appointment import Change, Command, Read
from gateway.domain.codes import Code
from gateway.domain.decision import Permit, Refusal
from gateway.domain.grant import Block, Operation
from gateway.domain.rules import Claimant, admit, decide
from tests.domain.verdicts import GATE, Changes, asked, ruling
from tests.makers import (
    DAY,
    HOUR,
    NOW,
    TICK,
    WHO,
    appointment,
    cancel,
    grant,
    no_grants,
    policy,
)

COMING = {"valid_from": NOW + DAY, "valid_until": NOW + 2 * DAY}
GONE = {"valid_from": NOW - 2 * DAY, "valid_until": NOW - DAY}


@pytest.mark.parametrize(
    ("terms", "now", "code", "failed"),
    [
        pytest.param({"valid_from": NOW + TICK}, NOW, Code.GRANT_NOT_YET_VALID, "grant-begun", id="just before from"),
        pytest.param({"valid_from": NOW}, NOW, None, None, id="exactly at from"),
        pytest.param({"valid_until": NOW + TICK}, NOW, None, None, id="just before until"),
        pytest.param({"valid_until": NOW}, NOW, Code.GRANT_EXPIRED, "grant-not-ended", id="exactly at until"),
        pytest.param({"operations": frozenset({Operation.CANCEL})}, NOW, None, None, id="the operation alone"),
        pytest.param(
            {"operations": frozenset(Operation) - {Operation.CANCEL}},
            NOW,
            Code.OPERATION_NOT_GRANTED,
            "operation-granted",
            id="every other operation",
        ),
        pytest.param(
            {"operations": frozenset()}, NOW, Code.OPERATION_NOT_GRANTED, "operation-granted", id="no operation"
        ),
        pytest.param({"shadow": True}, NOW, Code.NO_GRANT, "granted", id="a shadow grant"),
        pytest.param({"partner": "cardiolink"}, NOW, Code.NO_GRANT, "granted", id="another partner's grant"),
        pytest.param({"customer": "wharfedale"}, NOW, Code.NO_GRANT, "granted", id="another customer's grant"),
        pytest.param({"customer": "airedale-cardiology"}, NOW, Code.NO_GRANT, "granted", id="its team's grant"),
        pytest.param(
            GONE | {"operations": frozenset()}, NOW, Code.GRANT_EXPIRED, "grant-not-ended", id="time before operation"
        ),
    ],
)
def test_a_grant_admits(terms: Changes, now: datetime, code: Code | None, failed: str | None) -> None:
    decision = decide(WHO, cancel(), appointment(), policy(grant(**terms)), now)

    assert ruling(decision) == (code, (failed,) if failed else ())
    if failed:
        assert [check.rule for check in decision.checks] == list(GATE[: GATE.index(failed) + 1])
        assert isinstance(decision, Refusal)
        assert decision.facts is None
        assert (decision.grant is None) is (code is Code.NO_GRANT)


@pytest.mark.parametrize(
    ("who", "code"),
    [
        pytest.param(Claimant("suspended", "airedale"), Code.PARTNER_SUSPENDED, id="a suspended partner"),
        pytest.param(Claimant("nobody", "airedale"), Code.PARTNER_SUSPENDED, id="an unknown partner"),
        pytest.param(Claimant("swiftbook", "nowhere"), Code.NO_GRANT, id="an unknown customer"),
        pytest.param(Claimant("swiftbook", "wharfedale"), Code.NO_GRANT, id="a customer that granted nothing"),
    ],
)
def test_a_stranger_is_refused_though_a_grant_names_it(who: Claimant, code: Code) -> None:
    theirs = grant(partner=who.partner, customer="airedale" if who.customer == "wharfedale" else who.customer)

    decision = decide(who, cancel(), appointment(), policy(theirs), NOW)

    assert isinstance(decision, Refusal)
    assert decision.code is code
    assert decision.grant is None


def test_suspension_is_told_before_the_want_of_a_grant() -> None:
    decision = admit(Claimant("suspended", "nowhere"), frozenset(Operation), no_grants(), NOW)

    assert decision == Refusal(Code.PARTNER_SUSPENDED, asked("partner-active", failed=("partner-active",)))


BLOCKED = [
    pytest.param(("swiftbook", None), Code.PARTNER_SUSPENDED, "partner-not-blocked", id="the partner"),
    pytest.param(("swiftbook", "airedale"), Code.NO_GRANT, "grant-not-blocked", id="the partner at this customer"),
]


@pytest.mark.parametrize(("block", "code", "rule"), BLOCKED)
@pytest.mark.parametrize(
    "command", [Read(), Change(comment="running late"), cancel()], ids=lambda command: command.operation.value
)
def test_a_block_refuses_whatever_the_grants_say(block: Block, code: Code, rule: str, command: Command) -> None:
    blocked = policy().with_blocks(frozenset({block}))
    refusal = Refusal(code, asked("partner-active", rule, failed=(rule,)))

    assert isinstance(decide(WHO, command, appointment(), policy(), NOW), Permit)
    assert decide(WHO, command, appointment(), blocked, NOW) == refusal
    assert decide(WHO, command, None, blocked, NOW) == refusal
    assert admit(WHO, frozenset(Operation), blocked, NOW) == refusal


@pytest.mark.parametrize(
    "block",
    [("cardiolink", None), ("swiftbook", "wharfedale"), ("swiftbook", "airedale-cardiology"), ("airedale", None)],
    ids=["another partner", "at another customer", "at the customer's team", "the customer's name"],
)
def test_a_block_stops_nobody_else(block: Block) -> None:
    assert isinstance(decide(WHO, cancel(), appointment(), policy().with_blocks(frozenset({block})), NOW), Permit)


def test_suspension_is_told_before_a_block_and_that_of_the_partner_before_that_at_a_customer() -> None:
    both = frozenset({("suspended", None), ("suspended", "airedale"), ("swiftbook", None), ("swiftbook", "airedale")})
    blocked = policy().with_blocks(both)

    suspended = admit(Claimant("suspended", "airedale"), frozenset(Operation), blocked, NOW)
    assert ruling(suspended) == (Code.PARTNER_SUSPENDED, ("partner-active",))
    assert ruling(admit(WHO, frozenset(Operation), blocked, NOW)) == (Code.PARTNER_SUSPENDED, ("partner-not-blocked",))


def test_the_want_of_a_grant_is_told_before_the_appointments() -> None:
    assert ruling(decide(WHO, cancel(), None, no_grants(), NOW)) == (Code.NO_GRANT, ("granted",))
    no_cancel = policy(grant(operations=frozenset({Operation.READ})))
    assert ruling(decide(WHO, cancel(), None, no_cancel, NOW)) == (Code.OPERATION_NOT_GRANTED, ("operation-granted",))


def test_an_unknown_customer_and_an_ungranted_one_are_told_alike() -> None:
    unknown = admit(Claimant("swiftbook", "nowhere"), frozenset(Operation), policy(), NOW)

    assert unknown == admit(Claimant("swiftbook", "wharfedale"), frozenset(Operation), policy(), NOW)


@pytest.mark.parametrize("order", [1, -1], ids=["as listed", "the other way round"])
@pytest.mark.parametrize(
    ("several", "code", "named"),
    [
        pytest.param([GONE, COMING], Code.GRANT_NOT_YET_VALID, "g1", id="one ended, one coming"),
        pytest.param(
            [COMING, COMING | {"valid_from": NOW + HOUR}], Code.GRANT_NOT_YET_VALID, "g1", id="the next of two"
        ),
        pytest.param([GONE | {"valid_from": NOW - 3 * DAY}, GONE], Code.GRANT_EXPIRED, "g1", id="the last of two"),
        pytest.param([GONE, {}], None, "g1", id="one ended, one in force"),
        pytest.param([COMING, {"valid_until": NOW + DAY}], None, "g1", id="one coming, one in force"),
        pytest.param([{"valid_until": NOW}, {"valid_from": NOW}], None, "g1", id="one takes over from the other"),
    ],
)
def test_of_several_grants_the_one_that_came_nearest_is_named(
    several: list[Changes], code: Code | None, named: str, order: int
) -> None:
    grants = [grant(id=f"g{number}", **terms) for number, terms in enumerate(several)]

    decision = decide(WHO, cancel(), appointment(), policy(*grants[::order]), NOW)

    assert ruling(decision)[0] is code
    assert decision.grant is not None
    assert decision.grant.id == named
    if code is Code.GRANT_EXPIRED:
        assert decision.checks == asked(*GATE[:4], failed=("grant-not-ended",))


def test_one_of_the_operations_is_enough_to_be_admitted() -> None:
    only_cancel = policy(grant(operations=frozenset({Operation.CANCEL})))

    assert isinstance(admit(WHO, frozenset({Operation.CHANGE, Operation.CANCEL}), only_cancel, NOW), Permit)
    assert isinstance(admit(WHO, frozenset({Operation.CHANGE, Operation.READ}), only_cancel, NOW), Refusal)
    assert isinstance(admit(WHO, frozenset(), only_cancel, NOW), Refusal)


def test_a_permit_at_the_gate_names_the_grant_and_no_facts() -> None:
    assert admit(WHO, frozenset(Operation), policy(), NOW) == Permit(grant(), asked(*GATE))
