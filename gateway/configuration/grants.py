"""The grants file: read, checked against itself and the routes, and turned into a policy."""

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gateway.configuration.cases import ReadAppointment, run_cases
from gateway.configuration.document import Document, read_document
from gateway.configuration.grants_rules import Entries, complaints, unread_references
from gateway.configuration.grants_tables import (
    AccessToken,
    CustomerTable,
    GrantsTables,
    GrantTable,
    OrganisationTable,
    PartnerTable,
    PrivateKeyJwt,
)
from gateway.configuration.problems import Complaint, Place, Problem
from gateway.configuration.secret import Reading, Secret
from gateway.configuration.shape import Shape
from gateway.domain.grant import (
    FIELDS_BY_ROUTE,
    Customer,
    CustomerKind,
    Grant,
    Ownership,
    Partner,
    Policy,
    Route,
    RouteKind,
)

ReadKeys = Callable[[Path], Any]
"""Reads a JWKS file. Raises ValueError with the reason when it holds no usable key."""


@dataclass(frozen=True, slots=True)
class IssuerClient:
    """A partner's name at an issuer of access tokens."""

    issuer: str
    client_id: str


@dataclass(frozen=True, slots=True)
class Hl7Credentials:
    """What PKB's HL7 endpoint knows the partner by."""

    username: Secret
    password: Secret


@dataclass(frozen=True, slots=True)
class Registration:
    """How a partner proves itself to the gateway, and the gateway itself to PKB on its behalf."""

    partner: str
    key_files: tuple[Path, ...] = ()
    key_urls: tuple[str, ...] = ()
    clients: tuple[IssuerClient, ...] = ()
    hl7: Hl7Credentials | None = None


@dataclass(frozen=True, slots=True)
class Grants:
    """Everything one version of the grants file says. Swapped whole, never edited."""

    policy: Policy
    registrations: Mapping[str, Registration]
    keys: Mapping[Path, Any] = field(default_factory=dict, repr=False)
    """What `read_keys` made of each key file."""
    key_digests: Mapping[Path, str] = field(default_factory=dict, repr=False)
    """SHA-256 of each key file: keys rotate without a change of the grants file."""
    clients: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """The partner by issuer and client id there."""
    key_urls: frozenset[str] = frozenset()
    """Where partners publish their keys."""
    failing: tuple[Problem, ...] = ()
    """The customers' own tests that expect a permit and get none, or cannot be run. They keep no file out of force."""

    @property
    def digest(self) -> str:
        """SHA-256 of the grants file's bytes. Routes and keys are not part of it."""
        return self.policy.digest


@dataclass(frozen=True, slots=True)
class GrantsReader:
    """Reads the grants file again and again, in the same surroundings.

    Without `routes` everything that hangs on them stays unchecked and customers get a stand-in: good for comparing two
    files, not for deciding. Without `read_keys` key files need only be there.
    """

    path: Path
    routes: Mapping[str, Route] | None = None
    issuers: Collection[str] | None = None
    read_keys: ReadKeys | None = None
    secrets: bool = True
    key_files: bool = True
    """False: not even looked for."""
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    cases: Path | None = None
    """The customers' own tests, where there are any. A file that permits what one of them forbids is refused."""
    read_case: ReadAppointment | None = None

    def load(self) -> Grants:
        """Read the file as it is now. Raises ConfigurationRefused with everything that is wrong with it."""
        document = read_document(self.path)
        reading = Reading(document.folder, self.secrets, self.environ)
        entries, found = self._entries(document, reading)
        found.extend(complaints(entries))
        keys, digests = self._keys(entries.tables, reading, found)
        if found:
            raise document.refusal(found)
        policy = _policy(document.digest, entries)
        registrations = {
            id_: _registration(id_, table, reading, secrets=self.secrets)
            for id_, table in entries.tables.partners.items()
        }
        return self.completed(policy, registrations, keys, digests)

    def completed(
        self,
        policy: Policy,
        registrations: Mapping[str, Registration],
        keys: Mapping[Path, Any],
        digests: Mapping[Path, str],
    ) -> Grants:
        """Put the customers' own tests to a policy, and it together with all else. Raises ConfigurationRefused."""
        clients = {(at.issuer, at.client_id): id_ for id_, each in registrations.items() for at in each.clients}
        failing = () if self.cases is None else run_cases(self.cases, policy, self.read_case)
        return Grants(
            policy,
            MappingProxyType(registrations),
            MappingProxyType(keys),
            MappingProxyType(digests),
            MappingProxyType(clients),
            frozenset(url for each in registrations.values() for url in each.key_urls),
            failing,
        )

    def _entries(self, document: Document, reading: Reading) -> tuple[Entries, list[Complaint]]:
        """Read the shape. Where it is wrong, the rest is read all the same, so that nothing stays unsaid."""
        values: Mapping[str, Any] = document.values
        found: list[Complaint] = []
        places = tuple(range(len(values["grants"]))) if isinstance(values.get("grants"), list) else ()
        shape = grants_shape()
        tables = shape.read(values, reading)
        if not isinstance(tables, GrantsTables):
            found = tables
            kept, places = _without(values, [complaint.place for complaint in found])
            again = shape.read(kept, reading)
            assert isinstance(again, GrantsTables), "what was broken has been taken out"
            tables = again
        partners, customers = (_names(values.get(key)) for key in ("partners", "customers"))
        entries = Entries(tables, places, partners, customers, self.routes, self.issuers)
        if found:
            found.extend(unread_references(entries, values.get("grants")))
        return entries, found

    def _keys(
        self, tables: GrantsTables, reading: Reading, found: list[Complaint]
    ) -> tuple[dict[Path, Any], dict[Path, str]]:
        keys: dict[Path, Any] = {}
        digests: dict[Path, str] = {}
        for place, name in _key_files(tables) if self.key_files else ():
            path = reading.path(name)
            try:
                digests[path] = hashlib.sha256(path.read_bytes()).hexdigest()
                keys[path] = self.read_keys(path) if self.read_keys is not None else None
            except OSError as error:
                found.append(Complaint(place, f"cannot read {name}: {error.strerror or 'not a plain file'}"))
            except ValueError as error:
                found.append(Complaint(place, f"{name}: {error}"))
        return keys, digests


