"""Whose an appointment is, by PKB's own resources.

A box authenticates nobody: PKB takes the source organisation of a resource from the patient it refers to. What is
ambiguous, contradictory or unknown to the grants file proves nothing, and an unproven owner is no owner.
"""

from typing import assert_never

from gateway.domain.appointment import Provenance
from gateway.domain.grant import Customer, CustomerKind, Ownership, Policy, Route

UNPROVEN: tuple[str, ...] = ()


def owners(provenance: Provenance, route: Route, policy: Policy) -> tuple[str, ...]:
    """Give the ids of the customers an appointment belongs to: an organisation, or a team and its organisation."""
    if provenance.patients != 1:
        return UNPROVEN
    match route.ownership:
        case Ownership.MANAGING_ORGANISATION:
            return _by_managing_organisation(provenance, route, policy)
        case Ownership.RESOURCE_META:
            return _by_resource_meta(provenance, route, policy)
        case Ownership.WHOLE_ENDPOINT:
            return _by_endpoint(route, policy)
        case unexpected:
            assert_never(unexpected)


def _by_managing_organisation(provenance: Provenance, route: Route, policy: Policy) -> tuple[str, ...]:
    if provenance.managing_organisation is None:
        return UNPROVEN
    return _customer_and_its_organisation(policy.named(route, provenance.managing_organisation))


def _by_resource_meta(provenance: Provenance, route: Route, policy: Policy) -> tuple[str, ...]:
    if len(provenance.source_organisations) > 1 or len(provenance.source_teams) > 1:
        return UNPROVEN
    organisation = _only(provenance.source_organisations, CustomerKind.ORGANISATION, route, policy)
    team = _only(provenance.source_teams, CustomerKind.TEAM, route, policy)
    if provenance.source_organisations and organisation is None:
        return UNPROVEN
    if team is None and not _all_unlisted(provenance.source_teams, route, policy):
        return UNPROVEN
    if team is None:
        # An organisation has teams that are nobody's customer here; what they hold is the organisation's.
        return _customer_and_its_organisation(organisation)
    if organisation is not None and team.organisation != organisation.id:
        return UNPROVEN
    return _customer_and_its_organisation(team)


def _only(sources: tuple[str, ...], kind: CustomerKind, route: Route, policy: Policy) -> Customer | None:
    found = policy.named(route, sources[0]) if sources else None
    return found if found is not None and found.kind is kind else None


def _all_unlisted(sources: tuple[str, ...], route: Route, policy: Policy) -> bool:
    return all(policy.named(route, source) is None for source in sources)


def _by_endpoint(route: Route, policy: Policy) -> tuple[str, ...]:
    organisations = policy.organisations_on(route)
    return (organisations[0].id,) if len(organisations) == 1 else UNPROVEN


def _customer_and_its_organisation(customer: Customer | None) -> tuple[str, ...]:
    if customer is None:
        return UNPROVEN
    if customer.organisation is None:
        return (customer.id,)
    return (customer.id, customer.organisation)
