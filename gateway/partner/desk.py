"""What every step towards an answer needs, and how a step says that it failed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.domain.codes import Code
from gateway.domain.grant import Policy
from gateway.flow.gate import Gate
from gateway.flow.look import Looks
from gateway.flow.ports import Journal
from gateway.flow.search import Searches
from gateway.flow.write import Writes
from gateway.partner.answers import Answers, Headers
from gateway.partner.cursors import Cursors


class Ledger(Journal, Protocol):
    """The audit stream, with the budget for those who have not said who they are."""

    def refused_unauthenticated(self, record: Mapping[str, object], client_address: str) -> None:
        """Record a refusal without waiting for the disk; beyond the budget it is only counted."""
        ...


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """Bounds on one request. Seconds, bytes, and requests at a time."""

    body: int
    deadline: float
    in_flight: int
    not_found_step: float


class Stop(Exception):
    """A step that failed; it carries the answer and whether the refusal is already on record."""

    def __init__(
        self, code: Code, detail: str = "", *, expression: str | None = None, headers: Headers | None = None
    ) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.expression = expression
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class Desk:
    """The stories and the means to answer. `clock` gives UTC, `new_id` a fresh UUID.

    `new_control_id` gives a fresh MSH-10: HL7 v2.4 allows it 20 characters.
    """

    gate: Gate
    writes: Writes
    looks: Looks
    searches: Searches
    cursors: Cursors
    ledger: Ledger
    answers: Answers
    limits: EdgeLimits
    policy: Callable[[], Policy]
    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    new_control_id: Callable[[], str]
