"""The story of one write, from its idempotency key to the answer.

Read `Writes._once`, `_in_line`, `_decide` and `_send` in this order; they alone decide the order of things.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, assert_never

from gateway.domain.appointment import Appointment
from gateway.domain.codes import Code
from gateway.domain.decision import Check, Decision, Permit, Refusal
from gateway.domain.grant import Policy
from gateway.domain.intents import NOTHING
from gateway.domain.outcome import Accepted, Applied, Outcome, Rejected, Unknown, can_be_seen
from gateway.domain.rules import decide
from gateway.flow import records
from gateway.flow.arrears import Arrears
from gateway.flow.faults import report
from gateway.flow.open_writes import OpenWrites
from gateway.flow.orders import Once, OpenWrite, Order, Permitted, Wish, permitted
from gateway.flow.places import Places, Stand
from gateway.flow.ports import (
    Acknowledged,
    Doubt,
    Journal,
    JournalUnavailable,
    NotSent,
    Sender,
    Sighting,
    StateUnavailable,
    Turned,
    Upstream,
    UpstreamFault,
    Written,
)
from gateway.flow.replays import Replays
from gateway.flow.request import Answer, Refused, Shown, Taken, milliseconds_since, same_route
from gateway.flow.store import KeyIsKnown, KeyIsNew, KeyIsOthers, Phase, Store
from gateway.flow.tasks import Task
from gateway.flow.watching import Stage, StageObserver, unwatched

READ_BACK_SHARE: Final = 0.3
"""The part of the time left that a write leaves for reading back, should its answer prove nothing."""

Fence = Callable[[], bool]
_Attempt = tuple[Outcome, Sighting | None, records.Upstream]


async def already_current() -> None:
    """Wait for nothing: the policy cannot be old."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """A decision and all that it saw."""

    decision: Decision
    policy: Policy
    now: datetime
    seen: Appointment | None

    @property
    def hidden(self) -> bool:
        """Whether the partner must not learn that the appointment exists."""
        decision = self.decision
        return isinstance(decision, Refusal) and (decision.facts is None or decision.code is Code.NOT_FOUND)

    def busy(self) -> "_Judged":
        """Give the refusal of a write that must not begin now, to those who may know that the appointment exists."""
        decision = self.decision
        if self.hidden:
            return self
        checks = (*decision.checks, Check("appointment-free", passed=False))
        return replace(self, decision=Refusal(Code.APPOINTMENT_BUSY, checks, decision.grant, decision.facts))


@dataclass(slots=True)
class Writes:
    """Carries writes out, one at a time for each appointment. `clock` gives UTC."""

    policy: Callable[[], Policy]
    upstream: Upstream
    journal: Journal
    store: Store
    arrears: Arrears
    veil: records.Veil
    clock: Callable[[], datetime]
    open_writes: OpenWrites
    replays: Replays
    places: Places
    leave: Callable[[], Fence]
    """Gives a pass to write: whether it is still good is asked at the last moment before a byte leaves."""
    current: Callable[[], Awaitable[None]] = already_current
    """Waits until the policy is not older than it may be: a process that was stopped wakes with the grants of then."""
    stages: StageObserver = unwatched
    running: set[asyncio.Task[Answer]] = field(default_factory=set)
    sending: dict[str, float] = field(default_factory=dict)
    """Tasks whose intent is durable and whose first outcome is not known yet, with the ticks when that began."""

    async def run(self, order: Order) -> Answer:
        """Carry an order to its end, whether or not the partner is still there. Raises JournalUnavailable."""
        task = asyncio.create_task(self._carry_out(order))
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Wait for every write that was begun, and for those that begin meanwhile."""
        while self.running:
            # From Python 3.12 on `gather` returns without a turn of the loop where all are done, and so would for ever.
            await asyncio.wait(self.running)

    async def _carry_out(self, order: Order) -> Answer:
        try:
            async with self.places.stand() as stand:
                if order.once is None:
                    return await self._in_line(order, stand)
                return await self._once(order, order.once, stand)
        except StateUnavailable:
            return await self._turn_away(order, Code.STATE_UNAVAILABLE)

    async def _once(self, order: Order, once: Once, stand: Stand) -> Answer:
        """Step 14: of the same requests only the first goes on."""
        try:
            claim = await self.store.claim_key(order.caller.partner, once.key, once.fingerprint, order.task)
            match claim:
                case KeyIsNew():
                    return await self._in_line(order, stand)
                case KeyIsOthers():
                    return await self._turn_away(order, Code.IDEMPOTENCY_KEY_REUSED)
                case KeyIsKnown(filed=filed):
                    if filed is None or filed.phase in {Phase.HELD, Phase.SENT}:
                        return await self._turn_away(order, Code.REQUEST_IN_PROGRESS)
                    return await self.replays.answer(order.caller, order.customer, filed)
                case unexpected:
                    assert_never(unexpected)
        finally:
            # What is filed answers for its key itself. A key that another write has is not touched by this.
            if not stand.filed:
                await self.arrears.tell(lambda: self.store.free_key(order.task))

    async def _in_line(self, order: Order, stand: Stand) -> Answer:
        """Steps 15 to 17: wait for the appointment's turn, read it, and decide on what was read in that turn."""
        keys = order.keys(None)
        while True:
            for key in keys:
                await stand.enter(key)
            try:
                sighting = await self._read(order)
            except UpstreamFault as fault:
                return await self._turn_away(order, fault.code, fault.status)
            names = order.keys(sighting)
            current = names == keys or await stand.joins(names[1:])
            keys = names
            # What was read before a turn began may be older than the write that had the turn before.
            if current or not stand.has_time:
                answer = await self._decide(order, sighting, stand, free=current and stand.free)
                if answer is not None:
                    return answer

    async def _decide(self, order: Order, sighting: Sighting | None, stand: Stand, *, free: bool) -> Answer | None:
        """Decide, and carry out what is permitted; None where somebody else took the appointment meanwhile."""
        began = time.perf_counter()
        order = self._understand(order, sighting)
        judged = self._judge(order, sighting)
        self.stages(Stage.DECIDE, time.perf_counter() - began)
        if not free:
            judged = judged.busy()
        if isinstance(judged.decision, Refusal):
            return await self._refuse(order, judged, stand)
        begun = await self._begin(order, sighting, judged, stand)
        if isinstance(begun, tuple):
            return await self._send(*begun)
        if begun is None and not stand.has_time:
            return await self._refuse(order, judged.busy(), stand)
        return begun

    def _understand(self, order: Order, sighting: Sighting | None) -> Order:
        """Find out what a wish comes to, but for those who must not learn that the appointment exists.

        Comparing takes a time that the partner's own body decides, and an early answer would tell it.
        """
        if not isinstance(order.command, Wish):
            return order
        unread = replace(order, command=NOTHING)
        return unread if sighting is None or self._judge(unread, sighting).hidden else order.beside(sighting)

    def _judge(self, order: Order, sighting: Sighting | None) -> _Judged:
        policy, now = self.policy(), self.clock()
        seen = sighting.appointment if sighting and same_route(order.customer, policy) else None
        assert not isinstance(order.command, Wish), "a wish is decided by what it means"
        decision = decide(order.caller.who, order.command, seen, policy, now, order.expected_version)
        return _Judged(decision, policy, now, seen)

    async def _begin(
        self, order: Order, sighting: Sighting | None, judged: _Judged, stand: Stand
    ) -> tuple[Permitted, int] | Refused | None:
        """Take the appointment, decide again, and make the intent durable; what comes to no intent is let go of."""
        intent, began = None, time.perf_counter()
        try:
            held = self._permitted(order, judged, sighting)
            if not await stand.hold(held.task(None), self.journal.chain):
                return None
            await self.current()
            # From here to the intent nothing waits but the journal: this is the decision under the grants now in
            # force, on the facts just read.
            judged = self._judge(order, sighting)
            if isinstance(judged.decision, Refusal):
                return await self._refuse(order, judged, stand)
            case = held.again(judged.decision, judged.policy, judged.now)
            if self.open_writes.owed:
                raise JournalUnavailable("an outcome waits to be recorded")
            intent = await self.journal.write(case.intent(self.veil))
            return case, intent
        finally:
            self.stages(Stage.INTENT, time.perf_counter() - began)
            if stand.filed and intent is None:
                stand.filed = False
                await self.arrears.tell(lambda: self._give_back(order.task))

    def _permitted(self, order: Order, judged: _Judged, sighting: Sighting | None) -> Permitted:
        assert isinstance(judged.decision, Permit), "what was refused does not get here"
        assert sighting is not None, "a permit has seen the appointment"
        return permitted(order, sighting, judged.decision, judged.policy, judged.now, self.veil)

    async def _give_back(self, task: str) -> None:
        await self.store.drop(task)
        # Had another node ended it meanwhile, it would owe the record of an end to an intent that there is not.
        await self.store.recorded([task])

    async def _read(self, order: Order) -> Sighting | None:
        began = time.perf_counter()
        try:
            return await self.upstream.read(order.customer, order.appointment, order.caller.deadline, fresh=True)
        finally:
            self.stages(Stage.READ, time.perf_counter() - began)

    async def _send(self, case: Permitted, intent: int) -> Answer:
        # From here on nothing raises: an intent on disk gets an outcome.
        task = case.task(intent)
        self.sending[task.id] = self.open_writes.ticks()
        fence = self.leave()
        if await self._may_send(task):
            sent_at = self.clock()
            outcome, after, upstream = await self._attempt(case, sent_at, fence)
        else:
            outcome, after, upstream = Rejected(Code.STATE_UNAVAILABLE), None, case.upstream
        opened = self._told(case, intent, task, upstream)
        began = time.perf_counter()
        await self.open_writes.settle(opened, outcome)
        self.sending.pop(task.id, None)
        self.stages(Stage.OUTCOME, time.perf_counter() - began)
        return _answer(case.order, outcome, after)

    async def _may_send(self, task: Task) -> bool:
        try:
            return await self.store.send(task)
        except StateUnavailable:
            return False
        except Exception as fault:  # noqa: BLE001 - without permission nothing is sent, and that is an outcome too
            report("the store did not say whether a write may be sent", fault)
            return False

    async def _attempt(self, case: Permitted, sent_at: datetime, fence: Fence) -> _Attempt:
        try:
            return await self._write(case, sent_at, fence)
        except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001 - it proves nothing about PKB, so it is doubt
            report("a write broke off", fault)
            return Unknown(), None, case.upstream

    async def _write(self, case: Permitted, sent_at: datetime, fence: Fence) -> _Attempt:
        """Send the one message and find out what became of it."""
        order = case.order
        deadline = order.caller.deadline
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        upstream = case.upstream
        alias = case.permit.grant.hl7_alias
        sender = Sender(order.caller.partner, alias, order.control_id, sent_at, fence)
        began = time.perf_counter()
        try:
            answer = await self.upstream.write(
                order.customer, case.command, case.sighting, deadline - READ_BACK_SHARE * left, sender=sender
            )
        finally:
            self.stages(Stage.WRITE, time.perf_counter() - began)
        since = self.open_writes.ticks()
        match answer:
            case Written(sighting=after, status=status):
                version = after.appointment.version
                return Applied(version), after, upstream.shown(status, version)
            case Acknowledged(ack=ack):
                acknowledged = replace(upstream, status=ack)
                if not can_be_seen(case.command):
                    return Accepted(final=True), None, acknowledged
                outcome, seen, found = await self._read_back(case, acknowledged, since)
                return (Accepted() if isinstance(outcome, Unknown) else outcome), seen, found
            case Turned(code=code, status=turned):
                return Rejected(code), None, replace(upstream, status=turned)
            case NotSent():
                return Rejected(Code.UPSTREAM_UNAVAILABLE), None, upstream
            case Doubt(status=doubtful):
                return await self._read_back(case, replace(upstream, status=doubtful), since)
            case unexpected:
                assert_never(unexpected)

    async def _read_back(self, case: Permitted, upstream: records.Upstream, since: float) -> _Attempt:
        try:
            after = await self._read(case.order)
        except UpstreamFault:
            return Unknown(), None, upstream
        except Exception as fault:  # noqa: BLE001 - a read that broke shows nothing; what PKB answered still counts
            report("a read after a write broke off", fault)
            return Unknown(), None, upstream
        order = case.order
        outcome, told = self.open_writes.judge(order.customer, case.command, case.before, after, since)
        return outcome, after, replace(upstream, **told)

    def _told(self, case: Permitted, intent: int, task: Task, upstream: records.Upstream) -> OpenWrite:
        order = case.order
        return OpenWrite(
            task=task,
            command=case.command,
            before=case.before,
            intent=intent,
            sent_at=self.clock(),
            since=self.open_writes.ticks(),
            accepted=False,
            record={**case.record, "duration_ms": milliseconds_since(order.caller.received)},
            upstream=upstream,
        )

    async def _refuse(self, order: Order, judged: _Judged, stand: Stand) -> Refused:
        refusal = judged.decision
        assert isinstance(refusal, Refusal), "only a refusal is refused"
        patient = records.patient_of(judged.seen, order.customer, self.veil)
        await self._record(order, judged.policy, {**records.refused(refusal, judged.now), "patient": patient})
        own = _own_task(order, stand) if refusal.code is Code.APPOINTMENT_BUSY else None
        return Refused(refusal.code, refusal.detail, task=own)

    async def _turn_away(self, order: Order, code: Code, status: int | None = None) -> Refused:
        await self._record(order, self.policy(), records.failed(code, self.clock(), status))
        return Refused(code)

    async def _record(self, order: Order, policy: Policy, told: records.Record) -> None:
        await self.journal.write(
            {
                **records.about(order.caller, policy, order.operation, order.appointment),
                **told,
                "reason": order.reason,
                "duration_ms": milliseconds_since(order.caller.received),
            }
        )


def _own_task(order: Order, stand: Stand) -> str | None:
    """Name the Task that holds an appointment, to the partner who caused it at this customer and to no other."""
    holder = stand.open_holder
    if holder is None or (holder.task.partner, holder.task.customer) != (order.caller.partner, order.caller.customer):
        return None
    return holder.task.id


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
