"""PKB's Aggregated FHIR (R4, read only): what HL7 has done, and what a message about it must repeat."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from gateway.domain.appointment import Appointment
from gateway.domain.hl7_limits import is_printable
from gateway.domain.search import Query, Reach
from gateway.domain.strict_json import Object, Value
from gateway.flow.ports import Sighting
from gateway.flow.search import Page, Place
from gateway.pkb.answers import Pauses
from gateway.pkb.appointment_reading import (
    PKB,
    PatientRecord,
    Told,
    is_location,
    read_appointment,
    read_object,
    read_patient,
)
from gateway.pkb.breaker import Breaker, BreakerState
from gateway.pkb.credentials import Credentials, TokenSettings
from gateway.pkb.http import checked_url, is_id
from gateway.pkb.line import Line
from gateway.pkb.resources import FAIR_SECONDS, Absences, Patients, Reading, Recent, Resources, guarded
from gateway.pkb.searching import AGGREGATED, Searching

ENCOUNTER_CLASS: Final = f"{PKB}/structuredefinition/encounter-class"
PATIENT_SECONDS: Final = 30.0
PATIENTS_KEPT: Final = 10_000
_BEST_NAMES: Final = ("official", "usual", None)


@dataclass(frozen=True, slots=True)
class AggregatedSettings:
    """Where PKB's aggregated FHIR is, as whom to speak to it, and what it calls the placer id there."""

    base_url: str
    token: TokenSettings
    placer_id_system: str


@dataclass(frozen=True, slots=True)
class PersonName:
    """A patient's name as far as a message needs it."""

    family: str | None = None
    given: str | None = None


@dataclass(frozen=True, slots=True)
class Carried:
    """What a message needs of the read before it, beyond the facts that decide."""

    name: PersonName
    encounter_class: str | None
    specialties: tuple[str, ...]
    """One code for each specialty, as PKB lists them."""


@dataclass(frozen=True, slots=True)
class _Person:
    record: PatientRecord
    name: PersonName


def _read_person(document: Object, id_: str) -> _Person:
    return _Person(read_patient(document, id_), _name(document))


class Aggregated:
    """The reads of one `hl7` route."""

    def __init__(self, settings: AggregatedSettings, line: Line, random: Callable[[], float]) -> None:
        """`random` gives numbers from 0 up to 1, for jitter. Needs a running event loop. Raises ValueError."""
        self._clock = asyncio.get_running_loop().time
        self._placer_id_system = settings.placer_id_system
        self._credentials = Credentials(settings.token, line, self._clock)
        base_url = str(checked_url(settings.base_url))
        self._resources = Resources(base_url, line, self._credentials, Pauses(random), self._clock)
        self._breaker = Breaker(self._clock)
        recent = Recent[_Person](self._clock, PATIENT_SECONDS, PATIENTS_KEPT)
        self._people = Patients(self._resources, recent, _read_person)
        self._absences = Absences(self._clock, Recent[bool](self._clock, PATIENT_SECONDS, PATIENTS_KEPT))
        self._searching = Searching(self._resources, self._breaker, AGGREGATED)

    @property
    def state(self) -> BreakerState:
        """Whether reads get through to PKB."""
        return self._breaker.state

    async def close(self) -> None:
        """Stop what runs in the background. The HTTP client is closed by its owner."""
        await self._credentials.close()

    async def read(self, appointment: str, deadline: float, *, fresh: bool) -> Sighting | None:
        """Read an appointment, then its patient; see the port. `document` is a Carried. Raises UpstreamFault."""
        if not is_id(appointment):
            return None
        fair = deadline - self._clock() >= FAIR_SECONDS
        reading = Reading(deadline)
        return await guarded(self._breaker, lambda: self._read(appointment, reading, fresh=fresh), fair=fair)

    async def search(self, query: Query, reach: Reach, place: Place, deadline: float) -> Page:
        """Give one page of hits; see the port. Raises UpstreamFault."""
        return await self._searching.page(query, reach, place, deadline)

    async def _read(self, appointment: str, reading: Reading, *, fresh: bool) -> Sighting | None:
        asked_at = self._clock()
        answer = await self._resources.get("Appointment", appointment, reading)
        if answer is None:
            await self._absences.linger(appointment, asked_at, reading.deadline, fresh=fresh)
            return None
        document = read_object(answer.body)
        # Before the patient is read: a document that is no appointment must not make us ask for one.
        told = read_appointment(document, appointment, answer.etag)
        patient = told.one_patient
        person = None if patient is None else await self._people.get(patient, reading, fresh=fresh)
        record = person.record if person is not None else None
        facts = of_aggregated(told, document, record, self._placer_id_system)
        name = person.name if person is not None else PersonName()
        return Sighting(facts, answer.body, Carried(name, _encounter_class(document), tuple(_specialties(document))))


def of_aggregated(told: Told, document: Object, record: PatientRecord | None, placer_id_system: str) -> Appointment:
    """Give the facts that `document` told, with those that HL7 needs besides."""
    # S15 carries no reason, so no read ever shows one of ours.
    facts = told.of(record, reason_shown=False)
    return replace(
        facts,
        placer_id=_placer_id(facts, placer_id_system),
        participants=tuple(_participants(document, record)),
    )


def _placer_id(facts: Appointment, system: str) -> str | None:
    found = [identifier.code for identifier in facts.identifiers if identifier.system == system]
    return found[0] if len(found) == 1 else None


def _participants(document: Object, record: PatientRecord | None) -> Iterator[str | None]:
    """Give the displays of those who are neither the patient nor a place; of nobody, while the patient is unproven."""
    for participant in _objects(document.get("participant")) if record is not None else ():
        actor = _object(participant.get("actor"))
        is_patient = record is not None and actor.get("reference") == record.patient.reference
        if not is_patient and not is_location(actor, document):
            yield _text(actor.get("display"))


def _encounter_class(document: Object) -> str | None:
    for extension in _objects(document.get("extension")):
        if extension.get("url") == ENCOUNTER_CLASS:
            concept = _objects(_object(extension.get("valueCodeableConcept")).get("coding"))
            coding = next(iter(concept), _object(extension.get("valueCoding")))
            return _text(extension.get("valueCode")) or _text(coding.get("code"))
    return None


def _specialties(document: Object) -> Iterator[str]:
    # PKB's own mapping fills the first coding; what follows it are other words for the same.
    for concept in _objects(document.get("specialty")):
        codes = (_text(coding.get("code")) for coding in _objects(concept.get("coding")))
        code = next(filter(None, codes), None)
        if code is not None:
            yield code


def _name(document: Object) -> PersonName:
    """Choose the name to be called by. It decides nothing, so what cannot be written in one line is left out."""
    names = _objects(document.get("name"))
    ranked = [name for use in _BEST_NAMES for name in names if name.get("use") == use]
    best = next(iter(ranked), {})
    given = best.get("given")
    first = given[0] if isinstance(given, list) and given else None
    return PersonName(_one_line(best.get("family")), _one_line(first))


def _one_line(value: Value) -> str | None:
    text = _text(value)
    return text if text is not None and is_printable(text) else None


# What is read here has been read by the unforgiving reader already; the rest is as good as absent.


def _text(value: Value) -> str | None:
    return value if isinstance(value, str) else None


def _object(value: Value) -> Object:
    return value if isinstance(value, dict) else {}


def _objects(value: Value) -> list[Object]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
