"""Who may act for whom: partners, customers, routes, grants, and the policy that indexes them."""

import copy
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from types import MappingProxyType
from typing import Final, Self, TypeVar
from zoneinfo import ZoneInfo


class Operation(StrEnum):
    """What a partner may be granted."""

    READ = "read"
    CHANGE = "change"
    CANCEL = "cancel"


class Ownership(StrEnum):
    """Where PKB says whose an appointment is."""

    MANAGING_ORGANISATION = "managing-organisation"
    RESOURCE_META = "resource-meta"
    WHOLE_ENDPOINT = "whole-endpoint"


class RouteKind(StrEnum):
    """How the gateway reaches a customer's appointments."""

    CUSTOMER_FHIR = "customer-fhir"
    HL7 = "hl7"


class CustomerKind(StrEnum):
    """A grant comes from an organisation or from a team of one."""

    ORGANISATION = "organisation"
    TEAM = "team"


class Field(StrEnum):
    """What a change may touch."""

    START = "start"
    END = "end"
    COMMENT = "comment"
    LOCATION = "location"
    MANAGEMENT_URL = "managementUrl"


FIELDS_BY_ROUTE: Mapping[RouteKind, frozenset[Field]] = MappingProxyType(
    {
        # PKB reads the management URL from HL7 ZAP only; FHIR has no element for it.
        RouteKind.CUSTOMER_FHIR: frozenset(Field) - {Field.MANAGEMENT_URL},
        RouteKind.HL7: frozenset(Field),
    }
)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `requests` in `seconds`."""

    requests: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Partner:
    """A third party to which PKB has granted an identifier."""

    id: str
    name: str
    pkb_client_id: str
    rate: Rate
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """What a decision needs to know of the way to PKB."""

    name: str
    kind: RouteKind
    ownership: Ownership


@dataclass(frozen=True, slots=True)
class Customer:
    """An organisation, or a team of one, that may grant a partner access.

    `source` is the reference by which PKB's resources name it, such as `Organization/airedale`.
    """

    id: str
    name: str
    kind: CustomerKind
    source: str
    route: Route
    time_zone: ZoneInfo
    privacy_labels: frozenset[str]
    organisation: str | None = None
    ods_code: str | None = None
    org_public_id: str | None = None
    notice: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, order=True)
class Coding:
    """A code and the system that gives it meaning."""

    system: str
    code: str


@dataclass(frozen=True, slots=True)
class Grant:
    """Customer to partner: which operations, on which appointments, from when until when."""

    id: str
    customer: str
    partner: str
    operations: frozenset[Operation]
    valid_from: datetime
    """Inclusive."""
    valid_until: datetime
    """Exclusive."""
    privacy_labels: frozenset[str]
    notice: timedelta
    patient_required: bool
    change_fields: frozenset[Field]
    specialties: frozenset[Coding] | None = None
    """None: every specialty, and appointments without one."""
    within: timedelta | None = None
    cancel_reasons: frozenset[str] | None = None
    """None: any code of the FHIR code system."""
    rate: Rate | None = None
    hl7_alias: str | None = None
    shadow: bool = False
    approved_by: str | None = None

    def in_force(self, now: datetime) -> bool:
        """Whether `now` lies in its time; a shadow grant is never in force, whatever its time."""
        return not self.shadow and self.valid_from <= now < self.valid_until


PIECE: Final = 1_000
"""Entries that are indexed between two rests of a policy that is made in pieces."""

T = TypeVar("T")

Block = tuple[str, str | None]
"""A partner and the customer at which it is blocked; None: at every one."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything the grants file says, indexed, under the digest of its bytes; and who is blocked whatever it says."""

    digest: str
    partners: Mapping[str, Partner]
    customers: Mapping[str, Customer]
    grants: tuple[Grant, ...]
    blocks: frozenset[Block] = frozenset()
    _held: Mapping[tuple[str, str], tuple[Grant, ...]] = field(init=False, repr=False, compare=False)
    _shadows: Mapping[tuple[str, str], tuple[Grant, ...]] = field(init=False, repr=False, compare=False)
    _tried: Mapping[tuple[str, str], tuple[Grant, ...]] = field(init=False, repr=False, compare=False)
    _sources: Mapping[tuple[str, str], Customer] = field(init=False, repr=False, compare=False)
    _organisations: Mapping[str, tuple[Customer, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index once, so that a decision costs the same with ten grants and with a hundred thousand."""
        for _ in self._indexing():
            pass

    @classmethod
    def in_pieces(
        cls, digest: str, partners: Mapping[str, Partner], customers: Mapping[str, Customer], grants: tuple[Grant, ...]
    ) -> Generator[None, None, Self]:
        """Make the same policy as at once, but rest after every few entries: whoever serves meanwhile has a turn."""
        policy = object.__new__(cls)
        # A frozen dataclass sets its fields this way.
        put = object.__setattr__
        put(policy, "digest", digest)
        put(policy, "partners", partners)
        put(policy, "customers", customers)
        put(policy, "grants", grants)
        put(policy, "blocks", frozenset())
        yield from policy._indexing()
        return policy

    def _indexing(self) -> Generator[None, None, None]:
        put = object.__setattr__
        put(self, "_held", (yield from _by_pair(grant for grant in self.grants if not grant.shadow)))
        put(self, "_shadows", (yield from _by_pair(grant for grant in self.grants if grant.shadow)))
        tried = (replace(grant, shadow=False) for grant in self.grants if grant.shadow)
        put(self, "_tried", (yield from _by_pair(tried)))
        put(self, "_sources", (yield from _by_source(self.customers.values())))
        on_route: dict[str, list[Customer]] = {}
        for customers in _pieces(self.customers.values()):
            for customer in customers:
                if customer.kind is CustomerKind.ORGANISATION:
                    on_route.setdefault(customer.route.name, []).append(customer)
            yield
        put(self, "_organisations", {name: tuple(customers) for name, customers in on_route.items()})

    def with_blocks(self, blocks: frozenset[Block]) -> Self:
        """Give the same policy under other blocks. The indexes are shared, so the number of grants costs nothing."""
        other = copy.copy(self)
        object.__setattr__(other, "blocks", blocks)
        return other

    def blocked(self, partner: str, customer: str | None = None) -> bool:
        """Whether exactly this is blocked: a partner everywhere or, with a customer, at that one."""
        return (partner, customer) in self.blocks

    def held(self, customer: str, partner: str) -> tuple[Grant, ...]:
        """Give the grants of this customer to this partner, oldest first, whether in force or not."""
        return self._held.get((customer, partner), ())

    def shadows(self, customer: str, partner: str) -> tuple[Grant, ...]:
        """Give the grants that are only tried out."""
        return self._shadows.get((customer, partner), ())

    def tried_out(self, customer: str, partner: str) -> Self | None:
        """Give the policy as if these two had their shadow grants and no others; None where they have none.

        It is good for deciding about these two only.
        """
        if (customer, partner) not in self._tried:
            return None
        other = copy.copy(self)
        object.__setattr__(other, "_held", self._tried)
        object.__setattr__(other, "_tried", {})
        return other

    def named(self, route: Route, source: str) -> Customer | None:
        """Find the one customer that PKB calls `source` on this route; a name shared by two is nobody's."""
        return self._sources.get((route.name, source))

    def organisations_on(self, route: Route) -> tuple[Customer, ...]:
        """Give the organisations that share a route."""
        return self._organisations.get(route.name, ())


def _pieces(entries: Iterable[T]) -> Iterator[list[T]]:
    left = iter(entries)
    while piece := list(islice(left, PIECE)):
        yield piece


def _by_source(customers: Iterable[Customer]) -> Generator[None, None, Mapping[tuple[str, str], Customer]]:
    named: dict[tuple[str, str], Customer] = {}
    shared: set[tuple[str, str]] = set()
    for piece in _pieces(customers):
        for customer in piece:
            name = (customer.route.name, customer.source)
            if named.setdefault(name, customer) is not customer:
                shared.add(name)
        yield
    for name in shared:
        del named[name]
    return named


def _by_pair(grants: Iterable[Grant]) -> Generator[None, None, Mapping[tuple[str, str], tuple[Grant, ...]]]:
    pairs: dict[tuple[str, str], list[Grant]] = {}
    for piece in _pieces(grants):
        for grant in piece:
            pairs.setdefault((grant.customer, grant.partner), []).append(grant)
        yield
    held: dict[tuple[str, str], tuple[Grant, ...]] = {}
    for several in _pieces(pairs.items()):
        for pair, given in several:
            held[pair] = tuple(sorted(given, key=lambda grant: (grant.valid_from, grant.id)))
        yield
    return held
