"""Which of PKB's hits a partner is shown, and that PKB is never asked for less than what it may be shown."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given

from gateway.domain.appointment import NHS_NUMBER_SYSTEM, Appointment, Read, Status
from gateway.domain.decision import Permit
from gateway.domain.grant import Coding, Policy
from gateway.domain.rules import Claimant, admit, decide
from gateway.domain.search import MOST_NARROWING, Hit, Query, Reach, judge, meets, narrow
from tests import makers, strategies
from tests.makers import CARDIOLOGY, DERMATOLOGY, HOUR, NHS_NUMBER, NOW, SECOND, TICK, WHO

PATIENT = Coding(NHS_NUMBER_SYSTEM, NHS_NUMBER)
NUMBER = Coding("urn:pas", "A-1")
START = NOW + 30 * makers.DAY


def hit(**changes: Any) -> Hit:
    told = {"identifiers": frozenset({NUMBER}), **changes}
    return Hit(makers.appointment(**told), frozenset({PATIENT, Coding("urn:hospital", "77")}), b"{}")


def query(**changes: Any) -> Query:
    return Query(**({"patient": PATIENT} | changes))


def day(start: datetime | None) -> dict[str, datetime | None]:
    return {"start": start}


@pytest.mark.parametrize(
    ("asked", "held", "shown"),
    [
        pytest.param({}, {}, True, id="the patient's"),
        pytest.param({"patient": Coding("urn:hospital", "77")}, {}, True, id="by any number of the patient's"),
        pytest.param({"patient": Coding(NHS_NUMBER_SYSTEM, "9990000026")}, {}, False, id="another patient's"),
        pytest.param({"patient": Coding("urn:other", NHS_NUMBER)}, {}, False, id="the number in another system"),
        pytest.param({"identifier": NUMBER}, {}, True, id="patient and identifier"),
        pytest.param({"patient": None, "identifier": NUMBER}, {}, True, id="by its own identifier"),
        pytest.param({"identifier": Coding("urn:pas", "A-2")}, {}, False, id="another identifier"),
        pytest.param({"identifier": Coding("urn:x", "A-1")}, {}, False, id="the identifier in another system"),
        pytest.param({"statuses": frozenset({Status.BOOKED, Status.PENDING})}, {}, True, id="one of the statuses"),
        pytest.param({"statuses": frozenset({Status.CANCELLED})}, {}, False, id="another status"),
        pytest.param({"since": START}, day(START), True, id="starts at the beginning"),
        pytest.param({"since": START}, day(START - TICK), False, id="starts before the beginning"),
        pytest.param({"before": START}, day(START - TICK), True, id="starts before the end"),
        pytest.param({"before": START}, day(START), False, id="starts at the end"),
        pytest.param({"since": START - SECOND, "before": START + SECOND}, day(START), True, id="starts in between"),
        pytest.param({"since": START}, day(None), False, id="no start after a moment"),
        pytest.param({"before": START}, day(None), False, id="no start before a moment"),
        pytest.param({}, day(None), True, id="no start and no date asked for"),
    ],
)
def test_a_hit_must_be_what_was_asked_for(asked: dict[str, Any], held: dict[str, Any], *, shown: bool) -> None:
    assert meets(query(**asked), hit(**held)) is shown


def test_a_patient_that_is_not_proven_is_nobody_searched_for() -> None:
    unproven = replace(hit(), identifiers=frozenset())
    assert not meets(query(), unproven)
    assert meets(query(patient=None, identifier=NUMBER), unproven)


@pytest.mark.parametrize("count", [0, 101, -1])
def test_a_page_has_one_to_a_hundred_hits(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 100"):
        query(count=count)


def test_nobody_searches_for_everything() -> None:
    with pytest.raises(ValueError, match="names a patient"):
        Query()


@given(strategies.by_chance(makers.a_claimant), strategies.policies(), strategies.appointments())
def test_a_hit_is_shown_exactly_where_a_read_is_permitted(
    who: Claimant, policy: Policy, appointment: Appointment
) -> None:
    found = Hit(appointment, frozenset({PATIENT}), b"{}")
    readable = isinstance(decide(who, Read(), appointment, policy, NOW), Permit)
    assert judge(who, query(), policy, NOW)(found) is readable
    assert not judge(who, query(patient=NUMBER), policy, NOW)(found)


def reached(reach: Reach, appointment: Appointment) -> bool:
    """Whether an endpoint that filters as it is asked to would still give an appointment."""
    organisation = appointment.provenance.managing_organisation
    owned = not reach.organisations or organisation in reach.organisations
    return owned and (not reach.specialties or not appointment.specialties.isdisjoint(reach.specialties))


@given(strategies.by_chance(makers.a_claimant), strategies.policies(), strategies.appointments())
def test_narrowing_loses_nothing_that_a_read_would_show(
    who: Claimant, policy: Policy, appointment: Appointment
) -> None:
    admitted = admit(who, frozenset({Read.operation}), policy, NOW)
    if isinstance(admitted, Permit) and isinstance(decide(who, Read(), appointment, policy, NOW), Permit):
        assert reached(narrow(policy.customers[who.customer], admitted.grant, policy), appointment)


@pytest.mark.parametrize(
    ("customer", "organisations"),
    [
        pytest.param(
            "airedale",
            ("Organization/airedale", "Organization/airedale-cardiology", "Organization/airedale-dermatology"),
            id="an organisation with its teams",
        ),
        pytest.param("airedale-cardiology", ("Organization/airedale-cardiology",), id="a team alone"),
        pytest.param("wharfedale", ("Organization/wharfedale",), id="the neighbour"),
        pytest.param("bradford", (), id="where meta tells the owner"),
        pytest.param("leeds", (), id="where all is one customer's"),
    ],
)
def test_pkb_is_asked_within_the_customers_own_reach(customer: str, organisations: tuple[str, ...]) -> None:
    policy = makers.policy()
    assert narrow(policy.customers[customer], makers.grant(), policy) == Reach(organisations)


def test_a_grant_of_specialties_narrows_to_them() -> None:
    policy = makers.policy()
    grant = makers.grant(specialties=frozenset({DERMATOLOGY, CARDIOLOGY}))
    assert narrow(policy.customers["leeds"], grant, policy).specialties == (CARDIOLOGY, DERMATOLOGY)


def test_more_than_fits_a_request_is_not_narrowed() -> None:
    teams = [makers.team(f"airedale-{number}") for number in range(MOST_NARROWING)]
    policy = makers.policy(customers=(makers.customer(), *teams))
    codes = frozenset(Coding("urn:x", str(number)) for number in range(MOST_NARROWING + 1))
    assert narrow(policy.customers["airedale"], makers.grant(specialties=codes), policy) == Reach()


def test_as_many_as_fit_are_named() -> None:
    teams = [makers.team(f"airedale-{number}") for number in range(MOST_NARROWING - 1)]
    policy = makers.policy(customers=(makers.customer(), *teams))
    codes = frozenset(Coding("urn:x", str(number)) for number in range(MOST_NARROWING))
    reach = narrow(policy.customers["airedale"], makers.grant(specialties=codes), policy)
    assert (len(reach.organisations), len(reach.specialties)) == (MOST_NARROWING, MOST_NARROWING)


def test_a_team_that_is_reached_another_way_is_not_looked_for_here() -> None:
    elsewhere = makers.team("airedale-eyes", route=makers.ENDPOINT)
    policy = makers.policy(customers=(makers.customer(), elsewhere))
    assert narrow(policy.customers["airedale"], makers.grant(), policy).organisations == ("Organization/airedale",)


def test_time_counts_at_the_moment_of_the_answer() -> None:
    grant = makers.grant(valid_until=NOW)
    policy = makers.policy(grant)
    assert judge(WHO, query(), policy, NOW - TICK)(hit())
    assert not judge(WHO, query(), policy, NOW)(hit())
    assert not judge(WHO, query(), policy, NOW + timedelta(days=400))(hit(start=START + HOUR))
