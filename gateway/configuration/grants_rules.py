"""What the tables of the grants file must be to each other. Every rule only complains; none stops the next."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import cached_property
from zoneinfo import ZoneInfo, available_timezones

from gateway.configuration import words
from gateway.configuration.grants_tables import (
    AccessToken,
    CustomerTable,
    GrantsTables,
    GrantTable,
    OrganisationTable,
    TeamTable,
)
from gateway.configuration.problems import Complaint, Place
from gateway.domain.grant import FIELDS_BY_ROUTE, Operation, Ownership, Route, RouteKind


@dataclass(frozen=True)
class Entries:
    """The well-formed part of a grants file, beside the names of everything it declares."""

    tables: GrantsTables
    places: tuple[int, ...]
    """Where each of `tables.grants` stands in the file's list."""
    partners: Collection[str]
    customers: Collection[str]
    routes: Mapping[str, Route] | None
    """None: unknown, and no rule asks for them."""
    issuers: Collection[str] | None

    @cached_property
    def zones(self) -> dict[str, ZoneInfo]:
        """The time zone of every customer that has a good one."""
        found = {}
        for id_, table in self.tables.customers.items():
            name = table.time_zone or getattr(self.organisation(table), "time_zone", None)
            zone = time_zone(name) if name else None
            if zone is not None:
                found[id_] = zone
        return found

    def organisation(self, table: CustomerTable) -> OrganisationTable | None:
        """The organisation of a team; nothing for an organisation."""
        found = self.tables.customers.get(table.organisation) if isinstance(table, TeamTable) else None
        return found if isinstance(found, OrganisationTable) else None

    def route_name(self, table: CustomerTable) -> str | None:
        """The route of a customer, its organisation's if need be."""
        return table.route or getattr(self.organisation(table), "route", None)

    def route(self, table: CustomerTable | None) -> Route | None:
        """The known route of a customer."""
        name = None if table is None else self.route_name(table)
        return None if name is None or self.routes is None else self.routes.get(name)

    def span(self, grant: GrantTable) -> tuple[datetime, datetime] | None:
        """From when until when, in UTC; nothing when that hangs on a time zone nobody knows."""
        zone = self.zones.get(grant.customer)
        return None if zone is None else (instant(grant.from_, zone), instant(grant.until, zone))


def time_zone(name: str) -> ZoneInfo | None:
    """Find an IANA time zone."""
    try:
        return ZoneInfo(name)
    # A folder of the database ("Europe") and a path out of it fail in ways of their own.
    except (OSError, ValueError, KeyError):
        return None


def instant(moment: date, zone: ZoneInfo) -> datetime:
    """Give the instant meant: a date is 00:00 in the customer's zone."""
    if isinstance(moment, datetime):
        return moment.astimezone(UTC)
    return datetime.combine(moment, time(), zone).astimezone(UTC)


def complaints(entries: Entries) -> Iterator[Complaint]:
    """Everything that is wrong between the tables."""
    yield from _partners(entries)
    for id_, table in entries.tables.customers.items():
        place = ("customers", id_)
        yield from _customer(entries, place, table)
        if isinstance(table, TeamTable):
            yield from _team(entries, place, table)
    yield from _sources(entries)
    yield from _endpoints(entries)
    for index, grant in zip(entries.places, entries.tables.grants, strict=True):
        yield from _grant(entries, ("grants", index), grant)
    yield from _same_ids(entries)
    yield from _aliases(entries)
    yield from _overlaps(entries)


def _unknown(word: str, what: str, known: Collection[str]) -> str:
    hint = words.near(word, known) or (f"; there is {words.listed(known, 'and')}" if known else "")
    return f"there is no {what} {words.echo(word)}{hint}"


def _partners(entries: Entries) -> Iterator[Complaint]:
    clients: dict[tuple[str, str], Place] = {}
    for id_, partner in entries.tables.partners.items():
        for index, entry in enumerate(partner.authentication):
            if not isinstance(entry, AccessToken):
                continue
            place = ("partners", id_, "authentication", index)
            if entries.issuers is not None and entry.issuer not in entries.issuers:
                yield Complaint((*place, "issuer"), _unknown(entry.issuer, "issuer", entries.issuers))
            first = clients.setdefault((entry.issuer, entry.client_id), place)
            if first != place:
                message = "this client of this issuer already stands for the partner"
                yield Complaint((*place, "client_id"), message, first, "one token cannot name two partners")


