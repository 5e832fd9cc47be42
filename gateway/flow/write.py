"""The story of one write, from the turn to the answer.

Read `Writes._carry_out` and `Writes._send` top to bottom; they alone decide the order of things.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, assert_never

from gateway.domain.appointment import Appointment, Write
from gateway.domain.codes import Code
from gateway.domain.decision import Check, Decision, Permit, Refusal
from gateway.domain.grant import Customer, Policy, RouteKind
from gateway.domain.outcome import (
    Accepted,
    Applied,
    Outcome,
    Rejected,
    TaskStatus,
    Unknown,
    can_be_seen,
    task_status,
    word,
)
from gateway.domain.rules import decide
from gateway.flow import records
from gateway.flow.faults import report
from gateway.flow.open_writes import OpenWrite, OpenWrites
from gateway.flow.ports import (
    Acknowledged,
    Doubt,
    Journal,
    JournalUnavailable,
    NotSent,
    Sender,
    Sighting,
    Turned,
    Upstream,
    UpstreamFault,
    Written,
)
from gateway.flow.request import Answer, Caller, Refused, Shown, Taken, same_route
from gateway.flow.tasks import Task, Tasks, keep
from gateway.flow.turns import Key, Place, Turns

PATIENCE: Final = 2.0
"""Seconds a second write to one appointment waits for the first."""

READ_BACK_SHARE: Final = 0.3
"""The part of the time left that a write leaves for reading back, should its answer prove nothing."""


@dataclass(frozen=True, slots=True)
class Order:
    """A command for one appointment, the caller who gave it, and the version it was meant for."""

    caller: Caller
    customer: Customer
    """As the gate saw it."""
    appointment: str
    command: Write
    expected_version: str | None
    task: str
    """The id its Task will have, minted first."""
    control_id: str
    """The number its message will have where PKB is sent messages (MSH-10)."""


@dataclass(frozen=True, slots=True)
class _Permitted:
    """An order with all that its decision saw."""

    order: Order
    policy: Policy
    permit: Permit
    sighting: Sighting
    now: datetime

    @property
    def before(self) -> Appointment:
        return self.sighting.appointment

    @property
    def upstream(self) -> records.Upstream:
        """What is on record before PKB answered."""
        route = self.order.customer.route
        number = self.order.control_id if route.kind is RouteKind.HL7 else None
        return records.Upstream(route.name, self.before.version, control_id=number)


@dataclass(slots=True)
class Writes:
    """Carries writes out, one at a time for each appointment. `clock` gives UTC."""

    policy: Callable[[], Policy]
    upstream: Upstream
    journal: Journal
    tasks: Tasks
    veil: records.Veil
    clock: Callable[[], datetime]
    open_writes: OpenWrites
    patience: float = PATIENCE
    turns: Turns = field(default_factory=Turns)
    running: set[asyncio.Task[Answer]] = field(default_factory=set)

    async def run(self, order: Order) -> Answer:
        """Carry an order to its end, whether or not the partner is still there. Raises JournalUnavailable."""
        task = asyncio.create_task(self._carry_out(order))
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Wait for every write that was begun, and for those that begin meanwhile."""
        while self.running:
            await asyncio.gather(*self.running, return_exceptions=True)

    async def _carry_out(self, order: Order) -> Answer:
        key = (order.customer.route.name, order.appointment)
        async with AsyncExitStack() as held:
            place = await held.enter_async_context(self.turns.take(key, self.patience))
            # A copy read while a write was open may be older than its end; a message has no If-Match to tell.
            busy = self.open_writes.held()
            try:
                sighting = await self._read(order)
                keys = _keys(order, sighting)
                if place and len(keys) > 1:
                    place = await held.enter_async_context(self.turns.take(keys[1], self.patience))
                    if place is Place.AFTER_WAITING:
                        sighting = await self._read(order)
            except UpstreamFault as fault:
                return await self._fail(order, fault)
            mine = bool(place) and keys == _keys(order, sighting)
            return await self._decide(order, sighting, keys, free=mine and busy.isdisjoint(keys))

    async def _decide(self, order: Order, sighting: Sighting | None, keys: tuple[Key, ...], *, free: bool) -> Answer:
        # From here to the intent nothing waits but the journal: this is the decision under the grants now in force,
        # on the facts just read.
        policy, now = self.policy(), self.clock()
        seen = sighting.appointment if sighting and same_route(order.customer, policy) else None
        decision = decide(order.caller.who, order.command, seen, policy, now, order.expected_version)
        if _within_reach(decision) and (not free or self.open_writes.hold(keys)):
            own = self.open_writes.task_of(keys, order.caller.partner, order.caller.customer)
            return replace(await self._refuse(order, _busy(decision), seen, policy, now), task=own)
        match decision:
            case Refusal():
                return await self._refuse(order, decision, seen, policy, now)
            case Permit():
                assert sighting is not None, "a permit has seen the appointment"
                return await self._send(_Permitted(order, policy, decision, sighting, now))
            case unexpected:
                assert_never(unexpected)

    async def _read(self, order: Order) -> Sighting | None:
        return await self.upstream.read(order.customer, order.appointment, order.caller.deadline, fresh=True)

    async def _send(self, case: _Permitted) -> Answer:
        intent = await self._intend(case)
        # From here on nothing raises: an intent on disk gets an outcome.
        task = _requested(case.order, case.now)
        await keep(self.tasks, task)
        sent_at = self.clock()
        task = replace(task, status=TaskStatus.IN_PROGRESS, updated=sent_at)
        await keep(self.tasks, task)
        outcome, after, upstream = await self._attempt(case, sent_at)
        opened = self._told(case, intent, task, outcome, upstream)
        await self.open_writes.settle(opened, outcome)
        return _answer(case.order, outcome, after)

    async def _intend(self, case: _Permitted) -> int:
        if self.open_writes.owed:
            raise JournalUnavailable("an outcome waits to be recorded")
        order = case.order
        return await self.journal.write(
            {
                **records.about(order.caller, case.policy, order.command.operation, order.appointment),
                **records.intent(case.permit, case.now, order.task, order.command, case.before, self.veil),
                "patient": records.patient_of(case.before, case.order.customer, self.veil),
                "upstream": case.upstream.as_record(),
            }
        )

    async def _attempt(self, case: _Permitted, sent_at: datetime) -> tuple[Outcome, Sighting | None, records.Upstream]:
        try:
            return await self._write(case, sent_at)
        except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001 - it proves nothing about PKB, so it is doubt
            report("a write broke off", fault)
            return Unknown(), None, case.upstream

    async def _write(self, case: _Permitted, sent_at: datetime) -> tuple[Outcome, Sighting | None, records.Upstream]:
        """Send the one message and find out what became of it."""
        order = case.order
        deadline = order.caller.deadline
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        upstream = case.upstream
        sender = Sender(order.caller.partner, case.permit.grant.hl7_alias, order.control_id, sent_at)
        answer = await self.upstream.write(
            order.customer, order.command, case.sighting, deadline - READ_BACK_SHARE * left, sender=sender
        )
        ended_at = self.clock()
        match answer:
            case Written(sighting=after, status=status):
                version = after.appointment.version
                return Applied(version), after, replace(upstream, status=status, version_after=version)
            case Acknowledged(ack=ack):
                acknowledged = replace(upstream, status=ack)
                if not can_be_seen(order.command):
                    return Accepted(final=True), None, acknowledged
                outcome, seen, found = await self._read_back(case, acknowledged, ended_at)
                return (Accepted() if isinstance(outcome, Unknown) else outcome), seen, found
            case Turned(code=code, status=turned):
                return Rejected(code), None, replace(upstream, status=turned)
            case NotSent():
                return Rejected(Code.UPSTREAM_UNAVAILABLE), None, upstream
            case Doubt(status=doubtful):
                return await self._read_back(case, replace(upstream, status=doubtful), ended_at)
            case unexpected:
                assert_never(unexpected)

    async def _read_back(
        self, case: _Permitted, upstream: records.Upstream, ended_at: datetime
    ) -> tuple[Outcome, Sighting | None, records.Upstream]:
        try:
            after = await self._read(case.order)
        except UpstreamFault:
            return Unknown(), None, upstream
        except Exception as fault:  # noqa: BLE001 - a read that broke shows nothing; what PKB answered still counts
            report("a read after a write broke off", fault)
            return Unknown(), None, upstream
        order = case.order
        outcome, told = self.open_writes.judge(order.customer, order.command, case.before, after, ended_at)
        return outcome, after, replace(upstream, **told)

    def _told(
        self,
        case: _Permitted,
        intent: int,
        task: Task,
        outcome: Outcome,
        upstream: records.Upstream,
    ) -> OpenWrite:
        order, now = case.order, self.clock()
        record = {
            **records.about(order.caller, case.policy, order.command.operation, order.appointment),
            **records.decided(case.permit, case.now),
            "reason": records.reason(order.command),
            "patient": records.patient_of(case.before, case.order.customer, self.veil),
            **records.ended(outcome, intent, order.task, upstream, recovered=False, closed=False),
            "duration_ms": _milliseconds_since(order.caller.received),
        }
        ended = replace(
            task,
            status=task_status(outcome),
            updated=now,
            outcome=word(outcome),
            code=records.outcome_code(outcome),
            version=outcome.version if isinstance(outcome, Applied) else None,
        )
        return OpenWrite(
            keys=_keys(order, case.sighting),
            customer=case.order.customer,
            command=order.command,
            before=case.before,
            intent=intent,
            sent_at=now,
            accepted=isinstance(outcome, Accepted),
            record=record,
            upstream=upstream,
            task=ended,
        )

    async def _refuse(
        self, order: Order, refusal: Refusal, seen: Appointment | None, policy: Policy, now: datetime
    ) -> Refused:
        patient = records.patient_of(seen, order.customer, self.veil)
        await self._record(order, policy, {**records.refused(refusal, now), "patient": patient})
        return Refused(refusal.code, refusal.detail)

    async def _fail(self, order: Order, fault: UpstreamFault) -> Refused:
        await self._record(order, self.policy(), records.failed(fault.code, self.clock(), fault.status))
        return Refused(fault.code)

    async def _record(self, order: Order, policy: Policy, told: records.Record) -> None:
        await self.journal.write(
            {
                **records.about(order.caller, policy, order.command.operation, order.appointment),
                **told,
                "reason": records.reason(order.command),
                "duration_ms": _milliseconds_since(order.caller.received),
            }
        )


