"""Everything that a reset puts back: the resources, the faults, the list of writes, the review queue.

A reset makes a new world; a delayed write that is still on its way changes only the old one.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from gateway.simulator.aggregated_store import AggregatedStore
from gateway.simulator.customers import BOXES, BRADFORD, BY_SOURCE, EVERY_CUSTOMER, Customer
from gateway.simulator.demo import DemoAppointment, bookings, listed, resources
from gateway.simulator.faults import Faults
from gateway.simulator.resources import NHS_NUMBER
from gateway.simulator.review import Review
from gateway.simulator.store import Copy, Resource, Store
from gateway.simulator.writes import Write


class World:
    """PKB at one time. `now` is what the demonstration's times are relative to; only `hospitals` are listed."""

    def __init__(self, now: datetime, hospitals: tuple[str, ...]) -> None:
        self.faults = Faults()
        self.writes: list[Write] = []
        self.review = Review()
        self.aggregated = AggregatedStore()
        booked = tuple(bookings(now))
        for kind, resource in resources(BRADFORD.box, booked, now):
            self.aggregated.put(kind, resource["id"], resource, now)
        self.boxes = {name: Store() for name in BOXES}
        for name, box in self.boxes.items():
            for kind, resource in resources(name, booked, now):
                box.put(kind, resource["id"], resource, now)
        self.appointments: tuple[DemoAppointment, ...] = listed(booked, hospitals, self._version)

    def copy(self, customer: Customer, id_: str) -> Copy | None:
        """PKB's newest copy of an appointment that is where the customer's are."""
        held = self.aggregated.newest if customer.route == "hl7" else self.boxes[customer.box]
        return held.get("Appointment", id_)

    def _version(self, owner: Customer, id_: str) -> str:
        copy = self.copy(owner, id_)
        assert copy is not None
        return copy.version


def owner_of(box: Store, resource: Any) -> Customer | None:
    """Whose it is: of a Patient by its managingOrganization, of an Appointment by its first known Patient."""
    if not isinstance(resource, dict):
        return None
    if resource.get("resourceType") == "Patient":
        organisation = resource.get("managingOrganization")
        named = organisation.get("reference") if isinstance(organisation, dict) else None
        return BY_SOURCE.get(named) if isinstance(named, str) else None
    found = (box.get("Patient", id_) for id_ in patients_of(resource))
    return next((owner_of(box, copy.resource) for copy in found if copy is not None), None)


def patients_of(appointment: Resource) -> Iterator[str]:
    """The ids of the Patients among its participants, by relative references."""
    participants = appointment.get("participant")
    for participant in participants if isinstance(participants, list) else []:
        actor = participant.get("actor") if isinstance(participant, dict) else None
        reference = actor.get("reference") if isinstance(actor, dict) else None
        if isinstance(reference, str) and reference.startswith("Patient/"):
            yield reference.removeprefix("Patient/")


def hand_over(box: Store, id_: str, appointment: Resource, owner: Customer, at: datetime) -> Resource:
    """Make an appointment the owner's, through its Patients as PKB reads them.

    A Patient that others refer to is left to them, and a copy of it takes its place; an unknown one is made.
    """
    renamed: dict[str, str] = {}
    for patient_id in patients_of(appointment):
        known = box.get("Patient", patient_id)
        if known is None or owner_of(box, known.resource) != owner:
            mine = f"{patient_id}.{owner.id}" if _shared(box, patient_id, id_) else patient_id
            _put_patient(box, mine, known, owner, at)
            renamed[f"Patient/{patient_id}"] = f"Patient/{mine}"
    if not appointment.get("participant"):
        _put_patient(box, f"patient-{id_}", None, owner, at)
        actor = {"reference": f"Patient/patient-{id_}"}
        return {**appointment, "participant": [{"actor": actor, "status": "accepted"}]}
    if all(old == new for old, new in renamed.items()):
        return appointment
    return {**appointment, "participant": [_pointed(person, renamed) for person in appointment["participant"]]}


def _shared(box: Store, patient_id: str, appointment_id: str) -> bool:
    others = (copy for copy in box.all("Appointment") if copy.id != appointment_id)
    return any(patient_id in patients_of(copy.resource) for copy in others)


def _put_patient(box: Store, id_: str, like: Copy | None, owner: Customer, at: datetime) -> None:
    made: Resource = {
        "resourceType": "Patient",
        "identifier": [{"system": NHS_NUMBER, "value": "9999999999"}],
        "birthDate": "1970-01-01",
    }
    resource = made if like is None else like.resource
    box.put("Patient", id_, {**resource, "id": id_, "managingOrganization": {"reference": owner.source}}, at)


def _pointed(person: Any, renamed: dict[str, str]) -> Any:
    actor = person.get("actor") if isinstance(person, dict) else None
    reference = actor.get("reference") if isinstance(actor, dict) else None
    if not isinstance(actor, dict) or reference not in renamed:
        return person
    return {**person, "actor": {**actor, "reference": renamed[reference]}}


def all_of(box: str) -> frozenset[str]:
    """The ids of every customer whose appointments are in a box."""
    return frozenset(customer.id for customer in EVERY_CUSTOMER.values() if customer.box == box)
