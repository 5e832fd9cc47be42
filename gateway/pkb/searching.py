"""Searches of one FHIR endpoint of PKB: the question in its words, one page of its answer as hits.

The list that comes back is nobody's word but the endpoint's: what is in it is read like a read of each, what was not
asked for is left out, and its links are taken as "there is more" and never followed.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote

from yarl import URL

from gateway.domain import strict_json
from gateway.domain.appointment import Status
from gateway.domain.grant import Coding
from gateway.domain.search import Hit, Query, Reach, is_asked_for
from gateway.domain.strict_json import MalformedJson, Object, Value
from gateway.flow.ports import Message, UpstreamFault
from gateway.flow.search import Page, Place
from gateway.pkb.answers import invalid
from gateway.pkb.appointment_reading import (
    DEPTH,
    PatientRecord,
    Told,
    read_appointment,
    read_object,
    read_patient,
)
from gateway.pkb.breaker import Breaker
from gateway.pkb.http import checked_url, is_id
from gateway.pkb.resources import FAIR_SECONDS, Reading, Recent, Resources, guarded

PAGE_SIZE: Final = 50
"""Hits on one of PKB's pages: a page of large ones must still fit into the largest answer that is taken."""
PATIENT_SECONDS: Final = 30.0
PATIENTS_KEPT: Final = 10_000
AT_A_TIME: Final = 8
"""Patients of one page that are read at the same time."""

_WITHIN_BUNDLE: Final = 3
"""How much deeper a resource lies in a Bundle than alone."""
_SPECIAL: Final = frozenset(",|$\\")
"""What FHIR's search gives a meaning inside of a value (R4, search, "escaping")."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What an endpoint can filter by, beyond patient, identifier and date."""

    statuses: frozenset[Status] = frozenset(Status)
    specialty: bool = False


R4_BOX: Final = Filters(specialty=True)
STU3_BOX: Final = Filters(statuses=frozenset(Status) - {Status.CHECKED_IN, Status.WAITLIST})
"""STU3 has neither of these statuses, nor a search by specialty."""
AGGREGATED: Final = Filters()


@dataclass(frozen=True, slots=True)
class _Person:
    record: PatientRecord
    identifiers: frozenset[Coding]


class Searching:
    """Searches for appointments at one endpoint."""

    def __init__(
        self,
        resources: Resources,
        breaker: Breaker,
        filters: Filters,
        as_r4: Callable[[Object], Object] = lambda document: document,
    ) -> None:
        """`breaker` is the one of the endpoint's reads; `as_r4` tells its Appointments in R4."""
        self._resources = resources
        self._breaker = breaker
        self._filters = filters
        self._as_r4 = as_r4
        self._people = Recent[_Person](resources.clock, PATIENT_SECONDS, PATIENTS_KEPT)

    async def page(self, query: Query, reach: Reach, place: Place, deadline: float) -> Page:
        """Give the hits of one page from a place on; see the port. Raises UpstreamFault."""
        fair = deadline - self._resources.clock() >= FAIR_SECONDS
        reading = Reading(deadline)
        return await guarded(self._breaker, lambda: self._page(query, reach, place, reading), fair=fair)

    async def _page(self, query: Query, reach: Reach, place: Place, reading: Reading) -> Page:
        url = search_url(self._resources.base_url, parameters(query, reach, place.page, self._filters))
        answer = await self._resources.fetch(url, reading, Message.SEARCH)
        if answer is None:
            invalid("there is no search")
        listed = read_list(answer.body)
        candidates = [self._candidate(entry, query) for entry in listed.entries[place.offset :]]
        people = await self._read_people(
            {each.patient for each in candidates if isinstance(each, _Candidate) and each.patient is not None}, reading
        )
        hits = [each.hit(people) if isinstance(each, _Candidate) else each for each in candidates]
        return Page(
            tuple(hit if isinstance(hit, Hit) else None for hit in hits),
            listed.more,
            sum(hit is UNREADABLE for hit in hits),
        )

    def _candidate(self, entry: Value, query: Query) -> "_Candidate | _Unreadable | None":
        """Take one entry of the list for an appointment; None for what has no place in the answer."""
        document = _appointment(entry)
        if document is None:
            return None
        id_ = document["id"]
        assert isinstance(id_, str), "only an appointment with an id gets here"
        try:
            in_r4 = self._as_r4(document)
            told = read_appointment(in_r4, id_, None)
        except UpstreamFault:
            return UNREADABLE
        # Nobody is asked for a patient of what was not asked for.
        return _Candidate(in_r4, told) if is_asked_for(query, told.of(None)) else None

    async def _read_people(self, ids: set[str], reading: Reading) -> "dict[str, _Person | _Unreadable]":
        """Read the patients of a page. One that is absent is left out. Raises UpstreamFault for what may pass."""
        places = asyncio.Semaphore(AT_A_TIME)
        found: dict[str, _Person | _Unreadable] = {}

        async def read(id_: str) -> None:
            async with places:
                person = await self._person(id_, reading)
            if person is not None:
                found[id_] = person

        try:
            async with asyncio.TaskGroup() as group:
                for id_ in sorted(ids):
                    group.create_task(read(id_))
        except ExceptionGroup as faults:
            raise faults.exceptions[0] from None
        return found

    async def _person(self, id_: str, reading: Reading) -> "_Person | _Unreadable | None":
        held = self._people.get(id_)
        if held is not None:
            return held
        self._people.forget(id_)
        asked_at = self._resources.clock()
        answer = await self._resources.get("Patient", id_, reading)
        if answer is None:
            return None
        try:
            document = read_object(answer.body)
            person = _Person(read_patient(document, id_), frozenset(_identifiers(document)))
        except UpstreamFault:
            return UNREADABLE
        self._people.keep(id_, asked_at, person)
        return person


