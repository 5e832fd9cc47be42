"""Who gets past the gate, and which of several reasons is told."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.codes import Code
from gateway.domain.decision import Shadow
from gateway.domain.grant import Operation, Partner, Policy, Rate
from gateway.flow.gate import Admitted, Barred, Gate
from gateway.flow.rates import Rates
from gateway.flow.request import Quota
from tests.flow.fakes import Clock, caller
from tests.makers import DAY, NOW, PARTNERS, grant, no_grants, partner, policy

CANCEL = frozenset({Operation.CANCEL})
SPENT = Rate(1, 60)


class Door:
    """A gate, a clock, and the policy in force."""

    def __init__(self, in_force: Policy) -> None:
        self.policy = in_force
        self.clock = Clock()
        self.seconds = 0.0
        self.gate = Gate(lambda: self.policy, self.clock, Rates(lambda: self.seconds))

    async def enter(
        self, letter: str = "u", operations: frozenset[Operation] = CANCEL, **changes: Any
    ) -> Admitted | Barred:
        return await self.gate.enter(caller(**changes), letter, operations)


def with_partner(known: Partner, *grants: Any) -> Policy:
    """Make a policy in which one partner differs."""
    return policy(*grants, partners=[known, *(other for other in PARTNERS if other.id != known.id)])


async def test_a_partner_with_a_grant_gets_in() -> None:
    door = Door(policy())

    entered = await door.enter()

    assert isinstance(entered, Admitted)
    assert entered.permit.grant.id == "airedale-swiftbook"
    assert entered.customer.id == "airedale"
    assert entered.quotas == (Quota("partner", 600, 60, 599, 1),)


READ_ONLY = grant(operations=frozenset({Operation.READ}))
EVERY_STEP: list[Any] = [
    pytest.param(
        with_partner(partner(suspended=True, rate=SPENT), replace(READ_ONLY, valid_until=NOW)),
        frozenset(),
        Code.PARTNER_SUSPENDED,
        id="suspended before the partner's rate",
    ),
    pytest.param(
        with_partner(partner(rate=SPENT)), frozenset(), Code.RATE_LIMITED, id="the partner's rate before the scope"
    ),
    pytest.param(no_grants(), frozenset("r"), Code.SCOPE_INSUFFICIENT, id="the scope before the grant"),
    pytest.param(no_grants(), frozenset("u"), Code.NO_GRANT, id="no grant"),
    pytest.param(
        policy(replace(READ_ONLY, valid_from=NOW + DAY, rate=SPENT)),
        frozenset("u"),
        Code.GRANT_NOT_YET_VALID,
        id="a grant to come before its operations",
    ),
    pytest.param(
        policy(replace(READ_ONLY, valid_until=NOW, rate=SPENT)),
        frozenset("u"),
        Code.GRANT_EXPIRED,
        id="an expired grant before its operations",
    ),
    pytest.param(
        policy(replace(READ_ONLY, rate=SPENT)),
        frozenset("u"),
        Code.OPERATION_NOT_GRANTED,
        id="the operation before the grant's rate",
    ),
    pytest.param(policy(grant(rate=SPENT)), frozenset("u"), Code.RATE_LIMITED, id="the grant's rate at last"),
]


@pytest.mark.parametrize(("in_force", "scope", "code"), EVERY_STEP)
async def test_the_first_step_that_fails_answers(in_force: Policy, scope: frozenset[str], code: Code) -> None:
    door = Door(in_force)
    await door.enter(scope=frozenset("u"))

    entered = await door.enter(scope=scope)

    assert isinstance(entered, Barred)
    assert entered.refusal.code is code
    assert not entered.refusal.checks[-1].passed
    assert all(check.passed for check in entered.refusal.checks[:-1])
    assert (entered.policy, entered.now) == (in_force, NOW)
    assert (entered.retry_after is None) is (code is not Code.RATE_LIMITED)


async def test_a_suspended_partner_spends_nothing_and_learns_no_rate() -> None:
    door = Door(with_partner(partner(suspended=True, rate=SPENT)))

    for _ in range(3):
        entered = await door.enter()
        assert isinstance(entered, Barred)
        assert (entered.refusal.code, entered.quotas) == (Code.PARTNER_SUSPENDED, ())


async def test_an_unknown_partner_is_barred_like_a_suspended_one() -> None:
    entered = await Door(policy()).enter(partner="nobody")

    assert isinstance(entered, Barred)
    assert entered.refusal.code is Code.PARTNER_SUSPENDED


async def test_an_unknown_customer_and_an_ungranted_one_look_the_same() -> None:
    door = Door(policy())

    unknown, ungranted = await door.enter(customer="nowhere"), await door.enter(customer="wharfedale")

    assert isinstance(unknown, Barred)
    assert isinstance(ungranted, Barred)
    assert unknown.refusal == ungranted.refusal


async def test_every_request_of_a_partner_counts_against_its_rate_refused_ones_too() -> None:
    door = Door(with_partner(partner(rate=Rate(2, 60)), READ_ONLY))

    codes = [(await door.enter(scope=scope)) for scope in (frozenset(""), frozenset("u"), frozenset("u"))]

    assert [entered.refusal.code for entered in codes if isinstance(entered, Barred)] == [
        Code.SCOPE_INSUFFICIENT,
        Code.OPERATION_NOT_GRANTED,
        Code.RATE_LIMITED,
    ]


async def test_only_requests_that_the_grant_covers_count_against_its_rate() -> None:
    door = Door(policy(grant(rate=SPENT, operations=frozenset({Operation.READ}))))
    for _ in range(3):
        await door.enter()

    entered = await door.enter("r", frozenset({Operation.READ}), scope=frozenset("r"))

    assert isinstance(entered, Admitted)
    assert [quota.name for quota in entered.quotas] == ["partner", "grant"]


async def test_an_exhausted_rate_says_how_long_to_wait() -> None:
    door = Door(policy(grant(rate=SPENT)))
    await door.enter()

    barred = await door.enter()

    assert isinstance(barred, Barred)
    assert barred.retry_after == 60
    assert [(quota.name, quota.remaining) for quota in barred.quotas] == [("partner", 598), ("grant", 0)]
    assert barred.refusal.grant is not None
    assert barred.refusal.checks[-1].rule == "grant-rate"
    door.seconds = 60.0
    assert isinstance(await door.enter(), Admitted)


async def test_the_partners_exhausted_rate_says_how_long_to_wait() -> None:
    door = Door(with_partner(partner(rate=SPENT)))
    await door.enter()

    barred = await door.enter()

    assert isinstance(barred, Barred)
    assert barred.retry_after == 60
    assert barred.refusal.checks[-1].rule == "partner-rate"


async def test_one_partners_requests_do_not_spend_anothers_rate() -> None:
    door = Door(with_partner(partner(rate=SPENT), grant(), grant(id="other", partner="cardiolink")))
    await door.enter()

    assert isinstance(await door.enter(), Barred)
    assert isinstance(await door.enter(partner="cardiolink"), Admitted)


async def test_one_grants_requests_do_not_spend_anothers_rate() -> None:
    door = Door(policy(grant(rate=SPENT), grant(id="team", customer="airedale-cardiology", rate=SPENT)))
    await door.enter()

    assert isinstance(await door.enter(), Barred)
    assert isinstance(await door.enter(customer="airedale-cardiology"), Admitted)


async def test_any_one_of_the_operations_is_enough() -> None:
    door = Door(policy(READ_ONLY))

    assert isinstance(await door.enter(operations=frozenset({Operation.READ, Operation.CANCEL})), Admitted)


async def test_the_grants_in_force_when_the_request_arrives_decide() -> None:
    door = Door(policy())
    assert isinstance(await door.enter(), Admitted)

    door.policy = no_grants()

    assert isinstance(await door.enter(), Barred)


TRIED = grant(id="airedale-tried", operations=frozenset(Operation), shadow=True)
WITH_A_SHADOW: list[Any] = [
    pytest.param(
        with_partner(partner(rate=SPENT), grant(), TRIED),
        "u",
        Shadow("airedale-tried", "rate-limited"),
        id="the partner's rate, which is no grant's",
    ),
    pytest.param(
        policy(grant(), TRIED),
        "",
        Shadow("airedale-tried", "scope-insufficient"),
        id="the scope, which is no grant's",
    ),
    pytest.param(
        policy(grant(rate=SPENT), TRIED), "u", Shadow("airedale-tried", None), id="the rate of the grant in force"
    ),
    pytest.param(
        policy(grant(rate=SPENT), replace(TRIED, operations=frozenset({Operation.READ}))),
        "u",
        Shadow("airedale-tried", "operation-not-granted"),
        id="the rate of the grant in force, and a shadow that refuses",
    ),
]


@pytest.mark.parametrize(("in_force", "scope", "shadow"), WITH_A_SHADOW)
async def test_a_refusal_at_the_gate_tells_what_the_shadow_grant_would_have_made_of_it(
    in_force: Policy, scope: str, shadow: Shadow
) -> None:
    door = Door(in_force)
    await door.enter(scope=frozenset(scope))

    entered = await door.enter(scope=frozenset(scope))

    assert isinstance(entered, Barred)
    assert entered.refusal.shadow == shadow


async def test_where_there_is_no_shadow_grant_a_refusal_tells_of_none() -> None:
    entered = await Door(policy()).enter(scope=frozenset())

    assert isinstance(entered, Barred)
    assert entered.refusal.shadow is None