def _keys(order: Order, sighting: Sighting | None) -> tuple[Key, ...]:
    """Name what a write holds: the appointment by its id and, where HL7 knows it by another name, by that too."""
    route = order.customer.route.name
    own = (route, order.appointment)
    placer = sighting.appointment.placer_id if sighting else None
    # A slash is in no resource id, so a placer id cannot be taken for one.
    return (own,) if placer is None else (own, (route, f"placer/{placer}"))


def _within_reach(decision: Decision) -> bool:
    """Whether the partner may know that the appointment exists; only then may it learn that it is busy."""
    if isinstance(decision, Permit):
        return True
    return decision.facts is not None and decision.code is not Code.NOT_FOUND


def _busy(decision: Decision) -> Refusal:
    checks = (*decision.checks, Check("appointment-free", passed=False))
    return Refusal(Code.APPOINTMENT_BUSY, checks, decision.grant, decision.facts)


def _requested(order: Order, now: datetime) -> Task:
    caller = order.caller
    return Task(
        order.task,
        caller.partner,
        caller.customer,
        order.appointment,
        order.command.operation,
        TaskStatus.REQUESTED,
        now,
        now,
    )


def _answer(order: Order, outcome: Outcome, after: Sighting | None) -> Answer:
    match outcome:
        case Applied():
            assert after is not None, "applied means seen"
            return Shown(after, task=order.task)
        case Accepted():
            return Taken(order.task)
        case Rejected(code=code):
            return Refused(code)
        case Unknown():
            return Refused(Code.OUTCOME_UNKNOWN, task=order.task)
        case unexpected:
            assert_never(unexpected)


def _milliseconds_since(received: float) -> int:
    return round(1000 * (asyncio.get_running_loop().time() - received))
