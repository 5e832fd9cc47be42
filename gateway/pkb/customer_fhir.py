"""The edge towards a customer's FHIR box (R4 or STU3): reads with patience, writes once."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, Protocol, assert_never

from gateway.domain import strict_json
from gateway.domain.appointment import Appointment, Write
from gateway.domain.codes import Code
from gateway.domain.grant import Customer
from gateway.domain.outcome import is_later
from gateway.domain.search import Query, Reach
from gateway.domain.strict_json import Object
from gateway.flow.ports import Doubt, Message, NotSent, Sender, Sighting, UpstreamFault, WriteAnswer, Written
from gateway.flow.search import Page, Place
from gateway.pkb.answers import Pauses, write_of, write_of_status
from gateway.pkb.appointment_reading import PatientRecord, read_appointment, read_object, read_patient
from gateway.pkb.appointment_writing import NotExpressible, rewrite
from gateway.pkb.breaker import Attempt, Breaker, BreakerOpen, BreakerState
from gateway.pkb.credentials import Credentials, TokenSettings
from gateway.pkb.dialect import R4, Dialect
from gateway.pkb.http import Answer, HttpFault, NotConnected, Reuse, checked_url, is_id, resource_url
from gateway.pkb.line import Line
from gateway.pkb.resources import (
    FAIR_SECONDS,
    MEDIA_TYPE,
    Absences,
    Patients,
    Reading,
    Recent,
    Resources,
    blames,
    guarded,
    speaks_against,
)
from gateway.pkb.searching import R4_BOX, STU3_BOX, Searching
from gateway.pkb.stu3 import STU3, STU3_WITHOUT_REASON

PATIENT_SECONDS: Final = 30.0
PATIENTS_KEPT: Final = 10_000


class Alarm(Protocol):
    """Tells a person of something that should not happen."""

    def __call__(self, event: str, /, **facts: object) -> None:
        """Say what happened, in codes and ids only."""
        ...


@dataclass(frozen=True, slots=True)
class BoxSettings:
    """Where a box is and as whom to speak to it."""

    base_url: str
    token: TokenSettings
    fhir_version: Literal["R4", "STU3"] = "R4"
    cancelation_reason: Literal["extension", "drop"] = "extension"
    """Where the reason of a cancel goes in STU3, which has no element for it."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """What a write needs of the read before it."""

    document: Object
    """PKB's own, in the version of FHIR that the box speaks."""
    text: bytes
    """What it was read from."""
    record: PatientRecord | None


@dataclass(frozen=True, slots=True)
class _Message:
    """One PUT."""

    before: Appointment
    copy: _Copy
    body: bytes
    fence: Callable[[], bool]