class _Unreadable:
    """Something that a read would call invalid."""


UNREADABLE: Final = _Unreadable()


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An appointment of the list, before its patient was read."""

    document: Object
    """In R4."""
    told: Told

    @property
    def patient(self) -> str | None:
        """The id of its only patient, if there is one."""
        return self.told.one_patient

    def hit(self, people: "dict[str, _Person | _Unreadable]") -> Hit | _Unreadable:
        """Make a hit of it, with its patient."""
        person = people.get(self.patient) if self.patient is not None else None
        if isinstance(person, _Unreadable):
            return person
        record, identifiers = (None, frozenset[Coding]()) if person is None else (person.record, person.identifiers)
        return Hit(self.told.of(record), identifiers, strict_json.write(self.document))


@dataclass(frozen=True, slots=True)
class Listed:
    """A searchset: its entries as they are, and whether it says that there are more."""

    entries: Sequence[Value]
    more: bool


def read_list(body: bytes) -> Listed:
    """Read a Bundle of type searchset. Raises UpstreamFault."""
    try:
        bundle = strict_json.read(body, depth=DEPTH + _WITHIN_BUNDLE)
    except MalformedJson:
        invalid("the list of hits is not JSON")
    if not isinstance(bundle, dict) or (bundle.get("resourceType"), bundle.get("type")) != ("Bundle", "searchset"):
        invalid("the list of hits is no searchset")
    entries, links = bundle.get("entry", []), bundle.get("link", [])
    if not isinstance(entries, list) or not isinstance(links, list):
        invalid("the list of hits has no entries or links")
    if len(entries) > 2 * PAGE_SIZE:
        # Some endpoints put what they include beside what they found; nobody asked this one to include anything.
        invalid("the list of hits is longer than asked for")
    return Listed(entries, any(isinstance(link, dict) and link.get("relation") == "next" for link in links))


def parameters(query: Query, reach: Reach, page: int, filters: Filters) -> Iterator[tuple[str, str]]:
    """Say a query in FHIR's search parameters, in an order of our own.

    The patient is asked for as PKB documents it (Extract Appointments, 4650074113): through `actor:Patient`.
    """
    if query.patient is not None:
        yield "actor:Patient.identifier", _token(query.patient)
    if query.identifier is not None:
        yield "identifier", _token(query.identifier)
    if reach.organisations and _plain(reach.organisations):
        yield "actor:Patient.organization", ",".join(reach.organisations)
    if query.since is not None:
        yield "date", f"ge{_second(query.since)}"
    if query.before is not None:
        yield "date", f"lt{_second(query.before, up=True)}"
    if query.statuses and query.statuses <= filters.statuses:
        yield "status", ",".join(sorted(query.statuses))
    specialties = [text for each in reach.specialties for text in (each.system, each.code)]
    if filters.specialty and specialties and _plain(specialties):
        yield "specialty", ",".join(map(_token, reach.specialties))
    yield from (("_sort", "_id"), ("_count", str(PAGE_SIZE)), ("_page", str(page)))


def search_url(base_url: str, pairs: Iterable[tuple[str, str]]) -> URL:
    """Build the address of a search from configuration and values that cannot leave their place. Raises ValueError."""
    plain = checked_url(f"{base_url.rstrip('/')}/Appointment")
    query = "&".join(f"{name}={quote(value, safe='/:')}" for name, value in pairs)
    return URL(f"{plain}?{query}", encoded=True)


def _token(coding: Coding) -> str:
    return f"{coding.system}|{coding.code}"


def _plain(texts: Iterable[str]) -> bool:
    """Whether no text means more in a search than itself; whoever has another one is not narrowed."""
    return all(text and _SPECIAL.isdisjoint(text) for text in texts)


def _second(at: datetime, *, up: bool = False) -> str:
    """Write a bound in UTC and whole seconds, outwards: PKB may find too much, never too little."""
    whole = at.astimezone(UTC).replace(microsecond=0)
    if up and at.microsecond:
        whole += timedelta(seconds=1)
    return whole.isoformat().replace("+00:00", "Z")


def _appointment(entry: Value) -> "Object | None":
    """Give the appointment of an entry; nothing for what was included, is told about the search, or has no id."""
    if not isinstance(entry, dict):
        return None
    resource, search = entry.get("resource"), entry.get("search", {})
    mode = search.get("mode", "match") if isinstance(search, dict) else None
    if mode != "match" or not isinstance(resource, dict) or resource.get("resourceType") != "Appointment":
        return None
    id_ = resource.get("id")
    return resource if isinstance(id_, str) and is_id(id_) else None


def _identifiers(patient: Object) -> Iterator[Coding]:
    held = patient.get("identifier", [])
    # The unforgiving reader has been through them already.
    for identifier in held if isinstance(held, list) else []:
        match identifier:
            case {"system": str(system), "value": str(value)}:
                yield Coding(system, value)
            case _:
                pass
