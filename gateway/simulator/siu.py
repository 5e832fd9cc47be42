"""PKB's state machine for appointments by HL7, keyed by organisation and placer id (SCH-1.1).

S13 and S14 create what is unknown and revive what was cancelled; S15 and S26 touch the status only. Nothing notices
that a control id was seen before, and nothing compares the message's patient with the appointment's.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Final, Literal
from zoneinfo import ZoneInfo

from gateway.simulator import aggregated_resources as shapes
from gateway.simulator.aggregated_resources import Details
from gateway.simulator.aggregated_store import AggregatedStore
from gateway.simulator.customers import Customer
from gateway.simulator.hl7_text import Message, Segment
from gateway.simulator.resources import NHS_NUMBER
from gateway.simulator.store import Copy, Resource

Code = Literal["AA", "AR", "AE"]
TRIGGERS: Final = frozenset({"S12", "S13", "S14", "S15", "S26"})
ENDINGS: Final = {"S15": "cancelled", "S26": "noshow"}
SINGLE: Final = ("MSH", "PID", "SCH", "PV1", "ZAP")
_TIME: Final = re.compile(r"(\d{8})(\d{4}|\d{6}(?:\.\d{1,4})?)(?:([+-])(\d\d)(\d\d))?")


class Rejected(Exception):
    """A check of PKB's failed: answered with AR, nothing changed."""


@dataclass(frozen=True, slots=True)
class Order:
    """A message whose header and patient were found good, ready to be applied now or after review."""

    message: Message
    trigger: str
    placer: str
    owner: Customer
    patient_id: str
    same_birth_date: bool


def check(message: Message, owner: Customer, store: AggregatedStore) -> Order:
    """What PKB checks before it acknowledges. Raises `Rejected`."""
    for name in SINGLE:
        if len(message.all(name)) > 1:
            raise Rejected(f"Parsing or validation error: {name} must not be repeated")
    header = message.header
    if header.value(9, 1) != "SIU" or header.value(9, 2) not in TRIGGERS:
        raise Rejected("Parsing or validation error: MSH-9 (message type) is not supported")
    for number, what in ((7, "date and time"), (10, "control ID")):
        if not header.value(number):
            raise Rejected(f"Parsing or validation error: MSH-{number} ({what}) must be provided")
    if header.value(11) != "P":
        raise Rejected("Parsing or validation error: MSH-11 (processing ID) must be P")
    placer = message.first("SCH").value(1)
    if not placer:
        raise Rejected("Parsing or validation error: SCH-1.1 (placer ID) must be provided. You provided []")
    found = _patient(message.first("PID"), store)
    if found is None:
        raise Rejected("No patient of this organisation matches the identifiers in PID")
    same = message.first("PID").value(7)[:8] == str(found.resource.get("birthDate", "")).replace("-", "")
    return Order(message, header.value(9, 2), placer, owner, found.id, same)


def apply(
    order: Order, store: AggregatedStore, new_id: Callable[[], str], at: datetime, lag: Callable[[], timedelta]
) -> Copy:
    """Carry it out. `lag` is asked, once something is written, how long readers wait for it. Raises `Rejected`."""
    known = find(store, order)
    details = read_details(order)
    match order.trigger:
        case "S15" | "S26" as ending:
            resource = _fresh(order, details, new_id, at) if known is None else known.resource
            resource = {**resource, "status": ENDINGS[ending]}
        case "S12":
            resource = _fresh(order, details, new_id if known is None else lambda: known.id, at)
        case _ if known is None:
            resource = shapes.updated(shapes.fresh(new_id(), order.placer, order.patient_id, order.owner, at), details)
        case _:
            resource = shapes.updated(known.resource, details)
    id_ = known.id if known is not None else str(resource["id"])
    url = order.message.first("ZAP").value(1)
    if order.trigger == "S12":
        store.management_urls.pop(id_, None)
    if url and order.trigger not in ENDINGS:
        store.management_urls[id_] = url
    return store.put("Appointment", id_, resource, at, at + lag())


