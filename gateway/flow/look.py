"""The story of a request that changes nothing: an appointment, what may be done with it, a Task."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from gateway.domain.appointment import Appointment, Read
from gateway.domain.codes import Code
from gateway.domain.decision import Check, Decision, Permit, Refusal
from gateway.domain.grant import Customer, Operation, Policy
from gateway.domain.offers import Offer, offers
from gateway.domain.rules import decide
from gateway.flow import records
from gateway.flow.ports import Journal, Sighting, StateUnavailable, Upstream, UpstreamFault
from gateway.flow.request import Caller, Refused, Shown, milliseconds_since, same_route
from gateway.flow.store import Store
from gateway.flow.tasks import Task
from gateway.flow.watching import Stage, StageObserver, unwatched


@dataclass(frozen=True, slots=True)
class Looks:
    """Shows what a grant lets a partner see; the record is durable before the answer leaves."""

    policy: Callable[[], Policy]
    upstream: Upstream
    journal: Journal
    store: Store
    veil: records.Veil
    clock: Callable[[], datetime]
    stages: StageObserver = unwatched

    async def show(self, caller: Caller, customer: Customer, appointment: str) -> Shown | Refused:
        """Show an appointment. Raises JournalUnavailable."""
        looked = await self._look(caller, customer, appointment, fresh=False)
        return looked if isinstance(looked, Refused) else Shown(looked[0])

    async def actions(self, caller: Caller, customer: Customer, appointment: str) -> Sequence[Offer] | Refused:
        """Say what the partner may do with an appointment now. Raises JournalUnavailable."""
        looked = await self._look(caller, customer, appointment, fresh=True)
        if isinstance(looked, Refused):
            return looked
        sighting, policy, now = looked
        return offers(caller.who, sighting.appointment, policy, now)

    async def task(self, caller: Caller, permit: Permit, task: str) -> Task | Refused:
        """Show a Task to the partner that caused it, at the same customer. Raises JournalUnavailable."""
        policy, now = self.policy(), self.clock()
        try:
            filed = await self.store.find(task)
        except StateUnavailable:
            await self._record(caller, None, policy, records.failed(Code.STATE_UNAVAILABLE, now))
            return Refused(Code.STATE_UNAVAILABLE)
        found = filed.task if filed else None
        if found is None or (found.partner, found.customer) != (caller.partner, caller.customer):
            refusal = Refusal(Code.NOT_FOUND, (*permit.checks, Check("task-of-partner", passed=False)), permit.grant)
            await self._record(caller, None, policy, records.refused(refusal, now))
            return Refused(Code.NOT_FOUND)
        told = {**records.seen(permit, now), "task": found.id}
        await self._record(caller, found.appointment, policy, told)
        return found

    async def _look(
        self, caller: Caller, customer: Customer, appointment: str, *, fresh: bool
    ) -> tuple[Sighting, Policy, datetime] | Refused:
        began = time.perf_counter()
        try:
            sighting = await self.upstream.read(customer, appointment, caller.deadline, fresh=fresh)
        except UpstreamFault as fault:
            self.stages(Stage.READ, time.perf_counter() - began)
            told = records.failed(fault.code, self.clock(), fault.status)
            await self._record(caller, appointment, self.policy(), told)
            return Refused(fault.code)
        read = time.perf_counter()
        self.stages(Stage.READ, read - began)
        policy, now = self.policy(), self.clock()
        seen = sighting.appointment if sighting and same_route(customer, policy) else None
        decision = decide(caller.who, Read(), seen, policy, now)
        self.stages(Stage.DECIDE, time.perf_counter() - read)
        await self._record(caller, appointment, policy, self._told(customer, decision, seen, now))
        match decision:
            case Refusal():
                return Refused(decision.code, decision.detail)
            case Permit():
                assert sighting is not None, "a permit has seen the appointment"
                return sighting, policy, now
            case unexpected:
                assert_never(unexpected)

    def _told(self, customer: Customer, decision: Decision, seen: Appointment | None, now: datetime) -> records.Record:
        patient = records.patient_of(seen, customer, self.veil)
        told = records.refused(decision, now) if isinstance(decision, Refusal) else records.seen(decision, now)
        return {**told, "patient": patient}

    async def _record(self, caller: Caller, appointment: str | None, policy: Policy, told: records.Record) -> None:
        await self.journal.write(
            {
                **records.about(caller, policy, Operation.READ, appointment),
                **told,
                "duration_ms": milliseconds_since(caller.received),
            }
        )
