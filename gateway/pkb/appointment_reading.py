"""FHIR R4 Appointment and Patient documents as facts.

What decides about access is read unforgivingly: a label, a reference or a time that cannot be understood makes the
whole document unreadable, since leaving it out could make an appointment look more open than it is.
"""

import itertools
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from typing import Final, NamedTuple, TypeAlias, cast

from gateway.domain import strict_json
from gateway.domain.appointment import (
    CANCEL_REASON_SYSTEM,
    GENERAL_HEALTH,
    NHS_NUMBER_SYSTEM,
    Appointment,
    Patient,
    Provenance,
    Status,
)
from gateway.domain.grant import Coding
from gateway.domain.strict_json import MalformedJson, Object
from gateway.pkb.answers import invalid

PKB: Final = "http://fhir.patientsknowbest.com"
PRIVACY_LABEL: Final = f"{PKB}/codesystem/privacy-label"
ACTOR_TYPE: Final = f"{PKB}/structuredefinition/appointment-actor-type"
SOURCE_ORGANISATION: Final = (f"{PKB}/structuredefinition/source-organisation", f"{PKB}/codesystem/source-organization")
SOURCE_TEAM: Final = (f"{PKB}/structuredefinition/source-team", f"{PKB}/codesystem/source-team")

DEPTH: Final = 64
UNKNOWN_SOURCE: Final = ""
"""Stands for a source that is named in a way nobody can match; never left out, or another would take its place."""

_RELATIVE: Final = re.compile(r"([A-Z][A-Za-z]*)/([A-Za-z0-9\-.]{1,64})")
_PATIENT: Final = re.compile(r"Patient/([A-Za-z0-9\-.]{1,64})")
_ABSOLUTE: Final = re.compile(r"https?://.+/([A-Z][A-Za-z]*)/[A-Za-z0-9\-.]{1,64}(?:/_history/.+)?")
_VERSION: Final = re.compile(r"[A-Za-z0-9\-._:]{1,64}")
_ETAG: Final = re.compile(r'(?:W/)?"([^"]*)"|([^"\s]+)')
# FHIR R4 `instant`: seconds and offset are not optional.
_INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-](?:0[0-9]|1[0-3]):[0-5][0-9]|[+-]14:00)"
)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EARLIEST_YEAR: Final = 1900
_Code: TypeAlias = tuple[str, str]
"""A system, and the code or value in it."""
_STATUSES: Final = {status.value: status for status in Status}


@dataclass(frozen=True, slots=True)
class PatientRecord:
    """A Patient as far as it says whose the data is and whom it is about."""

    patient: Patient
    managing_organisation: str | None


def read_object(body: bytes) -> Object:
    """Read a resource as strict JSON. Raises UpstreamFault."""
    try:
        document = strict_json.read(body, depth=DEPTH)
    except MalformedJson:
        invalid("the resource is not JSON")
    if not isinstance(document, dict):
        invalid("the resource is not an object")
    return document


@dataclass(frozen=True, slots=True)
class Told:
    """What an Appointment says by itself. Whose it is, only its patient can prove."""

    patients: tuple[str, ...]
    """References to the different patients; none at all when somebody may be a patient who cannot be named."""
    source_organisations: tuple[str, ...]
    source_teams: tuple[str, ...]
    _facts: partial[Appointment]

    @property
    def one_patient(self) -> str | None:
        """The id of the only patient among the participants, if it is proven to be the only one."""
        return self.patients[0].removeprefix("Patient/") if len(self.patients) == 1 else None

    def of(self, record: PatientRecord | None, *, reason_shown: bool = True) -> Appointment:
        """Give the facts. `record` is the one patient's; without it nothing is proven about the owner."""
        known = record if record is not None and self.patients == (record.patient.reference,) else None
        return self._facts(
            provenance=Provenance(
                patients=len(self.patients) if known or len(self.patients) > 1 else 0,
                managing_organisation=known.managing_organisation if known else None,
                source_organisations=self.source_organisations,
                source_teams=self.source_teams,
            ),
            patient=known.patient if known else None,
            reason_shown=reason_shown,
        )


