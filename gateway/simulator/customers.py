"""The customers of the demonstration: what PKB knows of each organisation and team, and who may call."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Customer:
    """An organisation, or a team of one, whose appointments are in a box."""

    id: str
    name: str
    kind: Literal["organisation", "team"]
    source: str  # the Organization that its patients' managingOrganization names
    public_id: str  # PKB's UUID
    box: str  # where its data is: a Customer FHIR box, or what PKB keeps of HL7 messages
    ods_code: str | None = None
    organisation: str | None = None  # of a team
    route: Literal["customer-fhir", "hl7"] = "customer-fhir"
    fhir_version: Literal["R4", "STU3"] = "R4"
    time_zone: str = "Europe/London"

    @property
    def names(self) -> frozenset[str]:
        """A team's appointments are its organisation's too."""
        return frozenset({self.id} if self.organisation is None else {self.id, self.organisation})

    @property
    def hospital(self) -> str:
        """The organisation's id, of a team too."""
        return self.organisation or self.id


@dataclass(frozen=True, slots=True)
class Client:
    """A system client of PKB's identity server, the boxes it was let into, and whose data it sees on Aggregated."""

    client_id: str
    client_secret: str
    boxes: frozenset[str]
    aggregated: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Hl7Credentials:
    """What a partner authenticates its HL7 connection with, and the aliases PKB gave it: alias → customer."""

    username: str
    password: str = field(repr=False)
    aliases: Mapping[str, str]


BOX: Final = "airedale"
"""The one box that Airedale and Wharfedale share, as organisations of one feed do."""

CUSTOMERS: Final = {
    customer.id: customer
    for customer in (
        Customer(
            id="airedale",
            name="Airedale NHS Foundation Trust",
            kind="organisation",
            source="Organization/airedale",
            public_id="3d8afd18-5a0e-4c1f-9a57-6b8f2f1c7a01",
            box=BOX,
            ods_code="RCF",
        ),
        Customer(
            id="airedale-cardiology",
            name="Cardiology",
            kind="team",
            source="Organization/airedale-cardiology",
            public_id="b2c7e7a4-90c3-4f0e-8f5d-1d3f4f0b7a02",
            box=BOX,
            organisation="airedale",
        ),
        Customer(
            id="wharfedale",
            name="Wharfedale NHS Trust",
            kind="organisation",
            source="Organization/wharfedale",
            public_id="9e41c0d6-2b7d-4a39-8c11-5a0c9d3e7a03",
            box=BOX,
            ods_code="RZW",
        ),
    )
}
"""Whose appointments `Simulator.appointments` lists unless asked for more."""

BRADFORD: Final = Customer(
    id="bradford",
    name="Bradford NHS Foundation Trust",
    kind="organisation",
    source="Organization/bradford",
    public_id="51b0a3de-6f3c-4d0b-a1f4-0c7d2e9b7a04",
    box="bradford",
    ods_code="RAE",
    route="hl7",
)
"""A hospital that feeds PKB by HL7 only; its data is read through the Aggregated endpoint."""

LEEDS: Final = Customer(
    id="leeds",
    name="Leeds NHS Trust",
    kind="organisation",
    source="Organization/leeds",
    public_id="c8d5f1b2-7e4a-4b6c-9d2f-3a1e5c8b7a05",
    box="leeds",
    ods_code="RR8",
    fhir_version="STU3",
)
"""A hospital with a box of the older FHIR version."""

EVERY_CUSTOMER: Final = {**CUSTOMERS, BRADFORD.id: BRADFORD, LEEDS.id: LEEDS}
BOXES: Final = (BOX, LEEDS.box)
BY_SOURCE: Final = {customer.source: customer for customer in EVERY_CUSTOMER.values()}

GATEWAY: Final = Client("pkb-gateway", "sandbox-gateway-secret", frozenset(BOXES))
AGGREGATED_READER: Final = Client(
    "pkb-gateway-aggregated", "sandbox-aggregated-secret", frozenset(), frozenset({BRADFORD.id})
)
STRANGER: Final = Client("stranger", "sandbox-stranger-secret", frozenset())
"""Gets tokens like anyone (PKB issues them regardless of grants) and is let into no box."""

CLIENTS: Final = {client.client_id: client for client in (GATEWAY, AGGREGATED_READER, STRANGER)}

HL7_CREDENTIALS: Final = {
    "swiftbook": Hl7Credentials("partner_swiftbook", "sandbox-swiftbook-hl7", {"bradford": BRADFORD.id}),
    "cardiolink": Hl7Credentials("partner_cardiolink", "sandbox-cardiolink-hl7", {}),
}
"""By partner. CardioLink has a connection, and no customer that lets it use it."""
