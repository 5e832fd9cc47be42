"""What the story needs from the edges, declared beside its only reader."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from gateway.domain.appointment import Appointment, Write
from gateway.domain.codes import Code
from gateway.domain.grant import Customer


class JournalUnavailable(Exception):
    """The audit stream cannot take a record; nothing may be done that it would have to hold."""


class StateUnavailable(Exception):
    """The state store cannot answer."""


class UpstreamFault(Exception):
    """A read of PKB came to nothing; `code` says how it is told, `status` what PKB answered, if it did."""

    def __init__(self, code: Code, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.status = status


@dataclass(frozen=True, slots=True)
class Sighting:
    """PKB's copy of an appointment, read for one request."""

    appointment: Appointment
    body: bytes
    """The resource as FHIR R4 JSON, numbers and unknown elements as PKB wrote them."""
    document: object
    """What the edge needs to write it back; nobody else looks inside."""


@dataclass(frozen=True, slots=True)
class Written:
    """PKB took the write and shows the result."""

    sighting: Sighting
    status: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """PKB took the message (HL7 `AA`); only a read can tell whether it did anything with it."""

    ack: str
    control_id: str
    """MSH-10 of the message."""


@dataclass(frozen=True, slots=True)
class Turned:
    """PKB turned the write down; nothing was changed."""

    code: Code
    status: int | str
    """The HTTP status, or the HL7 acknowledgement code."""
    control_id: str | None = None


@dataclass(frozen=True, slots=True)
class NotSent:
    """No byte of the write has left: no connection, no name, no TLS, an open breaker, no credentials."""

    reason: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """Bytes have left and the answer proves nothing. Only a read can tell."""

    reason: str
    status: int | str | None = None
    control_id: str | None = None


WriteAnswer = Written | Acknowledged | Turned | NotSent | Doubt


def unfenced() -> bool:
    """Let every write pass."""
    return True


@dataclass(frozen=True, slots=True)
class Sender:
    """On whose behalf one message is sent, when, and under which number."""

    partner: str
    alias: str | None
    """PKB's HL7 name for the customer, from the grant; None where the route needs none."""
    control_id: str
    now: datetime
    fence: Callable[[], bool] = field(default=unfenced, compare=False)
    """Asked at the last moment before a byte leaves: whether this process may still write."""


class Upstream(Protocol):
    """The edge towards PKB. Deadlines are times of the running event loop, in seconds."""

    async def read(self, customer: Customer, appointment: str, deadline: float, *, fresh: bool) -> Sighting | None:
        """Read an appointment and its patient; None where PKB has none. Raises UpstreamFault.

        `fresh` forbids a patient read earlier (at most 30 s) to be used again.
        """
        ...

    async def write(
        self, customer: Customer, command: Write, sighting: Sighting, deadline: float, *, sender: Sender
    ) -> WriteAnswer:
        """Send one message, once, conditional on the version that was read. Never raises for PKB's sake."""
        ...


class Message(StrEnum):
    """What an exchange with PKB is about."""

    READ = "read"
    PATIENT = "patient"
    SEARCH = "search"
    WRITE = "write"
    TOKEN = "token"  # noqa: S105 - the kind of a message


class Result(StrEnum):
    """How an exchange with PKB ended, as far as HTTP tells."""

    OK = "ok"
    ABSENT = "absent"
    """404 or 410."""
    REFUSED = "refused"
    """Any other 4xx."""
    FAILED = "failed"
    """5xx, and what is no answer to the question, such as a redirect."""
    UNREADABLE = "unreadable"
    TIMEOUT = "timeout"
    BROKEN = "broken"
    """The connection went away before the answer was whole."""
    NOT_CONNECTED = "not-connected"
    WITHHELD = "withheld"
    """The gateway itself kept the request back at the last moment."""
    ABANDONED = "abandoned"
    """Nobody waited for the answer any more."""


class UpstreamObserver(Protocol):
    """Hears of every exchange with PKB, for metrics and the console. Tries that were repeated are told one by one."""

    def __call__(self, route: str, message: str, result: str, seconds: float) -> None:
        """Take note; `route` is a name in the settings, `message` a `Message`, `result` a `Result`.

        It is called between a request and its answer: it must be quick, and must not raise.
        """
        ...


class Journal(Protocol):
    """The audit stream."""

    @property
    def chain(self) -> str:
        """Name the chain that this process writes."""
        ...

    async def write(self, record: Mapping[str, object], *, essential: bool = False) -> int:
        """Make a record durable and give its number in the chain. Raises JournalUnavailable.

        `essential` records may use the reserve: outcomes of what was already begun.
        """
        ...
