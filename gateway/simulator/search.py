"""The few searches that PKB documents, over what a box or the Aggregated endpoint holds."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol
from urllib.parse import urlencode

from gateway.simulator.exact_json import Number, write
from gateway.simulator.store import Copy, Resource
from gateway.simulator.world import patients_of

_DATE: Final = re.compile(r"(eq|gt|lt|ge|le)?(\d{4}-\d{2}-\d{2})(T.+)?")
_BAD_DATE: Final = "date must be a date or a date-time, after eq, gt, lt, ge, le or nothing"


class Held(Protocol):
    """Resources of many types."""

    def all(self, kind: str) -> Iterator[Copy]:
        """Every resource of a type, in the order of their creation."""


class BadSearch(ValueError):
    """A search the box does not do; the message names the parameter."""


def search(box: Held, kind: str, wanted: list[tuple[str, str]], address: str) -> bytes:
    """A searchset Bundle of the resources that meet every parameter, `_count` on a page. Raises `BadSearch`."""
    filters: list[Callable[[Copy], bool]] = []
    pages: dict[str, int | None] = {"_count": None, "_page": 1}
    ordered = False
    for name, value in wanted:
        if name == "_sort":
            if value != "_id":
                raise BadSearch("_sort must be _id")
            ordered = True
        elif name in pages:
            if not value.isdecimal() or (name == "_page" and int(value) < 1):
                raise BadSearch(f"{name} must be a number")
            pages[name] = int(value)
        else:
            filters.append(_filter(box, kind, name, value))
    found = [copy for copy in box.all(kind) if all(meets(copy) for meets in filters)]
    if ordered:
        found.sort(key=lambda copy: copy.id)
    most, page = pages["_count"], pages["_page"] or 1
    shown = found if most is None else found[most * (page - 1) : most * page]
    links = [{"relation": "self", "url": address}]
    if most and len(found) > most * page:
        following = [pair for pair in wanted if pair[0] != "_page"] + [("_page", str(page + 1))]
        links.append({"relation": "next", "url": f"{address.partition('?')[0]}?{urlencode(following)}"})
    head = {"resourceType": "Bundle", "type": "searchset", "total": Number(len(found)), "link": links}
    entries = b",".join(b'{"resource":%b,"search":{"mode":"match"}}' % copy.body for copy in shown)
    return write(head)[:-1] + b',"entry":[' + entries + b"]}"


def _filter(box: Held, kind: str, name: str, value: str) -> Callable[[Copy], bool]:
    match kind, name:
        case _, "_id":
            return lambda copy: copy.id == value
        case _, "identifier":
            return lambda copy: _identified(copy.resource, value)
        case "Appointment", "status":
            return lambda copy: copy.resource.get("status") in value.split(",")
        case "Appointment", "date":
            within = _period(value)
            return lambda copy: within(copy.resource.get("start"))
        case "Appointment", "specialty":
            return lambda copy: any(_has_specialty(copy.resource, each) for each in value.split(","))
        case "Appointment", "actor:Patient.organization" | "patient.organization":
            theirs = {copy.id for copy in box.all("Patient") if _managed_by(copy.resource) in value.split(",")}
            return lambda copy: not theirs.isdisjoint(patients_of(copy.resource))
        case "Appointment", "patient" | "actor":
            patient = value.removeprefix("Patient/")
            return lambda copy: patient in patients_of(copy.resource)
        case "Appointment", "patient.identifier" | "patient:Patient.identifier" | "actor:Patient.identifier":
            people = {copy.id for copy in box.all("Patient") if _identified(copy.resource, value)}
            return lambda copy: not people.isdisjoint(patients_of(copy.resource))
        case _:
            raise BadSearch(f"search parameter {name} of {kind} is not supported")


def _identified(resource: Resource, wanted: str) -> bool:
    """FHIR's token search: `system|value`, or `value` alone for any system."""
    system, bar, value = wanted.rpartition("|")
    return any(
        identifier.get("value") == value and (not bar or identifier.get("system", "") == system)
        for identifier in _objects(resource.get("identifier"))
    )


def _has_specialty(appointment: Resource, wanted: str) -> bool:
    codings = [coding for held in _objects(appointment.get("specialty")) for coding in _objects(held.get("coding"))]
    return any(f"{coding.get('system', '')}|{coding.get('code')}" == wanted for coding in codings)


def _managed_by(patient: Resource) -> Any:
    organisation = patient.get("managingOrganization")
    return organisation.get("reference") if isinstance(organisation, dict) else None


def _period(wanted: str) -> Callable[[Any], bool]:
    """FHIR's date search on a start: a day is all of it (in UTC), a date-time its one second."""
    match = _DATE.fullmatch(wanted)
    if match is None:
        raise BadSearch(_BAD_DATE)
    try:
        first = datetime.fromisoformat(match[2] + (match[3] or "T00:00:00+00:00"))
    except ValueError as error:
        raise BadSearch(_BAD_DATE) from error
    first = first if first.tzinfo is not None else first.replace(tzinfo=UTC)
    after = first + (timedelta(days=1) if match[3] is None else timedelta(seconds=1))
    meets: dict[str, Callable[[datetime], bool]] = {
        "eq": lambda at: first <= at < after,
        "gt": lambda at: at >= after,
        "lt": lambda at: at < first,
        "ge": lambda at: at >= first,
        "le": lambda at: at < after,
    }
    return lambda start: (at := _instant(start)) is not None and meets[match[1] or "eq"](at)


def _instant(text: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo is not None else None


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    return (held for held in value if isinstance(held, dict)) if isinstance(value, list) else iter(())
