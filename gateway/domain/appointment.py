"""An appointment as PKB's own resources tell it, and the commands a partner may give."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from gateway.domain.grant import Coding, Field, Operation

NHS_NUMBER_SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"
SNOMED_CT = "http://snomed.info/sct"
CANCEL_REASON_SYSTEM = "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason"
GENERAL_HEALTH = "GENERAL_HEALTH"
"""What PKB takes an appointment without a privacy label to be."""

CANCEL_REASONS: frozenset[str] = frozenset(
    [
        "pat",
        "pat-crs",
        "pat-cpp",
        "pat-dec",
        "pat-fb",
        "pat-lt",
        "pat-mt",
        "pat-mv",
        "pat-preg",
        "pat-swl",
        "pat-ucp",
        "prov",
        "prov-pers",
        "prov-dch",
        "prov-edu",
        "prov-hosp",
        "prov-labs",
        "prov-mss",
        "prov-onc",
        "maint",
        "meds-inc",
        "other",
        "oth-cms",
        "oth-err",
        "oth-fin",
        "oth-iv",
        "oth-int",
        "oth-mu",
        "oth-room",
        "oth-oerr",
        "oth-swie",
        "oth-weath",
    ]
)
"""The codes of the FHIR R4 code system `appointment-cancellation-reason`."""


class Status(StrEnum):
    """FHIR R4 `Appointment.status`."""

    PROPOSED = "proposed"
    PENDING = "pending"
    BOOKED = "booked"
    ARRIVED = "arrived"
    FULFILLED = "fulfilled"
    CANCELLED = "cancelled"
    NOSHOW = "noshow"
    ENTERED_IN_ERROR = "entered-in-error"
    CHECKED_IN = "checked-in"
    WAITLIST = "waitlist"


CHANGEABLE = frozenset({Status.BOOKED, Status.PENDING, Status.PROPOSED, Status.WAITLIST})


@dataclass(frozen=True, slots=True)
class Provenance:
    """What PKB's resources say about whose an appointment is. Nothing the partner says counts.

    References are relative, as written; absolute and contained ones never get here.
    """

    patients: int
    """How many different patients take part; anything but one proves nothing."""
    managing_organisation: str | None = None
    """`Patient.managingOrganization` of the one patient."""
    source_organisations: tuple[str, ...] = ()
    """References in `meta` extensions `source-organisation`, else codes of `meta.security` as references."""
    source_teams: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Patient:
    """The patient of an appointment, as far as a check against the partner's words needs it."""

    reference: str
    nhs_number: str | None = None
    birth_date: date | None = None


@dataclass(frozen=True, slots=True)
class Appointment:
    """The facts of one appointment at one version, read from PKB for this request."""

    id: str
    version: str
    status: Status
    start: datetime | None
    end: datetime | None
    provenance: Provenance
    patient: Patient | None
    labels: frozenset[str] = frozenset({GENERAL_HEALTH})
    specialties: frozenset[Coding] = frozenset()
    comment: str | None = None
    cancel_reason: str | None = None
    """The code in FHIR's system of reasons, once cancelled."""
    reason_shown: bool = True
    """Whether a read of this route can show a cancel's reason at all; HL7 and some STU3 boxes have no place for it."""
    locations: tuple[str | None, ...] = ()
    """The display of each Location that takes part."""
    places: tuple[int, ...] = ()
    """Where these stand among the participants, counted from 0."""
    identifiers: frozenset[Coding] = frozenset()
    """Business identifiers as system and value."""
    placer_id: str | None = None
    """What PKB's HL7 side calls the appointment (SCH-1.1); None where there is no such name, or not exactly one."""
    participants: tuple[str | None, ...] = ()
    """The display of each participant that is neither the patient nor a Location, in order."""

    def __post_init__(self) -> None:
        """Without a privacy label an appointment is what PKB takes it to be, or every grant would cover it."""
        if not self.labels:
            # A frozen dataclass sets its derived fields this way.
            object.__setattr__(self, "labels", frozenset({GENERAL_HEALTH}))


@dataclass(frozen=True, slots=True)
class PatientClaim:
    """Whom the partner believes the appointment to be for."""

    nhs_number: str | None = None
    birth_date: date | None = None

    @property
    def given(self) -> bool:
        """Whether the partner said anything at all."""
        return self.nhs_number is not None or self.birth_date is not None

    @property
    def complete(self) -> bool:
        """Whether both were said, as a grant may require."""
        return self.nhs_number is not None and self.birth_date is not None


NO_CLAIM = PatientClaim()


@dataclass(frozen=True, slots=True)
class Instant:
    """A point in time together with the text the partner wrote it in, which is what PKB gets."""

    at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class Read:
    """Look at an appointment."""

    operation = Operation.READ
    claim = NO_CLAIM


@dataclass(frozen=True, slots=True)
class Cancel:
    """Call an appointment off.

    `codings` holds the partner's codes as written; the rules want exactly one of FHIR's system.
    """

    codings: tuple[Coding, ...]
    reason_text: str | None = None
    comment: str | None = None
    claim: PatientClaim = NO_CLAIM

    operation = Operation.CANCEL

    @property
    def reason(self) -> str | None:
        """The one code in FHIR's system of reasons, if that is what was given."""
        if len(self.codings) == 1 and self.codings[0].system == CANCEL_REASON_SYSTEM:
            return self.codings[0].code
        return None


@dataclass(frozen=True, slots=True)
class Change:
    """Give an appointment another time, comment, place or management page. None leaves a value alone."""

    start: Instant | None = None
    end: Instant | None = None
    comment: str | None = None
    location: str | None = None
    management_url: str | None = None
    claim: PatientClaim = NO_CLAIM

    operation = Operation.CHANGE

    @property
    def fields(self) -> frozenset[Field]:
        """What the partner asked to change."""
        given = {
            Field.START: self.start,
            Field.END: self.end,
            Field.COMMENT: self.comment,
            Field.LOCATION: self.location,
            Field.MANAGEMENT_URL: self.management_url,
        }
        return frozenset(field for field, value in given.items() if value is not None)


Write = Cancel | Change
Command = Read | Write
