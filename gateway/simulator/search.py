"""The few searches that PKB documents for boxes, over what a store holds."""

from collections.abc import Callable, Iterator
from typing import Any

from gateway.simulator.exact_json import Number, write
from gateway.simulator.store import Copy, Resource, Store
from gateway.simulator.world import patients_of


class BadSearch(ValueError):
    """A search the box does not do; the message names the parameter."""


def search(box: Store, kind: str, wanted: list[tuple[str, str]], address: str) -> bytes:
    """A searchset Bundle of the resources that meet every parameter. Raises `BadSearch`."""
    filters: list[Callable[[Copy], bool]] = []
    most = None
    for name, value in wanted:
        if name == "_count":
            if not value.isdecimal():
                raise BadSearch("_count must be a number")
            most = int(value)
        else:
            filters.append(_filter(box, kind, name, value))
    found = [copy for copy in box.all(kind) if all(meets(copy) for meets in filters)]
    head = {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": Number(len(found)),
        "link": [{"relation": "self", "url": address}],
    }
    entries = b",".join(b'{"resource":%b,"search":{"mode":"match"}}' % copy.body for copy in found[:most])
    return write(head)[:-1] + b',"entry":[' + entries + b"]}"


def _filter(box: Store, kind: str, name: str, value: str) -> Callable[[Copy], bool]:
    match kind, name:
        case _, "_id":
            return lambda copy: copy.id == value
        case _, "identifier":
            return lambda copy: _identified(copy.resource, value)
        case "Appointment", "status":
            return lambda copy: copy.resource.get("status") in value.split(",")
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


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    return (held for held in value if isinstance(held, dict)) if isinstance(value, list) else iter(())
