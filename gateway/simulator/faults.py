"""Misbehaviour on order: which requests it strikes, and what it does to them.

Faults wait in a row; a request is struck by the oldest one that fits it.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any, Literal, assert_never

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from gateway.simulator import soap
from gateway.simulator.answers import FHIR_JSON, outcome
from gateway.simulator.customers import EVERY_CUSTOMER

Target = Literal["box", "aggregated", "hl7", "token"]
Kind = Literal["delay", "status", "drop-before", "drop-after", "garbage", "ack", "lag"]
ACKS = frozenset({"AR", "AE", "AA-held", "wrong-id"})
LONGEST_DELAY = 600_000  # ms


class Fault(BaseModel):
    """One order of `POST /faults`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    target: Target
    kind: Kind
    value: int | str | None = Field(default=None, validate_default=True)
    count: int = Field(default=1, ge=0, description="how many requests it strikes; 0: until cleared")
    on: Literal["read", "write", "any"] = "write"
    customer: str | None = None
    text: str | None = Field(default=None, max_length=2_000, description="what status, garbage and ack say")

    @field_validator("kind")
    @classmethod
    def _fits_the_target(cls, kind: Kind, known: ValidationInfo) -> Kind:
        only = {"ack": "hl7", "lag": "aggregated"}.get(kind)
        if only is not None and known.data.get("target", only) != only:
            raise ValueError(f"{kind} is for target {only} only")
        return kind

    @field_validator("value")
    @classmethod
    def _fits_the_kind(cls, value: int | str | None, known: ValidationInfo) -> int | str | None:
        kind: Kind | None = known.data.get("kind")
        match kind:
            case "delay" | "lag":
                fits = isinstance(value, int) and 0 <= value <= LONGEST_DELAY
                wanted = f"whole milliseconds from 0 to {LONGEST_DELAY}"
            case "status":
                fits, wanted = isinstance(value, int) and 200 <= value <= 599, "from 200 to 599"
            case "garbage":
                fits, wanted = value in {None, "applied", "not-applied"}, "applied or not-applied"
            case "ack":
                fits, wanted = value in ACKS, f"one of {', '.join(sorted(ACKS))}"
            case "drop-before" | "drop-after" | None:
                fits, wanted = True, ""
            case _:
                assert_never(kind)
        if not fits:
            raise ValueError(f"value of {kind} must be {wanted}")
        return value

    @field_validator("customer")
    @classmethod
    def _is_known(cls, customer: str | None) -> str | None:
        if customer is not None and customer not in EVERY_CUSTOMER:
            raise ValueError(f"customer must be one of {', '.join(EVERY_CUSTOMER)}")
        return customer

    @property
    def number(self) -> int:
        """The value of a kind that has a number."""
        return self.value if isinstance(self.value, int) else 0

    def shown(self) -> dict[str, Any]:
        """Tell it as it was ordered; what it says only where that was."""
        return self.model_dump(exclude=None if self.text is not None else {"text"})

    def strikes(self, target: Target, *, write: bool, customers: frozenset[str], lag: bool) -> bool:
        """Whether it concerns a request that touches appointments of these customers, or the lag of what it wrote.

        On Aggregated there are reads only, so that a fault which does not say what it strikes means them.
        """
        if self.target != target or (self.kind == "lag") != lag:
            return False
        unsaid = target == "aggregated" and "on" not in self.model_fields_set
        wanted = target == "token" or lag or unsaid or self.on == "any" or (self.on == "write") == write
        return wanted and (self.customer is None or self.customer in customers)


class Faults:
    """The faults in waiting."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Fault, int]] = []

    def add(self, fault: Fault) -> None:
        """Put it at the end of the row."""
        self._waiting.append((fault, fault.count))

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()

    def listed(self) -> list[dict[str, Any]]:
        """What waits, with the counts still left."""
        return [{**fault.shown(), "count": left} for fault, left in self._waiting]

    def take(self, target: Target, *, write: bool, customers: frozenset[str], lag: bool = False) -> Fault | None:
        """The oldest fault that strikes this request (or, if asked, lags its write); it is counted down."""
        for place, (fault, left) in enumerate(self._waiting):
            if fault.strikes(target, write=write, customers=customers, lag=lag):
                if left == 1:
                    del self._waiting[place]
                elif left > 1:
                    self._waiting[place] = (fault, left - 1)
                return fault
        return None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request came to. No response: the connection is closed without one."""

    response: web.Response | None
    applied: bool = False


async def play(fault: Fault | None, request: web.Request, normal: Callable[[], Answer]) -> Answer:
    """Answer a request that was read to its end, normally or as the fault wants it.

    What is delayed is done even if the caller has hung up: a server finishes what it has read.
    """
    if fault is None:
        return normal()
    match fault.kind:
        case "delay":
            await asyncio.sleep(fault.number / 1000)
            return normal()
        case "status":
            return Answer(_refusal(fault, request.path))
        case "drop-before":
            return Answer(None)
        case "drop-after":
            return Answer(None, normal().applied)
        case "garbage":
            applied = fault.value == "applied" and normal().applied
            page = _PAGE.format(escape(fault.text or "The portal is being updated."))
            return Answer(web.Response(text=page, content_type="text/html"), applied)
        case "ack" | "lag":
            return normal()
        case _:
            assert_never(fault.kind)


def hang_up(request: web.Request) -> web.Response:
    """Close the connection without an answer. The response is for aiohttp only; nothing of it is sent."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


_PAGE = "<!DOCTYPE html>\n<html><body><h1>Please wait</h1><p>{}</p></body></html>\n"


def _refusal(fault: Fault, path: str) -> web.Response:
    """A bare status with an OperationOutcome, or with a SOAP Fault where that is spoken.

    A redirect points at the same place, to catch who follows it.
    """
    status, text = fault.number, fault.text or f"Status {fault.number} was ordered"
    if status in {204, 205, 304}:
        return web.Response(status=status)
    headers = {"Location": path} if 300 <= status < 400 else {}
    if fault.target == "hl7":
        return web.Response(status=status, body=soap.fault(text), content_type="text/xml", headers=headers)
    body = json.dumps(outcome("fault", "transient", text))
    return web.Response(status=status, body=body.encode(), content_type=FHIR_JSON, headers=headers)
