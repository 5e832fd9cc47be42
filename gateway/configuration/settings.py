"""The settings of the process, as values. Their annotations are the shape of gateway.toml."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo

from gateway.configuration import addresses, quantities, words
from gateway.configuration import settings_words as read
from gateway.configuration.secret import Secret
from gateway.configuration.shape import Exact, Id, Name, SecretReference, Whole, YesNo, leaf, leaf_here, reading_of
from gateway.domain.grant import Ownership, Rate, Route, RouteKind

ALGORITHMS: Final = ("ES256", "ES384", "PS256", "RS256", "RS384", "RS512", "EdDSA")
_STRICT: Final = ConfigDict(extra="forbid")
_TWENTY: Final = Rate(20, 1)
_FIVE: Final = Rate(5, 1)

Duration = Annotated[timedelta, *leaf(quantities.positive_duration, pattern=quantities.DURATION_PATTERN)]
Pause = Annotated[timedelta, *leaf(quantities.duration, pattern=quantities.DURATION_PATTERN)]
Frequency = Annotated[Rate, *leaf(quantities.rate, pattern=quantities.RATE_PATTERN)]
Size = Annotated[int, *leaf(quantities.size, pattern=quantities.SIZE_PATTERN)]
Port = Annotated[Whole, Field(ge=0, le=65535)]
Count = Annotated[Whole, Field(ge=1, le=100_000)]
Host = Annotated[str, *leaf(addresses.host)]
Location = Annotated[Path, *leaf_here(read.path)]
Upstream = Annotated[str, *leaf_here(read.upstream, pattern="^https?://")]
SecureUrl = Annotated[str, *leaf(addresses.secure, pattern="^https?://")]
Login = Annotated[Secret, *leaf_here(read.reference_or_text)]
OwnershipName = Annotated[Ownership, *leaf(words.one_of(Ownership, "a way to tell the owner"), enum=list(Ownership))]
FhirVersion = Literal["R4", "STU3"]


def _bounded(shortest: timedelta, longest: timedelta, message: str) -> AfterValidator:
    def check(value: timedelta) -> timedelta:
        if not shortest <= value <= longest:
            raise ValueError(message)
        return value

    return AfterValidator(check)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSettings:
    """What must outlive the process."""

    __pydantic_config__: ClassVar = _STRICT
    url: Annotated[Secret, *leaf_here(read.state_url)]
    """`sqlite:////absolute/path`, or a PostgreSQL address that may hold a password."""
    keep: Annotated[Duration, _bounded(timedelta(hours=24), quantities.LONGEST, "must be at least 24h")] = timedelta(30)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """The gateway's own TLS towards partners."""

    __pydantic_config__: ClassVar = _STRICT
    certificate: SecretReference
    key: SecretReference
    client_ca: SecretReference | None = None
    """None: every client may connect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSettings:
    """The side towards partners."""

    __pydantic_config__: ClassVar = _STRICT
    host: Host = "127.0.0.1"
    port: Port = 8080
    workers: Annotated[Whole, Field(ge=1, le=64)] = 1
    trusted_proxies: tuple[Annotated[str, *leaf(addresses.network)], ...] = ()
    tls: TlsSettings | None = None
    """None: plain http, for a proxy in front."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A person at the admin side, known by the SHA-256 of a token."""

    __pydantic_config__: ClassVar = _STRICT
    name: Name
    token_sha256: Annotated[str, *leaf(read.sha256, pattern="^[0-9a-f]{64}$")] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """The side towards operators."""

    __pydantic_config__: ClassVar = _STRICT
    host: Host = "127.0.0.1"
    port: Port = 9090
    hosts: tuple[Exact, ...] = ()
    operators: tuple[Operator, ...] = ()


def _guarded(admin: AdminSettings, info: ValidationInfo) -> AdminSettings:
    if not addresses.is_loopback(admin.host) and not admin.operators:
        read.allow(read.INSECURE_ADMIN, reading_of(info), "anybody on the network could look in without operators")
    names = [operator.name for operator in admin.operators]
    if len(set(names)) != len(names):
        raise ValueError("two operators have the same name")
    return admin


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudonymKey:
    """A key that older records name patients with."""

    __pydantic_config__: ClassVar = _STRICT
    id: Annotated[str, *leaf(read.key_id, pattern="^k[1-9][0-9]{0,5}$")]
    key: SecretReference


@dataclass(frozen=True, slots=True, kw_only=True)
class UnauthenticatedSettings:
    """How many refusals of unknown callers are recorded one by one."""

    __pydantic_config__: ClassVar = _STRICT
    process: Frequency = _TWENTY
    client: Frequency = _FIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """The audit stream."""

    __pydantic_config__: ClassVar = _STRICT
    directory: Location
    pseudonym_key: SecretReference
    pseudonym_keys: tuple[PseudonymKey, ...] = ()
    signing_key: SecretReference | None = None
    """None: no checkpoint is signed."""
    unauthenticated: UnauthenticatedSettings = UnauthenticatedSettings()
    reserve: Size = 64 * 1024**2
    keep: Annotated[Duration, _bounded(timedelta(30), quantities.LONGEST, "must be at least 30d")] = timedelta(2920)
    checkpoints: Location | None = None
    """The file that every checkpoint is written to as well."""
    stdout: YesNo = False

    @property
    def pseudonym_key_id(self) -> str:
        """The id of `pseudonym_key`: one above the highest old one."""
        return f"k{1 + max((int(old.id[1:]) for old in self.pseudonym_keys), default=0)}"


