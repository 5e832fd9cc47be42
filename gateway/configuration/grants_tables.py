"""The shape of the grants file, table by table. What each key means to a person is in its description."""

from datetime import date, timedelta
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from gateway.configuration import addresses, quantities, words
from gateway.configuration.shape import Exact, Id, Name, SecretReference, Whole, leaf
from gateway.domain.appointment import CANCEL_REASONS
from gateway.domain.grant import Coding, Operation, Rate
from gateway.domain.grant import Field as ChangeField

PRIVACY_LABELS: Final = frozenset({"GENERAL_HEALTH", "MENTAL_HEALTH", "SEXUAL_HEALTH", "SOCIAL_CARE"})
"""PKB's code system `privacy-label`, whole."""

Duration = Annotated[timedelta, *leaf(quantities.duration, pattern=quantities.DURATION_PATTERN)]
Frequency = Annotated[Rate, *leaf(quantities.rate, pattern=quantities.RATE_PATTERN)]
Label = Annotated[str, *leaf(words.one_of(PRIVACY_LABELS, "a privacy label of PKB"), enum=sorted(PRIVACY_LABELS))]
Labels = Annotated[list[Label], Field(min_length=1)]
CustomerId = Annotated[str, *leaf(words.customer_identifier, pattern=words.ID_PATTERN)]
Source = Annotated[str, *leaf(words.source, pattern=words.SOURCE_PATTERN)]
OperationName = Annotated[Operation, *leaf(words.one_of(Operation, "an operation"), enum=list(Operation))]
FieldName = Annotated[
    ChangeField, *leaf(words.one_of(ChangeField, "a field that can be changed"), enum=list(ChangeField))
]
Reason = Annotated[
    str,
    *leaf(
        words.one_of(CANCEL_REASONS, "a code of FHIR's appointment-cancellation-reason"), enum=sorted(CANCEL_REASONS)
    ),
]
Specialty = Annotated[Coding, *leaf(words.specialty)]
Alias = Annotated[str, *leaf(words.hl7_alias, minLength=1, maxLength=64)]
Moment = Annotated[
    date,
    PlainValidator(words.moment),
    # Editors show a TOML date to a schema as text.
    WithJsonSchema({"type": "string", "anyOf": [{"format": "date"}, {"format": "date-time"}]}),
]
SecureUrl = Annotated[str, *leaf(addresses.secure, pattern="^https://")]


class Table(BaseModel):
    """A table of a TOML file: no key it does not know, no type that is not meant."""

    # Only the shape of a whole file checks anything, so no table is made ready on its own, nor that of a file unread.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class PrivateKeyJwt(Table):
    """A partner that proves itself with its own private key (SMART Backend Services)."""

    method: Literal["private_key_jwt"]
    jwks_file: Annotated[Name | None, Field(description="the file with the partner's public keys")] = None
    jwks_url: Annotated[SecureUrl | None, Field(description="where the partner publishes its public keys")] = None


def _one_place(entry: PrivateKeyJwt) -> PrivateKeyJwt:
    if (entry.jwks_file is None) == (entry.jwks_url is None):
        raise ValueError("give either jwks_file or jwks_url, and not both")
    return entry


class AccessToken(Table):
    """A partner that comes with a token of an issuer named in gateway.toml."""

    method: Literal["access_token"]
    issuer: Annotated[SecureUrl, Field(description="the issuer's address, as in gateway.toml")]
    client_id: Annotated[Exact, Field(description="the partner's name at that issuer")]


class PkbAccess(Table):
    """The partner's own credentials at PKB's HL7 endpoint."""

    hl7_username: SecretReference
    hl7_password: SecretReference


Authentication = Annotated[
    Annotated[PrivateKeyJwt, AfterValidator(_one_place)] | AccessToken, Field(discriminator="method")
]


class PartnerTable(Table):
    """A third party to which PKB has granted an identifier."""

    name: Annotated[Name, Field(description="the partner's name for people")]
    pkb_client_id: Annotated[
        Exact, Field(description="the identifier PKB granted; a partner without one is not admitted")
    ]
    status: Literal["active", "suspended"] = "active"
    rate: Frequency = Rate(600, 60)
    authentication: list[Authentication] = []
    pkb: PkbAccess | None = None


class _Customer(Table):
    name: Annotated[Name, Field(description="the customer's name for people")]
    ods_code: Exact | None = None
    org_public_id: Annotated[Exact | None, Field(description="PKB's UUID of it")] = None
    privacy_labels: Annotated[Labels, Field(description="the customer's own level of access at PKB")]


class OrganisationTable(_Customer):
    """An organisation that may grant a partner access."""

    kind: Literal["organisation"]
    source_organisation: Annotated[
        Source, Field(description='how PKB\'s resources name it, such as "Organization/airedale"')
    ]
    route: Annotated[Id, Field(description="the route in gateway.toml that leads to its appointments")]
    time_zone: Exact = "Europe/London"
    notice: Duration = timedelta(0)


class TeamTable(_Customer):
    """A team of an organisation."""

    kind: Literal["team"]
    organisation: Annotated[Id, Field(description="the id of the organisation it belongs to")]
    source_team: Annotated[Source, Field(description="how PKB's resources name it")]
    route: Annotated[Id | None, Field(description="its organisation's unless given")] = None
    time_zone: Annotated[Exact | None, Field(description="its organisation's unless given")] = None
    notice: Annotated[Duration | None, Field(description="its organisation's unless given")] = None


class ChangeTable(Table):
    """Limits of the operation change."""

    fields: Annotated[list[FieldName], Field(min_length=1)] | None = None
    within: Annotated[Duration | None, Field(description="how far the new start may be from the present one")] = None


class CancelTable(Table):
    """Limits of the operation cancel."""

    reasons: Annotated[list[Reason], Field(min_length=1)] | None = None


class GrantTable(Table):
    """Customer to partner: which operations, on which appointments, from when until when."""

    id: Annotated[Id, Field(description="a name of its own, told in the audit")]
    customer: Annotated[Exact, Field(description="the id of the customer that grants")]
    partner: Annotated[Exact, Field(description="the id of the partner that may act")]
    operations: Annotated[
        list[OperationName], Field(min_length=1, description="any of read, change and cancel, as a list")
    ]
    from_: Annotated[Moment, Field(alias="from", description="the first day, such as 2026-01-31")]
    until: Annotated[Moment, Field(description="the day it ends, which is no longer part of it")]
    privacy_labels: Labels | None = None
    specialties: Annotated[list[Specialty], Field(min_length=1)] | None = None
    notice: Duration | None = None
    patient: Literal["optional", "required"] | None = None
    change: ChangeTable | None = None
    cancel: CancelTable | None = None
    rate: Frequency | None = None
    hl7_alias: Annotated[Alias | None, Field(description="needed on an hl7 route")] = None
    shadow: bool = False
    approved_by: Name | None = None


CustomerTable = OrganisationTable | TeamTable


class GrantsTables(Table):
    """Who may act for whom."""

    version: Annotated[Whole, Field(ge=1, le=1, description="the version of this file's layout, 1")]
    partners: dict[Id, PartnerTable] = {}
    customers: dict[CustomerId, Annotated[CustomerTable, Field(discriminator="kind")]] = {}
    grants: list[GrantTable] = []
