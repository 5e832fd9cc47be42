"""PKB's HL7 connection: SOAP over HTTP, Basic authentication of the partner, tenants by alias."""

import base64
import binascii
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from aiohttp import web

from gateway.simulator import hl7_text, siu, soap
from gateway.simulator.customers import EVERY_CUSTOMER, HL7_CREDENTIALS, Customer, Hl7Credentials
from gateway.simulator.faults import Answer, Fault, hang_up, play
from gateway.simulator.hl7_text import BadMessage, Message
from gateway.simulator.review import Decision, Held
from gateway.simulator.siu import Order, Rejected
from gateway.simulator.world import World
from gateway.simulator.writes import Write, opened

PATH: Final = "/services/hl7"
_ALIASES: Final = re.compile(r"([^{}]+)\{([^{}]+)\}")
_KNOWN: Final = {alias: name for held in HL7_CREDENTIALS.values() for alias, name in held.aliases.items()}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a message came to."""

    code: siu.Code
    text: str = ""
    applied: bool = False


class Hl7Door:
    """The HTTP side of the HL7 connection, and the desk of who reviews held messages."""

    def __init__(self, world: Callable[[], World], clock: Callable[[], datetime], new_id: Callable[[], str]) -> None:
        self._world = world
        self._clock = clock
        self._new_id = new_id

    async def handle(self, request: web.Request) -> web.Response:
        """`POST` of one message."""
        body, world = await request.read(), self._world()
        text, problem = _opened(request, body)
        customer = _named(text)
        write = opened(request, body, len(world.writes) + 1, self._clock(), customer, "hl7")
        write.message = text
        world.writes.append(write)
        partner = _partner(request)
        if partner is None:
            headers = {"WWW-Authenticate": 'Basic realm="PKB HL7"'}
            answer = Answer(web.Response(status=401, text="Unauthorized", headers=headers))
        else:
            fault = world.faults.take("hl7", write=True, customers=frozenset({customer}))
            answer = await play(fault, request, lambda: self._answer(world, partner, write, problem, fault))
        write.ended(answer)
        return hang_up(request) if answer.response is None else answer.response

    def decide(self, n: int, decision: Decision) -> tuple[Held, bool]:
        """Settle a waiting message: what it was, and whether it changed anything. Raises KeyError."""
        world = self._world()
        held = world.review.decide(n, decision)
        if decision == "approve":
            held.write.applied = self._apply(world, held.order).applied
        return held, held.write.applied

    def _answer(
        self, world: World, partner: Hl7Credentials, write: Write, problem: str | None, fault: Fault | None
    ) -> Answer:
        if problem is not None or write.message is None:
            return _envelope(soap.fault(problem or "no message"), 500)
        try:
            message = hl7_text.parse(write.message)
        except BadMessage as error:
            return _envelope(soap.fault(str(error)), 500)
        ordered = fault if fault is not None and fault.kind == "ack" else None
        value, said = (None, None) if ordered is None else (ordered.value, ordered.text)
        verdict = self._verdict(world, partner, message, write, value)
        about = f"not-{message.header.field(10)}" if value == "wrong-id" else message.header.field(10)
        write.ack = verdict.code
        ack = hl7_text.acknowledgement(message.header, verdict.code, about, said or verdict.text, self._clock())
        return _envelope(soap.response(ack), 200, applied=verdict.applied)

    def _verdict(
        self, world: World, partner: Hl7Credentials, message: Message, write: Write, ordered: int | str | None
    ) -> Verdict:
        if ordered == "AR":
            return Verdict("AR", "Parsing or validation error: this was ordered")
        if ordered == "AE":
            return Verdict("AE", "Unexpected error while processing: null")
        try:
            order = siu.check(message, _owner(message, partner), world.aggregated)
        except Rejected as refusal:
            return Verdict("AR", str(refusal))
        decided = world.review.decided(order)
        if ordered == "AA-held" or (not order.same_birth_date and decided is None):
            known = siu.find(world.aggregated, order)
            reason: Final = "ordered" if ordered == "AA-held" else "birth-date"
            world.review.hold(order, write, None if known is None else known.id, self._clock(), reason)
            return Verdict("AA")
        if not order.same_birth_date and decided == "reject":
            return Verdict("AA")
        return self._apply(world, order)

    def _apply(self, world: World, order: Order) -> Verdict:
        def lag() -> timedelta:
            fault = world.faults.take("aggregated", write=True, customers=frozenset({order.owner.id}), lag=True)
            return timedelta(milliseconds=0 if fault is None else fault.number)

        try:
            siu.apply(order, world.aggregated, self._new_id, self._clock(), lag)
        except Rejected as refusal:
            return Verdict("AR", str(refusal))
        return Verdict("AA", applied=True)


def _opened(request: web.Request, body: bytes) -> tuple[str | None, str | None]:
    """The message in the envelope, or what is wrong with it."""
    if request.content_type != "text/xml":
        return None, "the content type must be text/xml"
    try:
        return soap.read(body), None
    except soap.BadEnvelope as error:
        return None, str(error)


def _named(text: str | None) -> str:
    """The customer that a message's alias names, whoever sends it; empty when none can be read."""
    try:
        return _KNOWN.get(_alias(hl7_text.parse(text or "")) or "", "")
    except BadMessage:
        return ""


def _alias(message: Message) -> str | None:
    """MSH-4 is `alias{alias}`: the connecting and the source organisation, which cannot differ at present."""
    match = _ALIASES.fullmatch(message.header.value(4))
    return match[1] if match is not None and match[1] == match[2] else None


def _owner(message: Message, partner: Hl7Credentials) -> Customer:
    customer = partner.aliases.get(_alias(message) or "")
    if customer is None:
        raise Rejected("The message was rejected: MSH-4 names no organisation that this connection may act for")
    return EVERY_CUSTOMER[customer]


def _partner(request: web.Request) -> Hl7Credentials | None:
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, secret = base64.b64decode(rest, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    known = next((held for held in HL7_CREDENTIALS.values() if held.username == name), None)
    return known if known is not None and hmac.compare_digest(known.password.encode(), secret.encode()) else None


def _envelope(body: bytes, status: int, *, applied: bool = False) -> Answer:
    response = web.Response(status=status, body=body, content_type="text/xml", charset="utf-8")
    return Answer(response, applied)