def _sensible(audit: AuditSettings) -> AuditSettings:
    if audit.checkpoints is not None and audit.signing_key is None:
        raise ValueError("checkpoints are written where there is a signing_key only")
    if audit.checkpoints is not None and audit.checkpoints.is_relative_to(audit.directory):
        raise ValueError("checkpoints belong elsewhere than in the audit's own directory")
    ids = [old.id for old in audit.pseudonym_keys]
    if len(set(ids)) != len(ids):
        raise ValueError("two pseudonym_keys have the same id")
    return audit


@dataclass(frozen=True, slots=True, kw_only=True)
class UnresolvedAfter:
    """When the gateway stops asking how a write ended."""

    __pydantic_config__: ClassVar = _STRICT
    unknown: Duration = timedelta(hours=24)
    accepted: Duration = timedelta(days=14)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """A limit on everything."""

    __pydantic_config__: ClassVar = _STRICT
    body: Size = 64 * 1024
    deadline: Duration = timedelta(seconds=10)
    in_flight: Count = 512
    per_customer: Count = 64
    not_found_step: Pause = timedelta(milliseconds=250)
    write_settles_after: Pause = timedelta(seconds=30)
    unresolved_after: UnresolvedAfter = UnresolvedAfter()
    review_hint_after: Pause = timedelta(minutes=15)
    """When a Task that PKB accepted says that the message may be waiting for review."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerSettings:
    """A foreign issuer of access tokens."""

    __pydantic_config__: ClassVar = _STRICT
    jwks_url: SecureUrl
    audience: Exact
    algorithms: Annotated[
        tuple[Annotated[str, *leaf(words.one_of(ALGORITHMS, "an algorithm taken"), enum=list(ALGORITHMS))], ...],
        Field(min_length=1),
    ]
    partner_claim: Exact = "azp"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """The gateway's own tokens, and the issuers it believes besides."""

    __pydantic_config__: ClassVar = _STRICT
    signing_key: SecretReference
    lifetime: Annotated[Duration, _bounded(timedelta(seconds=1), timedelta(hours=1), "must be between 1s and 1h")] = (
        timedelta(seconds=300)
    )
    issuers: dict[SecureUrl, IssuerSettings] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenServer:
    """Where the gateway gets its own tokens for PKB."""

    __pydantic_config__: ClassVar = _STRICT
    url: Upstream
    client_id: Login
    client_secret: SecretReference
    style: Literal["body", "basic"] = "body"


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerFhirRoute:
    """A customer's FHIR box: read and written."""

    __pydantic_config__: ClassVar = _STRICT
    kind: Literal["customer-fhir"]
    base_url: Upstream
    fhir_version: FhirVersion = "R4"
    ownership: OwnershipName
    token: TokenServer
    cancelation_reason: Literal["extension", "drop"] = "extension"
    """Where a cancel's reason goes in STU3, which has no element for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregatedRead:
    """PKB's aggregated FHIR, which shows what HL7 has done."""

    __pydantic_config__: ClassVar = _STRICT
    base_url: Upstream
    fhir_version: FhirVersion = "R4"
    ownership: OwnershipName
    placer_id_system: Exact
    token: TokenServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Hl7Route:
    """PKB's HL7 endpoint for writing, its aggregated FHIR for reading."""

    __pydantic_config__: ClassVar = _STRICT
    kind: Literal["hl7"]
    url: Upstream
    processing_id: Literal["P", "T", "D"] = "P"
    read: AggregatedRead


RouteSettings = CustomerFhirRoute | Hl7Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything gateway.toml says, secrets resolved, paths absolute."""

    __pydantic_config__: ClassVar = _STRICT
    public_url: Annotated[str, *leaf_here(read.public_url, pattern="^https?://")]
    grants: Location
    state: StateSettings
    listen: ListenSettings = ListenSettings()
    admin: Annotated[AdminSettings, AfterValidator(_guarded)] = AdminSettings()
    audit: Annotated[AuditSettings, AfterValidator(_sensible)]
    limits: LimitSettings = LimitSettings()
    tokens: TokenSettings
    routes: dict[Id, Annotated[RouteSettings, Field(discriminator="kind")]] = field(default_factory=dict)
    codes_system: SecureUrl = "https://pkb-gateway.example/codes"

    def policy_routes(self) -> MappingProxyType[str, Route]:
        """What a decision needs to know of each route."""
        return MappingProxyType({name: _route(name, settings) for name, settings in self.routes.items()})


def _route(name: str, settings: RouteSettings) -> Route:
    match settings:
        case CustomerFhirRoute():
            return Route(name, RouteKind.CUSTOMER_FHIR, settings.ownership)
        case Hl7Route():
            return Route(name, RouteKind.HL7, settings.read.ownership)