class CustomerFhir:
    """The upstream of one `customer-fhir` route."""

    def __init__(self, settings: BoxSettings, line: Line, random: Callable[[], float], alarm: Alarm) -> None:
        """`random` gives numbers from 0 up to 1, for jitter. Needs a running event loop. Raises ValueError."""
        self._base_url = str(checked_url(settings.base_url))
        self._dialect = _dialect(settings)
        self._line = line
        self._alarm = alarm
        self._clock = asyncio.get_running_loop().time
        self._credentials = Credentials(settings.token, line, self._clock)
        self._resources = Resources(self._base_url, line, self._credentials, Pauses(random), self._clock)
        self._breaker = Breaker(self._clock)
        recent = Recent[PatientRecord](self._clock, PATIENT_SECONDS, PATIENTS_KEPT)
        self._patients = Patients(self._resources, recent, read_patient)
        self._absences = Absences(self._clock, Recent[bool](self._clock, PATIENT_SECONDS, PATIENTS_KEPT))
        filters = R4_BOX if settings.fhir_version == "R4" else STU3_BOX
        self._searching = Searching(self._resources, self._breaker, filters, self._dialect.as_r4)

    @property
    def state(self) -> BreakerState:
        """Whether requests get through to PKB."""
        return self._breaker.state

    async def close(self) -> None:
        """Stop what runs in the background. The HTTP client is closed by its owner."""
        await self._credentials.close()

    async def read(self, customer: Customer, appointment: str, deadline: float, *, fresh: bool) -> Sighting | None:
        """Read an appointment, then its patient; see the port. Raises UpstreamFault."""
        del customer  # The box is the tenant; whose an appointment in it is, its patient says.
        if not is_id(appointment):
            return None
        fair = deadline - self._clock() >= FAIR_SECONDS
        reading = Reading(deadline)
        return await guarded(self._breaker, lambda: self._read(appointment, reading, fresh=fresh), fair=fair)

    async def search(self, customer: Customer, query: Query, reach: Reach, place: Place, deadline: float) -> Page:
        """Give one page of hits; see the port. Raises UpstreamFault."""
        del customer  # As for a read: the box is the tenant.
        return await self._searching.page(query, reach, place, deadline)

    async def write(
        self, customer: Customer, command: Write, sighting: Sighting, deadline: float, *, sender: Sender
    ) -> WriteAnswer:
        """Send one PUT, conditional on the version read, at most once; see the port."""
        del customer  # The box is the tenant, and knows the gateway's own credentials and nobody else's.
        copy = sighting.document
        assert isinstance(copy, _Copy)
        try:
            new = rewrite(copy.document, sighting.appointment, command, self._dialect)
        except NotExpressible as error:
            return NotSent(str(error))
        fair = deadline - self._clock() >= FAIR_SECONDS
        try:
            with self._breaker.attempt() as attempt:
                body = strict_json.splice(copy.text, copy.document, new)
                message = _Message(sighting.appointment, copy, body, sender.fence)
                return await self._write(message, deadline, attempt, fair=fair)
        except BreakerOpen:
            return NotSent("breaker open")

    async def _read(self, appointment: str, reading: Reading, *, fresh: bool) -> Sighting | None:
        asked_at = self._clock()
        answer = await self._resources.get("Appointment", appointment, reading)
        if answer is None:
            await self._absences.linger(appointment, asked_at, reading.deadline, fresh=fresh)
            return None
        document = read_object(answer.body)
        in_r4 = self._dialect.as_r4(document)
        # Before the patient is read: a document that is no appointment must not make us ask for one.
        told = read_appointment(in_r4, appointment, answer.etag)
        patient = told.one_patient
        record = None if patient is None else await self._patients.get(patient, reading, fresh=fresh)
        facts = told.of(record, reason_shown=self._dialect.reason_shown)
        return Sighting(facts, _body(answer, document, in_r4), _Copy(document, answer.body, record))

    async def _write(self, message: _Message, deadline: float, attempt: Attempt, *, fair: bool) -> WriteAnswer:
        before = message.before
        try:
            token, answer = await self._put(message, deadline)
        except UpstreamFault as fault:
            attempt.failed = speaks_against(fault.code, fault.status, fair=fair)
            return NotSent(fault.reason)
        except HttpFault as fault:
            attempt.failed = blames(fault, fair=fair)
            return write_of(fault)
        attempt.failed = 500 <= answer.status <= 599
        if answer.status == 401:
            self._credentials.drop(token)
        if answer.status == 201:
            # Somebody deleted the appointment in between and PKB made it anew: a person has to look.
            # An alarm that cannot be given must not hide that bytes have left.
            with suppress(Exception):
                self._alarm("write-created", route=self._line.route, appointment=before.id, status=answer.status)
        return self._written(answer, before, message.copy) if answer.status == 200 else write_of_status(answer.status)

    def _written(self, answer: Answer, before: Appointment, copy: _Copy) -> Written | Doubt:
        """Take a 200 for done only if it shows this appointment at another, later version."""
        try:
            document = read_object(answer.body)
            in_r4 = self._dialect.as_r4(document)
            told = read_appointment(in_r4, before.id, answer.etag)
        except UpstreamFault as fault:
            return Doubt(fault.reason, answer.status)
        after = told.of(copy.record, reason_shown=self._dialect.reason_shown)
        if not is_later(after.version, before.version):
            return Doubt("the version is not a new one", answer.status)
        sighting = Sighting(after, _body(answer, document, in_r4), _Copy(document, answer.body, copy.record))
        return Written(sighting, answer.status)

    async def _put(self, message: _Message, deadline: float) -> tuple[str, Answer]:
        """Send the PUT, again only while no connection was made. Raises UpstreamFault (no token) and HttpFault."""
        url = resource_url(self._base_url, "Appointment", message.before.id)
        retry = 0
        while True:
            try:
                token = await self._credentials.token(deadline)
                headers = {
                    "Authorization": f"Bearer {token}",
                    "Accept": MEDIA_TYPE,
                    "Content-Type": MEDIA_TYPE,
                    "If-Match": f'W/"{message.before.version}"',
                    "Prefer": "return=representation",
                }
                return token, await self._line.send(
                    Message.WRITE,
                    "PUT",
                    url,
                    headers,
                    deadline,
                    body=message.body,
                    reuse=Reuse.RECENT,
                    fence=message.fence,
                )
            except UpstreamFault as fault:
                if fault.code is not Code.UPSTREAM_UNAVAILABLE or not await self._resources.pause(retry, deadline):
                    raise
            except NotConnected as fault:
                if fault.late or not await self._resources.pause(retry, deadline):
                    raise
            retry += 1


def _dialect(settings: BoxSettings) -> Dialect:
    match settings.fhir_version:
        case "R4":
            return R4
        case "STU3":
            return STU3_WITHOUT_REASON if settings.cancelation_reason == "drop" else STU3
        case unexpected:
            assert_never(unexpected)


def _body(answer: Answer, document: Object, in_r4: Object) -> bytes:
    """Give the resource as partners see it: byte for byte what PKB wrote, where nothing was told otherwise."""
    return answer.body if in_r4 is document else strict_json.splice(answer.body, document, in_r4)
