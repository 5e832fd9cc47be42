"""An appointment from a file, read as PKB's own copies are."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.configuration.settings import Hl7Route, Settings
from gateway.domain import strict_json
from gateway.domain.appointment import NO_CLAIM, Appointment, Patient, PatientClaim
from gateway.domain.grant import Customer, Ownership
from gateway.domain.strict_json import MalformedJson, Object, Value
from gateway.flow.ports import UpstreamFault
from gateway.pkb.aggregated import of_aggregated
from gateway.pkb.appointment_reading import PatientRecord, read_appointment, read_patient

LARGEST: Final = 16 * 1024 * 1024
"""Bytes of a file that is read."""
NAMELESS: Final = "explained"
"""The id, version and patient of an appointment that says none."""
ANY_NUMBER: Final = "0000000000"
"""Stands for the NHS number of a patient who is not in the file."""


class Unusable(Exception):
    """The file holds no appointment that can be judged; the message says why."""


@dataclass(frozen=True, slots=True)
class Brought:
    """An appointment from a file, and what was taken for granted because the file does not say it."""

    appointment: Appointment
    assumed: tuple[str, ...] = ()


def placer_id_system(settings: Settings, customer: Customer) -> str | None:
    """Name the identifier system of HL7's placer ids on a customer's route; None where it has none."""
    route = settings.routes.get(customer.route.name)
    return route.read.placer_id_system if isinstance(route, Hl7Route) else None


def read_file(path: Path) -> bytes:
    """Read a file of a person's. Raises Unusable."""
    try:
        with path.open("rb") as file:
            body = file.read(LARGEST + 1)
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror or 'cannot be read'}") from error
    if len(body) > LARGEST:
        raise Unusable(f"{path}: larger than {LARGEST // 1024 // 1024} MiB")
    return body


def bring(body: bytes, customer: Customer, placer_system: str | None, claim: PatientClaim) -> Brought:
    """Read an Appointment (FHIR R4 JSON), or a Bundle of it and its Patient, as PKB's own copies are read.

    Without the Patient nothing would be proven about owner and patient. So, for a file only, the appointment is then
    taken to be the customer's and the partner's words about the patient to be true. Raises Unusable.
    """
    try:
        document = strict_json.read(body, depth=64)
        appointment, patients = _parts(document)
        return _read(appointment, patients, customer, placer_system, claim)
    except MalformedJson as error:
        raise Unusable(str(error)) from error
    except UpstreamFault as fault:
        raise Unusable(fault.reason) from fault


def _parts(document: Value) -> tuple[Object, list[Object]]:
    if not isinstance(document, dict):
        raise Unusable("not a FHIR resource")
    if document.get("resourceType") != "Bundle":
        return document, []
    entries = document.get("entry")
    held = [entry.get("resource") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    resources = [each for each in held if isinstance(each, dict)]
    appointments = [each for each in resources if each.get("resourceType") == "Appointment"]
    if len(appointments) != 1:
        raise Unusable(f"a Bundle needs exactly one Appointment, this one has {len(appointments)}")
    return appointments[0], [each for each in resources if each.get("resourceType") == "Patient"]


def _read(
    given: Object, patients: Collection[Object], customer: Customer, placer_system: str | None, claim: PatientClaim
) -> Brought:
    document, assumed = _completed(given)
    id_ = document["id"]
    if not isinstance(id_, str):
        raise Unusable("id is no string")
    told = read_appointment(document, id_, None)
    named = told.one_patient
    record = None
    for patient in patients:
        if named is not None and patient.get("id") == named:
            record = read_patient(patient, named)
    if record is None and named is not None:
        number = claim.nhs_number or ANY_NUMBER
        record = PatientRecord(Patient(f"Patient/{named}", number, claim.birth_date), customer.source)
        assumed.append("the patient is as you say" if claim.given else "the patient has an NHS number")
        if customer.route.ownership is Ownership.MANAGING_ORGANISATION:
            assumed.append(f"the appointment belongs to {customer.id}")
    if placer_system is None:
        return Brought(told.of(record), tuple(assumed))
    return Brought(of_aggregated(told, document, record, placer_system), tuple(assumed))


def _completed(given: Object) -> tuple[Object, list[str]]:
    """Add what a file written by hand may lack and no rule about the customer's wishes asks for."""
    meta = given.get("meta", {})
    document: Object = {"id": NAMELESS, **given}
    if isinstance(meta, dict) and "versionId" not in meta:
        document["meta"] = {**meta, "versionId": NAMELESS}
    if given.get("participant", []) != []:
        return document, []
    document["participant"] = [{"actor": {"reference": f"Patient/{NAMELESS}"}}]
    return document, ["there is one patient"]


@dataclass(frozen=True, slots=True)
class CaseReader:
    """Reads the appointment of a customer's own test from a file. Raises ValueError with the reason."""

    settings: Settings

    def __call__(self, path: Path, customer: Customer) -> Appointment:
        """Read one."""
        try:
            return bring(read_file(path), customer, placer_id_system(self.settings, customer), NO_CLAIM).appointment
        except Unusable as error:
            raise ValueError(str(error)) from error
