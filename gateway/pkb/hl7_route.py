"""The upstream of one `hl7` route: reads through Aggregated FHIR, writes as SIU messages over SOAP, each sent once."""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from gateway.domain.appointment import CHANGEABLE, Appointment, Cancel, Change, Write
from gateway.domain.grant import Customer
from gateway.domain.search import Query, Reach
from gateway.flow.ports import Acknowledged, Doubt, Message, NotSent, Sender, Sighting, Turned
from gateway.flow.search import Page, Place
from gateway.pkb import hl7_message, soap
from gateway.pkb.aggregated import Aggregated, AggregatedSettings, Carried
from gateway.pkb.answers import RETRIES, Pauses
from gateway.pkb.breaker import Attempt, Breaker, BreakerOpen, BreakerState
from gateway.pkb.hl7_ack import judge, judge_fault
from gateway.pkb.hl7_message import Details, Envelope, Kept, NotSayable, Person, Times
from gateway.pkb.http import Answer, HttpFault, NotConnected, Reuse, checked_url
from gateway.pkb.line import Line
from gateway.pkb.resources import FAIR_SECONDS, blames

Hl7Answer = Acknowledged | Turned | NotSent | Doubt


@dataclass(frozen=True, slots=True)
class Hl7Settings:
    """Where PKB's HL7 endpoint is, which kind of message it takes, and where to read what became of one."""

    url: str
    processing_id: str
    read: AggregatedSettings


@dataclass(frozen=True, slots=True)
class Login:
    """What PKB's HL7 endpoint knows a partner by."""

    username: str = field(repr=False)
    password: str = field(repr=False)


class Hl7Route:
    """The upstream of one `hl7` route."""

    def __init__(
        self,
        settings: Hl7Settings,
        line: Line,
        random: Callable[[], float],
        logins: Callable[[str], Login | None],
    ) -> None:
        """`random` gives numbers from 0 up to 1, for jitter; `logins` tells a partner's login now in force.

        Needs a running event loop. Raises ValueError.
        """
        self._url = checked_url(settings.url)
        self._processing_id = settings.processing_id
        self._line = line
        self._pauses = Pauses(random)
        self._logins = logins
        self._clock = asyncio.get_running_loop().time
        self._aggregated = Aggregated(settings.read, line, random)
        self._breaker = Breaker(self._clock)

    @property
    def state(self) -> BreakerState:
        """Whether requests get through to PKB: the worse of reading and writing."""
        states = (self._breaker.state, self._aggregated.state)
        return next(
            (state for state in (BreakerState.OPEN, BreakerState.TRIAL) if state in states), BreakerState.CLOSED
        )

    async def close(self) -> None:
        """Stop what runs in the background. The HTTP client is closed by its owner."""
        await self._aggregated.close()

    async def read(self, customer: Customer, appointment: str, deadline: float, *, fresh: bool) -> Sighting | None:
        """Read an appointment, then its patient; see the port. Raises UpstreamFault."""
        del customer  # Aggregated shows every customer's; whose an appointment is, it says itself.
        return await self._aggregated.read(appointment, deadline, fresh=fresh)

    async def search(self, customer: Customer, query: Query, reach: Reach, place: Place, deadline: float) -> Page:
        """Give one page of hits; see the port. Raises UpstreamFault."""
        del customer  # As for a read: whose an appointment is, Aggregated says itself.
        return await self._aggregated.search(query, reach, place, deadline)

    async def write(
        self, customer: Customer, command: Write, sighting: Sighting, deadline: float, *, sender: Sender
    ) -> Hl7Answer:
        """Send one message, at most once; see the port. Never raises for PKB's sake."""
        login = self._logins(sender.partner)
        if login is None or ":" in login.username:
            return NotSent("no HL7 login that can be sent")
        try:
            body = soap.wrap(_message(customer, command, sighting, sender, self._processing_id))
        except NotSayable as error:
            return NotSent(str(error))
        fair = deadline - self._clock() >= FAIR_SECONDS
        try:
            with self._breaker.attempt() as attempt:
                return await self._send(_basic(login), body, sender, deadline, attempt, fair=fair)
        except BreakerOpen:
            return NotSent("breaker open")

    async def _send(
        self, authorization: str, body: bytes, sender: Sender, deadline: float, attempt: Attempt, *, fair: bool
    ) -> Hl7Answer:
        try:
            answer = await self._post({**soap.HEADERS, "Authorization": authorization}, body, deadline, sender.fence)
        except HttpFault as fault:
            attempt.failed = blames(fault, fair=fair)
            return judge_fault(fault, sender.control_id)
        attempt.failed = 500 <= answer.status <= 599
        return judge(answer.status, answer.body, sender.control_id)

    async def _post(self, headers: dict[str, str], body: bytes, deadline: float, fence: Callable[[], bool]) -> Answer:
        """Send the message, again only while no connection was made. Raises HttpFault."""
        retry = 0
        while True:
            try:
                return await self._line.send(
                    Message.WRITE, "POST", self._url, headers, deadline, body=body, reuse=Reuse.NEVER, fence=fence
                )
            except NotConnected as fault:
                pause = self._pauses.before(retry)
                if fault.late or retry >= RETRIES or self._clock() + pause >= deadline:
                    raise
            await asyncio.sleep(pause)
            retry += 1


def _message(customer: Customer, command: Write, sighting: Sighting, sender: Sender, processing_id: str) -> str:
    """Choose and write the one message of a command. Raises NotSayable."""
    appointment, carried = sighting.appointment, sighting.document
    assert isinstance(carried, Carried)
    placer_id = appointment.placer_id
    if appointment.status not in CHANGEABLE or placer_id is None:
        # An S13 or S14 would revive the appointment, or create one.
        raise NotSayable("the appointment is not one that HL7 may change")
    envelope = Envelope(sender.alias or "", sender.control_id, sender.now, processing_id, customer.time_zone)
    person = _person(appointment, carried, command)
    match command:
        case Cancel():
            if command.comment is not None:
                raise NotSayable("a cancel carries no comment")
            return hl7_message.cancel(envelope, person, placer_id)
        case Change(start=None, end=None):
            return hl7_message.update(envelope, person, placer_id, _kept(appointment, carried), _details(command))
        case Change():
            times = Times(command.start.at if command.start else None, command.end.at if command.end else None)
            kept, details = _kept(appointment, carried), _details(command)
            return hl7_message.move(envelope, person, placer_id, times, kept, details)
        case unexpected:
            assert_never(unexpected)


def _person(appointment: Appointment, carried: Carried, command: Write) -> Person:
    number = appointment.patient.nhs_number if appointment.patient is not None else None
    # The partner's birth date, never PKB's own: it is what PKB checks the partner's words against.
    return Person(number or "", carried.name.family, carried.name.given, command.claim.birth_date)


def _kept(appointment: Appointment, carried: Carried) -> Kept:
    if len(carried.specialties) > 1:
        raise NotSayable("several specialties")
    specialty = carried.specialties[0] if carried.specialties else None
    # A participant without display becomes a blank one here, which no message takes.
    participants = tuple(display or "" for display in appointment.participants)
    return Kept(carried.encounter_class, specialty, participants)


def _details(change: Change) -> Details:
    return Details(change.comment, change.location, change.management_url)


def _basic(login: Login) -> str:
    pair = f"{login.username}:{login.password}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"