def _customer(entries: Entries, place: Place, table: CustomerTable) -> Iterator[Complaint]:
    if entries.routes is not None and table.route is not None and table.route not in entries.routes:
        yield Complaint((*place, "route"), _unknown(table.route, "route", entries.routes) + " in gateway.toml")
    if table.time_zone is not None and time_zone(table.time_zone) is None:
        hint = words.near(table.time_zone, available_timezones())
        message = f'{words.echo(table.time_zone)} is not a time zone such as "Europe/London"'
        yield Complaint((*place, "time_zone"), message + hint)


def _team(entries: Entries, place: Place, table: TeamTable) -> Iterator[Complaint]:
    organisation = entries.organisation(table)
    if organisation is None:
        known = {id_ for id_, other in entries.tables.customers.items() if isinstance(other, OrganisationTable)}
        if table.organisation not in entries.customers:
            yield Complaint((*place, "organisation"), _unknown(table.organisation, "organisation", known))
        elif isinstance(entries.tables.customers.get(table.organisation), TeamTable):
            yield Complaint((*place, "organisation"), f"{words.echo(table.organisation)} is a team itself")
        return
    for index, label in enumerate(table.privacy_labels):
        if label not in organisation.privacy_labels:
            has = words.listed(organisation.privacy_labels, "and")
            message = f"{label} is beyond the team's organisation, which has {has}"
            yield Complaint((*place, "privacy_labels", index), message)


def _sources(entries: Entries) -> Iterator[Complaint]:
    """Two customers of one name on one route: nobody could tell whose an appointment is."""
    seen: dict[tuple[str | None, str], Place] = {}
    for id_, table in entries.tables.customers.items():
        key = "source_organisation" if isinstance(table, OrganisationTable) else "source_team"
        source = table.source_organisation if isinstance(table, OrganisationTable) else table.source_team
        place = ("customers", id_, key)
        first = seen.setdefault((entries.route_name(table), source), place)
        if first != place:
            message = f"{words.echo(source)} already is {words.echo(str(first[1]))} on the same route,"
            yield Complaint(place, message, first, "an appointment must have one owner")


def _endpoints(entries: Entries) -> Iterator[Complaint]:
    first: dict[str, Place] = {}
    for id_, table in entries.tables.customers.items():
        route = entries.route(table)
        if route is None or route.ownership is not Ownership.WHOLE_ENDPOINT:
            continue
        place: Place = ("customers", id_)
        if isinstance(table, TeamTable):
            message = f"the route {words.echo(route.name)} takes everything for one organisation's"
            yield Complaint(place, f"{message}: it cannot tell what is a team's")
        elif first.setdefault(route.name, place) != place:
            message = f"the route {words.echo(route.name)} takes everything for one organisation's, which is"
            yield Complaint(place, f"{message} {words.echo(str(first[route.name][1]))}", first[route.name])


def _grant(entries: Entries, place: Place, grant: GrantTable) -> Iterator[Complaint]:
    customer = entries.tables.customers.get(grant.customer)
    if grant.customer not in entries.customers:
        yield Complaint((*place, "customer"), _unknown(grant.customer, "customer", entries.customers))
    if grant.partner not in entries.partners:
        yield Complaint((*place, "partner"), _unknown(grant.partner, "partner", entries.partners))
    span = entries.span(grant)
    if span is not None and span[1] <= span[0]:
        yield Complaint((*place, "until"), "must be later than from: at until the grant has already ended")
    if customer is not None:
        for index, label in enumerate(grant.privacy_labels or ()):
            if label not in customer.privacy_labels:
                message = f"{label} is beyond the customer, which has {words.listed(customer.privacy_labels, 'and')}"
                yield Complaint((*place, "privacy_labels", index), message)
    yield from _operations(place, grant)
    yield from _route(entries, place, grant, entries.route(customer))


def unread_references(entries: Entries, grants: object) -> Iterator[Complaint]:
    """What can be told of grants whose shape is wrong: whether they name anybody."""
    for index, grant in enumerate(grants if isinstance(grants, list) else ()):
        if index in entries.places or not isinstance(grant, dict):
            continue
        for key, known in (("customer", entries.customers), ("partner", entries.partners)):
            word = grant.get(key)
            if isinstance(word, str) and word and word.isprintable() and "*" not in word and word not in known:
                yield Complaint(("grants", index, key), _unknown(word, key, known))


