"""Who holds what, and when it is in force."""

from collections.abc import Iterator
from datetime import datetime
from itertools import permutations

import pytest

from gateway.domain.grant import FIELDS_BY_ROUTE, PIECE, Coding, Field, Grant, Policy, RouteKind
from tests.makers import BOX, DAY, ENDPOINT, HL7, NOW, SECOND, TICK, customer, grant, policy


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        pytest.param(NOW - TICK, False, id="just before it begins"),
        pytest.param(NOW, True, id="exactly as it begins"),
        pytest.param(NOW + DAY - TICK, True, id="just before it ends"),
        pytest.param(NOW + DAY, False, id="exactly as it ends"),
    ],
)
def test_a_grant_is_in_force_from_inclusive_until_exclusive(now: datetime, expected: bool) -> None:
    assert grant(valid_from=NOW, valid_until=NOW + DAY).in_force(now) is expected


def test_a_shadow_grant_is_never_in_force() -> None:
    assert not grant(shadow=True).in_force(NOW)


FIRST = grant(id="a", valid_from=NOW - 2 * DAY, valid_until=NOW - DAY)
SECOND_ONE = grant(id="b", valid_from=NOW, valid_until=NOW + DAY)
THIRD = grant(id="c", valid_from=NOW, valid_until=NOW + DAY)


@pytest.mark.parametrize(
    "order", list(permutations([FIRST, SECOND_ONE, THIRD])), ids=lambda o: "".join(g.id for g in o)
)
def test_grants_are_held_oldest_first_however_they_are_listed(order: tuple[Grant, ...]) -> None:
    assert policy(*order).held("airedale", "swiftbook") == (FIRST, SECOND_ONE, THIRD)


def test_shadow_grants_are_kept_apart() -> None:
    real, shadow = grant(id="real"), grant(id="shadow", shadow=True)
    both = policy(shadow, real)

    assert both.held("airedale", "swiftbook") == (real,)
    assert both.shadows("airedale", "swiftbook") == (shadow,)


def test_a_policy_that_is_made_in_pieces_is_the_same_and_rests_in_between() -> None:
    grants = tuple(grant(id=f"g{number}", shadow=number % 3 == 0) for number in range(2 * PIECE + 1))
    whole = policy(*grants)
    made: list[Policy] = []

    def making() -> Iterator[None]:
        made.append((yield from Policy.in_pieces(whole.digest, whole.partners, whole.customers, whole.grants)))

    rests = sum(1 for _ in making())
    [rested] = made
    assert rested == whole
    for pair in (("airedale", "swiftbook"), ("airedale", "cardiolink")):
        assert rested.held(*pair) == whole.held(*pair)
        assert rested.shadows(*pair) == whole.shadows(*pair)
    for each in whole.customers.values():
        assert rested.named(each.route, each.source) == each
        assert rested.organisations_on(each.route) == whole.organisations_on(each.route)
    assert rests >= len(grants) / PIECE


@pytest.mark.parametrize(
    ("customer", "partner"),
    [("wharfedale", "swiftbook"), ("airedale", "cardiolink"), ("swiftbook", "airedale"), ("nowhere", "nobody")],
    ids=["another customer", "another partner", "the wrong way round", "strangers"],
)
def test_a_grant_is_between_one_customer_and_one_partner(customer: str, partner: str) -> None:
    both = policy(grant(), grant(id="s", shadow=True))

    assert both.held(customer, partner) == ()
    assert both.shadows(customer, partner) == ()


def test_organisations_are_found_by_their_route_and_teams_are_none() -> None:
    known = policy()

    assert [c.id for c in known.organisations_on(BOX)] == ["airedale", "wharfedale"]
    assert [c.id for c in known.organisations_on(HL7)] == ["bradford"]
    assert [c.id for c in known.organisations_on(ENDPOINT)] == ["leeds"]


def test_only_hl7_carries_the_management_page() -> None:
    assert set(FIELDS_BY_ROUTE) == set(RouteKind)
    assert FIELDS_BY_ROUTE[RouteKind.HL7] == frozenset(Field)
    assert frozenset(Field) - FIELDS_BY_ROUTE[RouteKind.CUSTOMER_FHIR] == {Field.MANAGEMENT_URL}


def test_codings_sort_by_system_and_then_code() -> None:
    assert sorted([Coding("b", "1"), Coding("a", "2"), Coding("a", "1")]) == [
        Coding("a", "1"),
        Coding("a", "2"),
        Coding("b", "1"),
    ]


def test_a_policy_is_known_by_what_it_says() -> None:
    assert policy(grant(), digest="x") == policy(grant(), digest="x")
    assert policy(grant(), digest="x") != policy(grant(valid_until=NOW + SECOND), digest="x")


def test_blocks_are_put_on_a_policy_without_indexing_it_again() -> None:
    plain = policy(grant(), grant(id="s", shadow=True))
    blocked = plain.with_blocks(frozenset({("swiftbook", "airedale")}))

    assert (blocked.digest, blocked.grants) == (plain.digest, plain.grants)
    assert blocked.held("airedale", "swiftbook") is plain.held("airedale", "swiftbook")
    assert blocked.shadows("airedale", "swiftbook") is plain.shadows("airedale", "swiftbook")
    assert blocked.named(BOX, "Organization/airedale") is plain.named(BOX, "Organization/airedale")
    assert blocked.organisations_on(BOX) is plain.organisations_on(BOX)
    assert plain.blocks == frozenset()
    assert blocked.with_blocks(frozenset()) == plain != blocked


@pytest.mark.parametrize(
    ("partner", "customer", "expected"),
    [
        pytest.param("swiftbook", None, True, id="the partner"),
        pytest.param("swiftbook", "airedale", False, id="the partner at one customer is another block"),
        pytest.param("cardiolink", "airedale", True, id="another one at a customer"),
        pytest.param("cardiolink", None, False, id="that one everywhere"),
        pytest.param("cardiolink", "airedale-cardiology", False, id="that one at the customer's team"),
    ],
)
def test_a_block_is_of_a_partner_or_of_a_partner_at_a_customer(
    partner: str, customer: str | None, *, expected: bool
) -> None:
    known = policy().with_blocks(frozenset({("swiftbook", None), ("cardiolink", "airedale")}))

    assert known.blocked(partner, customer) is expected


def test_a_customer_asks_for_no_notice_unless_it_says_so() -> None:
    assert customer().notice == 0 * DAY
