"""Whose an appointment is: what proves it, and what proves nothing."""

from dataclasses import replace

import pytest

from gateway.domain.appointment import Provenance
from gateway.domain.codes import Code
from gateway.domain.decision import Permit, Refusal
from gateway.domain.grant import Ownership, Route, RouteKind
from gateway.domain.ownership import owners
from gateway.domain.rules import Claimant, decide
from tests.makers import (
    BOX,
    CUSTOMERS,
    ENDPOINT,
    HL7,
    NOW,
    appointment,
    cancel,
    customer,
    grant,
    owned_by,
    policy,
    team,
)

META = replace(BOX, ownership=Ownership.RESOURCE_META)
AIREDALE, WHARFEDALE = "Organization/airedale", "Organization/wharfedale"
CARDIOLOGY, EYES = "Organization/airedale-cardiology", "Organization/bradford-eyes"


def meta(organisations: tuple[str, ...] = (), teams: tuple[str, ...] = (), patients: int = 1) -> Provenance:
    return Provenance(patients, source_organisations=organisations, source_teams=teams)


@pytest.mark.parametrize(
    ("provenance", "expected"),
    [
        pytest.param(owned_by(AIREDALE), ("airedale",), id="an organisation: its own, no team's"),
        pytest.param(
            owned_by(CARDIOLOGY), ("airedale-cardiology", "airedale"), id="a team: the team's and its organisation's"
        ),
        pytest.param(owned_by(WHARFEDALE), ("wharfedale",), id="the other organisation in the box"),
        pytest.param(owned_by(None), (), id="no managing organisation"),
        pytest.param(owned_by(""), (), id="an empty reference"),
        pytest.param(owned_by("Organization/stranger"), (), id="an organisation the grants file does not know"),
        pytest.param(owned_by("Organization/bradford"), (), id="a customer on another route"),
        pytest.param(owned_by("https://elsewhere.example/fhir/Organization/airedale"), (), id="an absolute reference"),
        pytest.param(owned_by("#airedale"), (), id="a contained reference"),
        pytest.param(owned_by("Organization/Airedale"), (), id="a reference in other letters"),
        pytest.param(owned_by("Organization/airedale/_history/1"), (), id="a reference to a version"),
        pytest.param(Provenance(0, managing_organisation=AIREDALE), (), id="no patient"),
        pytest.param(Provenance(2, managing_organisation=AIREDALE), (), id="two patients"),
        pytest.param(Provenance(1, None, (AIREDALE,)), (), id="meta counts for nothing in this mode"),
        pytest.param(
            Provenance(1, AIREDALE, (WHARFEDALE,), (CARDIOLOGY,)),
            ("airedale",),
            id="meta cannot contradict in this mode",
        ),
    ],
)
def test_the_patients_managing_organisation_says_whose_it_is(provenance: Provenance, expected: tuple[str, ...]) -> None:
    assert owners(provenance, BOX, policy()) == expected


@pytest.mark.parametrize(
    ("provenance", "expected"),
    [
        pytest.param(meta(("Organization/bradford",)), ("bradford",), id="an organisation"),
        pytest.param(meta(("Organization/bradford",), (EYES,)), ("bradford-eyes", "bradford"), id="both, agreeing"),
        pytest.param(meta((), (EYES,)), ("bradford-eyes", "bradford"), id="a team alone"),
        pytest.param(
            meta(("Organization/bradford",), ("Organization/unlisted",)), ("bradford",), id="an unlisted team"
        ),
        pytest.param(meta((), ("Organization/unlisted",)), (), id="an unlisted team of nobody"),
        pytest.param(meta(("Organization/stranger",)), (), id="an unknown organisation"),
        pytest.param(meta(("Organization/stranger",), (EYES,)), (), id="a known team of an unknown organisation"),
        pytest.param(meta((AIREDALE,)), (), id="an organisation on another route"),
        pytest.param(
            meta(("Organization/bradford",), (CARDIOLOGY,)), ("bradford",), id="a team on another route is unlisted"
        ),
        pytest.param(meta((EYES,)), (), id="a team where an organisation belongs"),
        pytest.param(meta((), ("Organization/bradford",)), (), id="an organisation where a team belongs"),
        pytest.param(
            meta(("Organization/bradford", "Organization/bradford")), (), id="two organisations, though the same"
        ),
        pytest.param(meta(("Organization/bradford", "Organization/stranger")), (), id="two organisations, one known"),
        pytest.param(meta(("Organization/bradford",), (EYES, EYES)), (), id="two teams"),
        pytest.param(meta(("#bradford",)), (), id="a contained reference"),
        pytest.param(meta(("https://elsewhere.example/Organization/bradford",)), (), id="an absolute reference"),
        pytest.param(meta(), (), id="nothing"),
        pytest.param(meta(("Organization/bradford",), (EYES,), patients=0), (), id="no patient"),
        pytest.param(meta(("Organization/bradford",), (EYES,), patients=2), (), id="two patients"),
        pytest.param(
            owned_by("Organization/bradford"), (), id="the patient's organisation counts for nothing in this mode"
        ),
    ],
)
def test_the_resources_meta_says_whose_it_is(provenance: Provenance, expected: tuple[str, ...]) -> None:
    assert owners(provenance, HL7, policy()) == expected


