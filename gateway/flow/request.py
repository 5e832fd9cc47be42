"""A request as the story sees it, and the answers the story can give."""

import asyncio
from dataclasses import dataclass
from typing import NamedTuple

from gateway.domain.codes import Code
from gateway.domain.grant import Customer, Policy
from gateway.domain.rules import Claimant
from gateway.flow.ports import Sighting


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What the audit stream keeps of an access token. Never the token."""

    issuer: str
    jti: str
    kid: str


class Caller(NamedTuple):
    """Who asks, for whom, under which names the request travels, and until when it may take.

    `received` and `deadline` are times of the running event loop, in seconds.
    """

    partner: str
    customer: str
    scope: frozenset[str]
    """The letters of the token's scope: r, s, u."""
    token: TokenFacts
    client: str
    request_id: str
    correlation_id: str | None
    received: float
    deadline: float

    @property
    def who(self) -> Claimant:
        """Name the two parties whose grant decides."""
        return Claimant(self.partner, self.customer)


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of a rate: `remaining` requests, full again in `reset` seconds."""

    name: str
    requests: int
    seconds: int
    remaining: int
    reset: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The request was not carried out, or its outcome is not known; `code` says which."""

    code: Code
    detail: str = ""
    retry_after: int | None = None
    """Seconds; None: as the catalogue says."""
    task: str | None = None
    """The Task that tells more, where this partner may see it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """PKB's copy, read for this request; after a write: as the write left it."""

    sighting: Sighting
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """PKB took the write; it cannot be seen yet."""

    task: str


@dataclass(frozen=True, slots=True)
class Unshown:
    """The write is done, but its appointment is not for this partner to read now, or cannot be read."""

    task: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """The answer that the same request had before."""

    answer: Shown | Unshown | Taken | Refused


Answer = Shown | Unshown | Taken | Refused | Replayed


def milliseconds_since(received: float) -> int:
    """Tell how long ago a time of the running event loop was."""
    return round(1000 * (asyncio.get_running_loop().time() - received))


def same_route(customer: Customer, policy: Policy) -> bool:
    """Whether a customer is still reached as it was when PKB was read; facts of one route prove nothing on another."""
    now = policy.customers.get(customer.id)
    return now is not None and now.route == customer.route
