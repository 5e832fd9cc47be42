"""The customers of the demonstration: what PKB knows of each organisation and team, and who may call."""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Customer:
    """An organisation, or a team of one, whose appointments are in a box."""

    id: str
    name: str
    kind: Literal["organisation", "team"]
    source: str  # the Organization that its patients' managingOrganization names
    public_id: str  # PKB's UUID
    box: str
    ods_code: str | None = None
    organisation: str | None = None  # of a team

    @property
    def names(self) -> frozenset[str]:
        """A team's appointments are its organisation's too."""
        return frozenset({self.id} if self.organisation is None else {self.id, self.organisation})


@dataclass(frozen=True, slots=True)
class Client:
    """A system client of PKB's identity server, and the boxes it was let into."""

    client_id: str
    client_secret: str
    boxes: frozenset[str]


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
BY_SOURCE: Final = {customer.source: customer for customer in CUSTOMERS.values()}

GATEWAY: Final = Client("pkb-gateway", "sandbox-gateway-secret", frozenset({BOX}))
STRANGER: Final = Client("stranger", "sandbox-stranger-secret", frozenset())
"""Gets tokens like anyone (PKB issues them regardless of grants) and is let into no box."""

CLIENTS: Final = {client.client_id: client for client in (GATEWAY, STRANGER)}