def test_a_team_of_another_organisation_contradicts_the_organisation() -> None:
    both = tuple(replace(one, route=META) for one in CUSTOMERS)

    assert owners(meta((WHARFEDALE,), (CARDIOLOGY,)), META, policy(customers=both)) == ()


def test_another_organisation_in_the_place_of_the_team_contradicts_the_organisation() -> None:
    both = tuple(replace(one, route=META) for one in CUSTOMERS)

    assert owners(meta((AIREDALE,), (WHARFEDALE,)), META, policy(customers=both)) == ()


@pytest.mark.parametrize(
    ("provenance", "expected"),
    [
        pytest.param(meta(), ("leeds",), id="nothing said"),
        pytest.param(owned_by(AIREDALE), ("leeds",), id="whatever the patient's organisation"),
        pytest.param(meta(("Organization/stranger",)), ("leeds",), id="whatever meta says"),
        pytest.param(meta(patients=0), (), id="no patient"),
        pytest.param(meta(patients=2), (), id="two patients"),
    ],
)
def test_a_whole_endpoint_is_its_one_organisations(provenance: Provenance, expected: tuple[str, ...]) -> None:
    assert owners(provenance, ENDPOINT, policy()) == expected


def test_a_whole_endpoint_of_two_organisations_is_nobodys() -> None:
    shared = policy(customers=[customer("leeds", route=ENDPOINT), customer("york", route=ENDPOINT)])

    assert owners(meta(), ENDPOINT, shared) == ()


def test_a_whole_endpoint_of_no_organisation_is_nobodys() -> None:
    assert owners(meta(), Route("empty", RouteKind.CUSTOMER_FHIR, Ownership.WHOLE_ENDPOINT), policy()) == ()


def test_a_whole_endpoint_is_never_a_teams() -> None:
    shared = policy(customers=[customer("leeds", route=ENDPOINT), team("leeds-eyes", "leeds", route=ENDPOINT)])

    assert owners(meta(), ENDPOINT, shared) == ("leeds",)


@pytest.mark.parametrize("order", [1, -1], ids=["as listed", "the other way round"])
@pytest.mark.parametrize(
    ("route", "provenance"),
    [
        pytest.param(BOX, owned_by("Organization/same"), id="managing-organisation"),
        pytest.param(META, meta(("Organization/same",)), id="resource-meta"),
    ],
)
def test_a_name_that_two_customers_share_on_a_route_proves_nothing(
    route: Route, provenance: Provenance, order: int
) -> None:
    twins = [customer(one, source="Organization/same", route=route) for one in ("north", "south")]

    assert owners(provenance, route, policy(customers=twins[::order])) == ()


def test_the_same_name_on_two_routes_is_two_customers() -> None:
    other = replace(META, name="another-box")
    here, there = customer("north", source="Organization/1"), customer("south", source="Organization/1", route=other)
    both = policy(customers=[here, there])

    assert owners(owned_by("Organization/1"), BOX, both) == ("north",)
    assert owners(meta(("Organization/1",)), other, both) == ("south",)


GRANTS = policy(
    grant(),
    grant(id="g-team", customer="airedale-cardiology", partner="cardiolink"),
    grant(id="g-other", customer="wharfedale", partner="cardiolink"),
)


@pytest.mark.parametrize(
    ("who", "source", "permitted"),
    [
        pytest.param(Claimant("swiftbook", "airedale"), AIREDALE, True, id="organisation, its own"),
        pytest.param(Claimant("swiftbook", "airedale"), CARDIOLOGY, True, id="organisation, its team's"),
        pytest.param(Claimant("swiftbook", "airedale"), WHARFEDALE, False, id="organisation, another one's in the box"),
        pytest.param(Claimant("cardiolink", "airedale-cardiology"), CARDIOLOGY, True, id="team, its own"),
        pytest.param(Claimant("cardiolink", "airedale-cardiology"), AIREDALE, False, id="team, its organisation's"),
        pytest.param(
            Claimant("cardiolink", "airedale-cardiology"),
            "Organization/airedale-dermatology",
            False,
            id="team, another team's",
        ),
        pytest.param(Claimant("cardiolink", "wharfedale"), CARDIOLOGY, False, id="another organisation, a team's"),
    ],
)
def test_a_grant_reaches_exactly_what_its_customer_owns(who: Claimant, source: str, permitted: bool) -> None:
    verdict = decide(who, cancel(), appointment(provenance=owned_by(source)), GRANTS, NOW)

    assert isinstance(verdict, Permit) is permitted
    if isinstance(verdict, Refusal):
        assert verdict.code is Code.NOT_FOUND


@pytest.mark.parametrize(
    "who",
    [
        pytest.param(Claimant("swiftbook", "airedale-cardiology"), id="the organisation's grant at its team's path"),
        pytest.param(Claimant("cardiolink", "airedale"), id="the team's grant at its organisation's path"),
    ],
)
def test_a_grant_is_not_used_at_another_path(who: Claimant) -> None:
    verdict = decide(who, cancel(), appointment(provenance=owned_by(CARDIOLOGY)), GRANTS, NOW)

    assert isinstance(verdict, Refusal)
    assert verdict.code is Code.NO_GRANT