@cache
def grants_shape() -> Shape[GrantsTables]:
    """The shape of the file; building it costs more than reading a file."""
    return Shape(GrantsTables)


def _names(table: object) -> frozenset[str]:
    return frozenset(table) if isinstance(table, dict) else frozenset()


def _without(values: Mapping[str, Any], broken: Collection[Place]) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Take out every entry with a mistake; the second value says where the grants that stay were."""
    kept: dict[str, Any] = {"version": 1}
    for key in ("partners", "customers"):
        table = values.get(key)
        if isinstance(table, dict):
            kept[key] = {id_: entry for id_, entry in table.items() if (key, id_) not in {at[:2] for at in broken}}
    grants = values.get("grants")
    gone = {at[1] for at in broken if at[0] == "grants" and len(at) > 1}
    places = tuple(index for index in range(len(grants)) if index not in gone) if isinstance(grants, list) else ()
    kept["grants"] = [grants[index] for index in places] if isinstance(grants, list) else []
    return kept, places


def _key_files(tables: GrantsTables) -> Iterator[tuple[Place, str]]:
    for id_, partner in tables.partners.items():
        for index, entry in enumerate(partner.authentication):
            if isinstance(entry, PrivateKeyJwt) and entry.jwks_file is not None:
                yield ("partners", id_, "authentication", index, "jwks_file"), entry.jwks_file


def _registration(id_: str, table: PartnerTable, reading: Reading, *, secrets: bool) -> Registration:
    own = [entry for entry in table.authentication if isinstance(entry, PrivateKeyJwt)]
    foreign = [entry for entry in table.authentication if isinstance(entry, AccessToken)]
    return Registration(
        partner=id_,
        key_files=tuple(reading.path(entry.jwks_file) for entry in own if entry.jwks_file is not None),
        key_urls=tuple(entry.jwks_url for entry in own if entry.jwks_url is not None),
        clients=tuple(IssuerClient(entry.issuer, entry.client_id) for entry in foreign),
        hl7=Hl7Credentials(table.pkb.hl7_username, table.pkb.hl7_password)
        if table.pkb is not None and secrets
        else None,
    )


def _policy(digest: str, entries: Entries) -> Policy:
    tables = entries.tables
    aliased = {entries.route_name(tables.customers[table.customer]) for table in tables.grants if table.hl7_alias}
    customers = {id_: _customer(id_, table, entries, aliased) for id_, table in tables.customers.items()}
    partners = {
        id_: Partner(id_, table.name, table.pkb_client_id, table.rate, table.status == "suspended")
        for id_, table in tables.partners.items()
    }
    grants = tuple(_grant(table, customers[table.customer], entries) for table in tables.grants)
    return Policy(digest, MappingProxyType(partners), MappingProxyType(customers), grants)


def _customer(id_: str, table: CustomerTable, entries: Entries, aliased: Collection[str | None]) -> Customer:
    """Make a customer. Without the settings, a route where a grant has an alias for HL7 is taken to be one of HL7."""
    name = entries.route_name(table)
    assert name is not None, "a team without an organisation is a complaint"
    organisation = entries.organisation(table)
    notice = table.notice if table.notice is not None or organisation is None else organisation.notice
    assert notice is not None
    is_organisation = isinstance(table, OrganisationTable)
    kind = RouteKind.HL7 if name in aliased else RouteKind.CUSTOMER_FHIR
    return Customer(
        id=id_,
        name=table.name,
        kind=CustomerKind.ORGANISATION if is_organisation else CustomerKind.TEAM,
        source=table.source_organisation if isinstance(table, OrganisationTable) else table.source_team,
        route=entries.route(table) or Route(name, kind, Ownership.MANAGING_ORGANISATION),
        time_zone=entries.zones[id_],
        privacy_labels=frozenset(table.privacy_labels),
        organisation=None if isinstance(table, OrganisationTable) else table.organisation,
        ods_code=table.ods_code,
        org_public_id=table.org_public_id,
        notice=notice,
    )


def _grant(table: GrantTable, customer: Customer, entries: Entries) -> Grant:
    span = entries.span(table)
    assert span is not None, "a customer without a time zone is a complaint"
    required = customer.route.kind is RouteKind.HL7 if table.patient is None else table.patient == "required"
    fields = table.change.fields if table.change is not None else None
    reasons = table.cancel.reasons if table.cancel is not None else None
    return Grant(
        id=table.id,
        customer=table.customer,
        partner=table.partner,
        operations=frozenset(table.operations),
        valid_from=span[0],
        valid_until=span[1],
        privacy_labels=frozenset(table.privacy_labels) if table.privacy_labels else customer.privacy_labels,
        notice=table.notice if table.notice is not None else customer.notice,
        patient_required=required,
        change_fields=FIELDS_BY_ROUTE[customer.route.kind] if fields is None else frozenset(fields),
        specialties=None if table.specialties is None else frozenset(table.specialties),
        within=None if table.change is None else table.change.within,
        cancel_reasons=None if reasons is None else frozenset(reasons),
        rate=table.rate,
        hl7_alias=table.hl7_alias,
        shadow=table.shadow,
        approved_by=table.approved_by,
    )
