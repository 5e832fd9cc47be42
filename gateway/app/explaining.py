"""Why would this request be refused? The decision on an appointment from a file, or read from PKB for the purpose."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from gateway.app.assembly import new_id, read_audit_key
from gateway.app.grants import grants_reader, utc_now
from gateway.app.upstreams import open_upstreams
from gateway.configuration.grants import Grants
from gateway.configuration.settings import Hl7Route, Settings
from gateway.domain import strict_json
from gateway.domain.appointment import Appointment, Command, Patient, PatientClaim
from gateway.domain.decision import Refusal
from gateway.domain.grant import Customer, Ownership, Policy
from gateway.domain.pseudonym import Pseudonyms
from gateway.domain.rules import Claimant, admit
from gateway.domain.strict_json import MalformedJson, Object, Value
from gateway.domain.trial import Trial, try_out
from gateway.flow import records
from gateway.flow.ports import Journal as Chain
from gateway.flow.ports import Upstream, UpstreamFault
from gateway.pkb.aggregated import read_aggregated
from gateway.pkb.appointment_reading import PatientRecord, one_patient, read_appointment, read_patient
from gateway.pkb.hl7_route import Login
from gateway.storage.blocks import Blocks
from gateway.storage.journal import Journal, JournalSettings
from gateway.storage.journal_chain import ChainSettings
from gateway.storage.opening import open_database

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


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody wants explained; `at` None: now."""

    who: Claimant
    command: Command
    at: datetime | None = None
    expected_version: str | None = None


@dataclass(frozen=True, slots=True)
class Explained:
    """A question with the decision on it."""

    question: Question
    trial: Trial
    policy: Policy
    now: datetime
    appointment: Appointment | None
    assumed: tuple[str, ...] = ()


def explain(question: Question, policy: Policy, brought: Brought | None, now: datetime) -> Explained:
    """Decide on an appointment that was brought along."""
    seen = None if brought is None else brought.appointment
    at = question.at or now
    trial = try_out(question.who, question.command, seen, policy, at, question.expected_version)
    return Explained(question, trial, policy, at, seen, brought.assumed if brought else ())


@dataclass(frozen=True, slots=True)
class Explaining:
    """Explains what PKB has now; every explanation is on record before it is shown. `clock` gives UTC."""

    policy: Callable[[], Policy]
    upstream: Upstream
    journal: Chain
    veil: records.Veil
    clock: Callable[[], datetime]

    async def live(self, question: Question, appointment: str, by: str, seconds: float) -> Explained:
        """Read an appointment within so many seconds and decide. Raises UpstreamFault and JournalUnavailable."""
        policy, who = self.policy(), question.who
        customer = policy.customers.get(who.customer)
        admitted = admit(who, frozenset({question.command.operation}), policy, question.at or self.clock())
        seen = None
        if customer is not None and not isinstance(admitted, Refusal):
            try:
                deadline = asyncio.get_running_loop().time() + seconds
                sighting = await self.upstream.read(customer, appointment, deadline, fresh=True)
            except UpstreamFault as fault:
                told = {**records.failed(fault.code, self.clock(), fault.status), "event": "explained"}
                await self._record(question, policy, appointment, by, told)
                raise
            seen = sighting.appointment if sighting else None
        explained = explain(question, policy, Brought(seen) if seen else None, self.clock())
        told = {"event": "explained", **records.decided(explained.trial.decision, explained.now)}
        patient = None if customer is None else records.patient_of(seen, customer, self.veil)
        await self._record(question, policy, appointment, by, {**told, "patient": patient})
        return explained

    async def _record(
        self, question: Question, policy: Policy, appointment: str, by: str, told: records.Record
    ) -> None:
        about = {
            "request_id": new_id(),
            "partner": question.who.partner,
            "customer": question.who.customer,
            "grants_digest": policy.digest,
            "operation": question.command.operation.value,
            "appointment": appointment,
            "operator": by,
        }
        await self.journal.write({**about, **told, "reason": records.reason(question.command)})


class _NobodysLogin:
    """Explaining sends no message, so it needs nobody's login at PKB."""

    def hl7_login(self, partner: str) -> Login | None:
        del partner
        return None


@asynccontextmanager
async def explaining(settings: Settings, now: Callable[[], datetime] = utc_now) -> AsyncIterator[Explaining]:
    """Open what a live explanation needs, apart from any gateway that runs.

    Raises ConfigurationRefused, JournalUnavailable, StateUnavailable, OSError and ValueError.
    """
    async with AsyncExitStack() as stack:
        grants: Grants = await asyncio.to_thread(grants_reader(settings).load)
        database = await open_database(settings.state.url.reveal())
        stack.push_async_callback(database.close)
        policy = grants.policy.with_blocks(frozenset(await Blocks(database).blocks()))
        audit = settings.audit
        signer = read_audit_key(audit.signing_key.reveal()) if audit.signing_key else None
        journal = await Journal.open(
            JournalSettings(ChainSettings(audit.directory), reserve=audit.reserve), clock=now, signer=signer
        )
        stack.push_async_callback(journal.close)
        upstreams = await open_upstreams(settings, _NobodysLogin(), lambda _: None, stack)
        veil = Pseudonyms(audit.pseudonym_key_id, audit.pseudonym_key.reveal().encode())
        yield Explaining(lambda: policy, upstreams, journal, veil, now)


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
    named = one_patient(document)
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
        return Brought(read_appointment(document, id_, None, record), tuple(assumed))
    return Brought(read_aggregated(document, id_, None, record, placer_system), tuple(assumed))


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