def find(store: AggregatedStore, order: Order) -> Copy | None:
    """The appointment an order is about, by the newest copy."""
    copies = store.newest.all("Appointment")
    return next((copy for copy in copies if shapes.placed_by(copy.resource, order.placer, order.owner)), None)


def read_details(order: Order) -> Details:
    """Everything the message says about the appointment. Raises `Rejected` for a time that is none."""
    booked, visit = order.message.first("SCH"), order.message.first("PV1")
    zone = ZoneInfo(order.owner.time_zone)
    notes = [note.value(3) for note in order.message.all("NTE") if note.value(3)]
    return Details(
        subject=booked.value(7, 2) or None,
        type_code=booked.value(8, 1) or None,
        type_system=booked.value(8, 3) or None,
        start=_time(booked, 4, zone),
        end=_time(booked, 5, zone),
        email=booked.value(13, 4) or None,
        phone=booked.value(13, 7) or None,
        phone_extension=booked.value(13, 8) or None,
        notes=booked.value(13, 9) or None,
        description="\n".join(notes) or None,
        encounter_class=visit.value(2) or None,
        location=visit.value(3, 9) or None,
        specialty=visit.value(10) or None,
        externals=tuple(name for name in map(_display, order.message.all("AIP")) if name),
    )


def _fresh(order: Order, details: Details, new_id: Callable[[], str], at: datetime) -> Resource:
    """A whole appointment; only what is mandatory on S12 makes one."""
    for value, where in ((details.start, "SCH-11.4 (start)"), (details.location, "PV1-3.9 (location)")):
        if value is None:
            raise Rejected(f"Parsing or validation error: {where} must be provided. You provided []")
    return shapes.updated(shapes.fresh(new_id(), order.placer, order.patient_id, order.owner, at), details)


def _patient(person: Segment, store: AggregatedStore) -> Copy | None:
    """By NHS number, in PID-2 or PID-3; identifiers of other kinds are ignored."""
    numbers = {
        parts[0]
        for number in (2, 3)
        for parts in person.repetitions(number)
        if len(parts) >= 5 and parts[3:5] == ("NHS", "NH")
    }
    found = [copy for copy in store.newest.all("Patient") if numbers & set(_nhs_numbers(copy.resource))]
    return found[0] if len(found) == 1 else None


def _nhs_numbers(patient: Resource) -> list[str]:
    held = shapes.objects(patient.get("identifier"))
    return [str(identifier.get("value")) for identifier in held if identifier.get("system") == NHS_NUMBER]


def _display(person: Segment) -> str:
    """`^Family^Given^Middle^^Prefix` and the role, as one name with the role in brackets."""
    parts = (person.value(3, 6), person.value(3, 3), person.value(3, 4), person.value(3, 2))
    name = " ".join(part for part in parts if part)
    role = person.value(4, 2) or person.value(4, 1)
    return f"{name} ({role})" if name and role and not name.endswith(f"({role})") else name


def _time(booked: Segment, component: int, zone: ZoneInfo) -> datetime | None:
    """A time of the hospital's wall clock, or with an offset of its own. The repeated hour is taken as the first."""
    text = booked.value(11, component)
    if not text:
        return None
    match = _TIME.fullmatch(text)
    refusal = Rejected(f"Parsing or validation error: SCH-11.{component} is no date and time")
    if match is None:
        raise refusal
    try:
        local = datetime.strptime(match[1] + match[2][:6].ljust(6, "0"), "%Y%m%d%H%M%S")  # noqa: DTZ007 - aware below
        return local.replace(tzinfo=_offset(match) or zone)
    except ValueError as error:
        raise refusal from error


def _offset(match: re.Match[str]) -> tzinfo | None:
    if match[3] is None:
        return None
    offset = timedelta(hours=int(match[4]), minutes=int(match[5]))
    return timezone(-offset if match[3] == "-" else offset)