def _operations(place: Place, grant: GrantTable) -> Iterator[Complaint]:
    if Operation.READ not in grant.operations:
        message = f"{words.listed(grant.operations, 'and')} cannot be granted without read"
        yield Complaint((*place, "operations"), f'{message}; add "read"')
    for table, operation in ((grant.change, Operation.CHANGE), (grant.cancel, Operation.CANCEL)):
        if table is not None and operation not in grant.operations:
            message = f"limits an operation that is not granted; add {words.echo(operation)} to operations"
            yield Complaint((*place, operation.value), f"{message} or remove this")


def _route(entries: Entries, place: Place, grant: GrantTable, route: Route | None) -> Iterator[Complaint]:
    """What the way to PKB asks for, or cannot do."""
    if route is None:
        return
    fields = grant.change.fields if grant.change is not None else None
    for index, name in enumerate(fields or ()):
        if name not in FIELDS_BY_ROUTE[route.kind]:
            message = f"{name} cannot be changed on the {route.kind} route {words.echo(route.name)}"
            yield Complaint((*place, "change", "fields", index), message)
    if route.kind is not RouteKind.HL7:
        return
    if grant.hl7_alias is None:
        message = (
            f"the hl7 route {words.echo(route.name)} needs the key hl7_alias, the alias PKB issued for this customer"
        )
        yield Complaint(place, message)
    partner = entries.tables.partners.get(grant.partner)
    writes = {Operation.CHANGE, Operation.CANCEL} & set(grant.operations)
    if partner is not None and partner.pkb is None and writes:
        message = f"{words.echo(grant.partner)} needs pkb = {{ hl7_username, hl7_password }} to write on an hl7 route"
        yield Complaint((*place, "partner"), message)


def _same_ids(entries: Entries) -> Iterator[Complaint]:
    seen: dict[str, Place] = {}
    for index, grant in zip(entries.places, entries.tables.grants, strict=True):
        place: Place = ("grants", index, "id")
        first = seen.setdefault(grant.id, place)
        if first != place:
            yield Complaint(place, f"{words.echo(grant.id)} is the id of another grant", first)


def _aliases(entries: Entries) -> Iterator[Complaint]:
    """PKB takes a message for the customer whose alias it carries: another's would write to another's patients."""
    seen: dict[tuple[str, str, str], tuple[str, Place]] = {}
    for index, grant in zip(entries.places, entries.tables.grants, strict=True):
        table = entries.tables.customers.get(grant.customer)
        route = entries.route(table)
        if table is None or route is None or route.kind is not RouteKind.HL7 or grant.hl7_alias is None:
            continue
        owner = table.organisation if isinstance(table, TeamTable) else grant.customer
        place: Place = ("grants", index, "hl7_alias")
        first, where = seen.setdefault((route.name, grant.partner, grant.hl7_alias), (owner, place))
        if first != owner:
            yield Complaint(place, f"{words.echo(grant.hl7_alias)} already stands for {words.echo(first)}", where)


def _overlaps(entries: Entries) -> Iterator[Complaint]:
    """Two grants of one pair in force at once: nobody could say which one decides."""
    pairs: dict[tuple[str, str, bool], list[tuple[datetime, datetime, int, str]]] = {}
    for index, grant in zip(entries.places, entries.tables.grants, strict=True):
        span = entries.span(grant)
        if span is not None and span[0] < span[1]:
            pairs.setdefault((grant.customer, grant.partner, grant.shadow), []).append((*span, index, grant.id))
    for (customer, partner, shadow), spans in pairs.items():
        spans.sort()
        longest = spans[0]
        for later in spans[1:]:
            if later[0] < longest[1]:
                first, second = sorted((longest, later), key=lambda each: each[2])
                kind = "shadow grant" if shadow else "grant"
                message = f"{words.echo(second[3])} overlaps in time with the {kind} {words.echo(first[3])}"
                advice = f"{words.echo(customer)} may give {words.echo(partner)} only one at a time"
                yield Complaint(("grants", second[2]), message, ("grants", first[2]), advice)
            longest = max(longest, later, key=lambda each: each[1])
