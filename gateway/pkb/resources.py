"""Reading single FHIR resources of PKB: one token renewed at most once, few tries, and a breaker's view of faults."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from yarl import URL

from gateway.domain.codes import Code
from gateway.domain.strict_json import Object
from gateway.flow.ports import Message, UpstreamFault
from gateway.pkb.answers import ABSENT, RETRIES, Pauses, fault_of, fault_of_status
from gateway.pkb.appointment_reading import read_object
from gateway.pkb.breaker import Breaker, BreakerOpen
from gateway.pkb.credentials import Credentials
from gateway.pkb.http import Answer, HttpFault, Withheld, resource_url
from gateway.pkb.line import Line

FAIR_SECONDS: Final = 1.0
"""A request that came with less time than this says nothing about PKB when its time runs out.

Otherwise a partner who dawdles over its own requests could open the breaker for everybody.
"""

MEDIA_TYPE: Final = "application/fhir+json"

Kept = TypeVar("Kept")


@dataclass(slots=True)
class Reading:
    """One read: its deadline, and whether its token has been replaced once."""

    deadline: float
    renewed: bool = False


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources of one FHIR endpoint. `clock` is the event loop's."""

    base_url: str
    line: Line
    credentials: Credentials
    pauses: Pauses
    clock: Callable[[], float]

    async def get(self, kind: str, id_: str, reading: Reading) -> Answer | None:
        """Read one resource, trying again where that may help; None where there is none. Raises UpstreamFault."""
        message = Message.PATIENT if kind == "Patient" else Message.READ
        return await self.fetch(resource_url(self.base_url, kind, id_), reading, message)

    async def fetch(self, url: URL, reading: Reading, message: Message) -> Answer | None:
        """Read what is at an address of this endpoint, in the same way. Raises UpstreamFault."""
        retry = 0
        while True:
            try:
                answer = await self._fetch_once(url, reading, message)
            except UpstreamFault as fault:
                if fault.code is not Code.UPSTREAM_UNAVAILABLE or not await self.pause(retry, reading.deadline):
                    raise
                retry += 1
            else:
                return None if answer.status in ABSENT else answer

    async def pause(self, retry: int, deadline: float) -> bool:
        """Wait before another try; False where none is left, or no time for it."""
        pause = self.pauses.before(retry)
        if retry >= RETRIES or self.clock() + pause >= deadline:
            return False
        await asyncio.sleep(pause)
        return True

    async def _fetch_once(self, url: URL, reading: Reading, message: Message) -> Answer:
        token = await self.credentials.token(reading.deadline)
        headers = {"Authorization": f"Bearer {token}", "Accept": MEDIA_TYPE}
        try:
            answer = await self.line.send(message, "GET", url, headers, reading.deadline)
        except HttpFault as fault:
            raise fault_of(fault) from fault
        if answer.status == 401:
            self.credentials.drop(token)
            if not reading.renewed:
                reading.renewed = True
                return await self._fetch_once(url, reading, message)
        if answer.status != 200 and answer.status not in ABSENT:
            raise fault_of_status(answer.status)
        return answer


@dataclass(slots=True)
class Recent(Generic[Kept]):
    """What was read a short while ago, at most `places` of it."""

    clock: Callable[[], float]
    seconds: float
    places: int
    _held: "OrderedDict[str, tuple[float, Kept]]" = field(default_factory=OrderedDict)

    def get(self, id_: str) -> Kept | None:
        """Give what is not too old."""
        held = self._held.get(id_)
        return held[1] if held is not None and self.clock() - held[0] <= self.seconds else None

    def forget(self, id_: str) -> None:
        """Drop one."""
        self._held.pop(id_, None)

    def keep(self, id_: str, asked_at: float, value: Kept) -> None:
        """Keep one as of the time it was asked for; the oldest makes room."""
        self._held[id_] = (asked_at, value)
        while len(self._held) > self.places:
            self._held.popitem(last=False)


@dataclass(slots=True)
class Patients(Generic[Kept]):
    """The patients of one FHIR endpoint: what `tell` makes of each, known for a while unless it has to be fresh."""

    resources: Resources
    recent: Recent[Kept]
    tell: Callable[[Object, str], Kept]
    """Reads a Patient of this id. Raises UpstreamFault."""

    async def get(self, id_: str, reading: Reading, *, fresh: bool) -> Kept | None:
        """Read a patient; None where there is none. Raises UpstreamFault."""
        held = None if fresh else self.recent.get(id_)
        if held is not None:
            return held
        self.recent.forget(id_)
        asked_at = self.resources.clock()
        answer = await self.resources.get("Patient", id_, reading)
        if answer is None:
            return None
        told = self.tell(read_object(answer.body), id_)
        self.recent.keep(id_, asked_at, told)
        return told


@dataclass(slots=True)
class Absences:
    """Lets what is not there take as long as what is hidden, whose patient is read as well.

    Otherwise many writes to one id, which wait for each other's turn, would add up to a difference that no rounding of
    the answer's time hides; so would one read of a slow PKB. Like a patient, an absence is known for a while.
    """

    clock: Callable[[], float]
    known: Recent[bool]

    async def linger(self, id_: str, asked_at: float, deadline: float, *, fresh: bool) -> None:
        """Wait as long again as was waited since `asked_at`."""
        now = self.clock()
        if fresh or not self.known.get(id_):
            await asyncio.sleep(max(0.0, min(now - asked_at, deadline - now)))
            self.known.forget(id_)
            self.known.keep(id_, now, True)


async def guarded(breaker: Breaker, read: Callable[[], Awaitable[Kept]], *, fair: bool) -> Kept:
    """Read where the breaker lets us, and tell it what came of it. Raises UpstreamFault."""
    try:
        with breaker.attempt() as attempt:
            try:
                found = await read()
            except UpstreamFault as fault:
                attempt.failed = speaks_against(fault.code, fault.status, fair=fair)
                raise
            attempt.failed = False
            return found
    except BreakerOpen as error:
        raise UpstreamFault(Code.UPSTREAM_UNAVAILABLE, "breaker open") from error


def speaks_against(code: Code, status: int | None, *, fair: bool) -> bool | None:
    """Say whether a fault speaks against PKB's health; what it answers on purpose does not."""
    if code is Code.UPSTREAM_TIMEOUT:
        return True if fair else None
    return code is Code.UPSTREAM_UNAVAILABLE and (status is None or not 400 <= status <= 499)


def blames(fault: HttpFault, *, fair: bool) -> bool | None:
    """Say whether a message without a whole answer speaks against PKB's health."""
    # What the gateway kept back itself never reached PKB.
    return None if isinstance(fault, Withheld) else speaks_against(fault_of(fault).code, None, fair=fair)