def read_appointment(document: Object, id_: str, etag: str | None) -> Told:
    """Read an Appointment. Raises UpstreamFault for what is not one, or not the one asked for."""
    _check_identity(document, "Appointment", id_)
    meta = _object(document, "meta")
    security = _security(meta)
    who = _cast(document)
    extensions = _objects(meta, "extension")
    return Told(
        patients=who.patients,
        source_organisations=_sources(extensions, security, *SOURCE_ORGANISATION),
        source_teams=_sources(extensions, security, *SOURCE_TEAM),
        _facts=partial(
            Appointment,
            id=id_,
            version=_version(meta, etag),
            status=_status(document),
            start=_instant(document, "start"),
            end=_instant(document, "end"),
            labels=_labels(security),
            specialties=_specialties(document),
            comment=_text(document, "comment"),
            cancel_reason=_cancel_reason(document),
            locations=who.locations,
            places=who.places,
            identifiers=frozenset(itertools.starmap(Coding, _identifiers(document))),
        ),
    )


def read_patient(document: Object, id_: str) -> PatientRecord:
    """Tell whom a Patient is about and whose it is. Raises UpstreamFault for what is not the one asked for."""
    _check_identity(document, "Patient", id_)
    numbers = {value for system, value in _identifiers(document) if system == NHS_NUMBER_SYSTEM}
    number = next(iter(numbers)) if len(numbers) == 1 else None
    return PatientRecord(Patient(f"Patient/{id_}", number, _birth_date(document)), _managing_organisation(document))


def parse_instant(text: str) -> datetime | None:
    """Read a FHIR R4 instant, to the microsecond; None for anything else, and for times nobody can reckon with."""
    if _INSTANT.fullmatch(text) is None:
        return None
    try:
        at = datetime.fromisoformat(text)
        at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return at if at.year >= _EARLIEST_YEAR else None


def is_location(actor: Object, document: Object) -> bool:
    """Whether an actor is a place: by its type, its reference, or PKB's extension, the only way in FHIR STU3.

    A patient never is, whatever else is said of it: a place may be replaced by a change, a patient must not.
    """
    return _is_place(_kind(actor, _text(actor, "reference"), document), actor)


def _is_place(kind: str | None, actor: Object) -> bool:
    return kind == "Location" or (kind != "Patient" and "extension" in actor and _is_marked(actor, "Location"))


def marks(extension: Object, kind: str) -> bool:
    """Whether an extension is PKB's and names this sort of actor, in whatever type of value."""
    return extension.get("url") == ACTOR_TYPE and kind in extension.values()


def _is_marked(actor: Object, kind: str) -> bool:
    return any(marks(extension, kind) for extension in _objects(actor, "extension"))


def _check_identity(document: Object, kind: str, id_: str) -> None:
    if document.get("resourceType") != kind:
        invalid(f"the resource is no {kind}")
    if document.get("id") != id_:
        invalid(f"the {kind} is not the one asked for")


def _version(meta: Object, etag: str | None) -> str:
    version = _text(meta, "versionId")
    if version is None or not _VERSION.fullmatch(version):
        invalid("the resource has no version")
    if etag is not None:
        match = _ETAG.fullmatch(etag.strip())
        if match is None or version not in {match[1], match[2]}:
            invalid("the resource and its ETag have different versions")
    return version


def _status(document: Object) -> Status:
    return _STATUSES.get(_text(document, "status") or "") or invalid("the status is absent or unknown")


def _instant(document: Object, name: str) -> datetime | None:
    text = _text(document, name)
    if text is None:
        return None
    at = parse_instant(text)
    if at is None:
        invalid(f"{name} is no instant with an offset")
    return at


def _security(meta: Object) -> list[_Code]:
    found: list[_Code] = []
    for coding in _objects(meta, "security"):
        system, code = _text(coding, "system"), _text(coding, "code")
        if system is None:
            continue
        if code is not None:
            found.append((system, code))
        if not code and system.startswith(f"{PKB}/"):
            invalid("a security label has no code")
    return found


def _labels(security: list[_Code]) -> frozenset[str]:
    labels = frozenset([code for system, code in security if system == PRIVACY_LABEL])
    return labels or frozenset({GENERAL_HEALTH})


def _sources(extensions: list[Object], security: list[_Code], url: str, system: str) -> tuple[str, ...]:
    named = [
        _organisation(_object(extension, "valueReference")) or UNKNOWN_SOURCE
        for extension in extensions
        if extension.get("url") == url
    ]
    coded = [f"Organization/{code}" for of, code in security if of == system]
    return tuple(dict.fromkeys(named or coded))


