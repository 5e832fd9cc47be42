"""What the HTTP edge is told from outside: its bounds, and what it asks others about a request."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from gateway.partner.arrival import Arrival
from gateway.partner.at_once import Prepared
from gateway.partner.callers import NOBODY_BETWEEN, Callers

OnMalformed = Callable[[str, str, str], bytes]
"""(reason, request id, peer) → the body of a 400 `malformed-request`; also where the audit record is made."""

OnFault = Callable[[BaseException | None, str, str], bytes]
"""(error, request id, peer) → the body of a 500 `internal`. The error is for the log, never for the body."""

TurnAway = Callable[[Arrival, str], Prepared | None]
"""(a request, its method) → the answer to one for which there is no room; None where it is to be handled."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
"""Answers a request whose target and head are proven; see `arrival`."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds on one connection; times in seconds."""

    headers: float = 5.0
    """From the first byte of a request, or the opening of the connection, to the end of its headers."""
    keep_alive: float = 75.0
    """Of silence between two requests."""
    write: float = 30.0
    """Until a client has taken all of an answer."""
    discard: float = 1.0
    """After an early answer, so that unread input does not reset the connection before the answer is read."""
    discard_bytes: int = 1_048_576
    line: int = 8_190
    """Bytes in the request target, and in one header."""
    shutdown: float = 60.0
    connections: int = 4_096
    """Open at once in one process; fewer where it may not open twice as many files."""


@dataclass(frozen=True, slots=True)
class HttpEdge:
    """What the protocol is told from outside."""

    on_malformed: OnMalformed
    on_fault: OnFault
    new_id: Callable[[], str]
    limits: HttpLimits = HttpLimits()
    callers: Callers = NOBODY_BETWEEN
    is_full: Callable[[int], bool] = lambda _coming: False
    """Whether `turn_away` is to be asked, where so many requests are on their way to the handler already."""
    turn_away: TurnAway = lambda _came, _method: None
