"""Why would this request be refused? The decision on an appointment from a file, or read from PKB for the purpose."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from gateway.app.bringing import Brought
from gateway.app.grants import grants_reader, utc_now
from gateway.app.keys import read_audit_key
from gateway.app.pseudonyms import pseudonym_keys
from gateway.app.upstreams import open_upstreams
from gateway.configuration.grants import Grants
from gateway.configuration.settings import Settings
from gateway.domain.appointment import Appointment, Command
from gateway.domain.decision import Refusal
from gateway.domain.grant import Policy
from gateway.domain.rules import Claimant, admit
from gateway.domain.trial import Trial, try_out
from gateway.flow import records
from gateway.flow.ports import Journal as Chain
from gateway.flow.ports import Upstream, UpstreamFault
from gateway.pkb.hl7_route import Login
from gateway.storage.blocks import Blocks
from gateway.storage.journal import Journal, JournalSettings
from gateway.storage.journal_chain import ChainSettings
from gateway.storage.opening import open_database


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
            "request_id": str(uuid.uuid4()),
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
        upstreams = await open_upstreams(settings, _NobodysLogin(), lambda _: None, (), lambda: None, stack)
        veil, *_ = pseudonym_keys(audit)
        yield Explaining(lambda: policy, upstreams, journal, veil, now)