def _organisation(reference: Object) -> str | None:
    """Give a relative reference to an Organization; an absolute or contained one names nothing we know."""
    text, kind = _text(reference, "reference"), _text(reference, "type")
    match = _RELATIVE.fullmatch(text) if text is not None else None
    if match is None or match[1] != "Organization" or kind not in {None, "Organization"}:
        return None
    return text


def _managing_organisation(document: Object) -> str | None:
    return _organisation(_object(document, "managingOrganization"))


def _birth_date(document: Object) -> date | None:
    text = _text(document, "birthDate")
    if text is None or not _DATE.fullmatch(text):
        # FHIR allows a year or a month; neither can be compared with a birthday.
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


class _Cast(NamedTuple):
    """Who takes part."""

    patients: tuple[str, ...]
    places: tuple[int, ...]
    """Where each Location stands among the participants."""
    locations: tuple[str | None, ...]
    """The display of each."""


def _cast(document: Object) -> _Cast:
    patients: dict[str, None] = {}
    places: list[int] = []
    locations: list[str | None] = []
    unnamed = False
    for number, participant in enumerate(_objects(document, "participant")):
        actor = _object(participant, "actor")
        reference = _text(actor, "reference")
        kind = _kind(actor, reference, document)
        if kind == "Patient":
            named = _PATIENT.fullmatch(reference or "")
            if named is not None and named[1] not in {".", ".."}:
                patients[named[0]] = None
            else:
                unnamed = True
        elif kind is None and _names_somebody(actor):
            unnamed = True
        if _is_place(kind, actor):
            places.append(number)
            locations.append(_text(actor, "display"))
    return _Cast(() if unnamed else tuple(patients), tuple(places), tuple(locations))


def _names_somebody(actor: Object) -> bool:
    identifier = _object(actor, "identifier")
    return "reference" in actor or identifier.get("system") == NHS_NUMBER_SYSTEM


def _kind(actor: Object, reference: str | None, document: Object) -> str | None:
    """Tell what sort of resource an actor is, where that can be told. `Patient` wins over every contradiction."""
    told = _text(actor, "type")
    if told == "Patient" or ("extension" in actor and _is_marked(actor, "Patient")):
        return "Patient"
    if reference is None:
        return told
    if reference.startswith("#"):
        found = _contained(document, reference[1:])
    else:
        match = _RELATIVE.fullmatch(reference) or _ABSOLUTE.fullmatch(reference)
        found = match[1] if match is not None else None
    return "Patient" if found == "Patient" else told or found


def _contained(document: Object, id_: str) -> str | None:
    kinds = [_text(held, "resourceType") for held in _objects(document, "contained") if held.get("id") == id_]
    return kinds[0] if len(kinds) == 1 else None


def _specialties(document: Object) -> frozenset[Coding]:
    concepts = _objects(document, "specialty")
    return frozenset([Coding(*code) for concept in concepts for code in _codes(concept, "coding", "code")])


def _cancel_reason(document: Object) -> str | None:
    found = _codes(_object(document, "cancelationReason"), "coding", "code")
    codes = {code for system, code in found if system == CANCEL_REASON_SYSTEM}
    return codes.pop() if len(codes) == 1 else None


def _identifiers(document: Object) -> list[_Code]:
    return _codes(document, "identifier", "value")


def _codes(holder: Object, name: str, code: str) -> list[_Code]:
    """Give what is complete among codings or identifiers."""
    found: list[_Code] = []
    for each in _objects(holder, name):
        system, value = _text(each, "system"), _text(each, code)
        if system is not None and value is not None:
            found.append((system, value))
    return found


# A null member is not an absent one: FHIR has no null, so whoever writes it may mean anything.


def _text(holder: Object, name: str) -> str | None:
    if name not in holder:
        return None
    value = holder[name]
    return value if isinstance(value, str) else invalid(f"{name} is no string")


def _object(holder: Object, name: str) -> Object:
    """Give an object member; an absent one is as good as empty, another type is not."""
    if name not in holder:
        return {}
    value = holder[name]
    return value if isinstance(value, dict) else invalid(f"{name} is no object")


def _objects(holder: Object, name: str) -> list[Object]:
    """Give an array of objects; an absent one is as good as empty, and nothing else may be in it."""
    if name not in holder:
        return []
    value = holder[name]
    if not isinstance(value, list):
        invalid(f"{name} is no array")
    for item in value:
        if not isinstance(item, dict):
            invalid(f"{name} holds something else than objects")
    return cast("list[Object]", value)
