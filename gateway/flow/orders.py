"""What a write is about, from the partner's wish to the permitted case and the message that was sent."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from gateway.domain import strict_json
from gateway.domain.appointment import Appointment, Write
from gateway.domain.decision import Permit
from gateway.domain.grant import Customer, Operation, Policy, RouteKind
from gateway.domain.intents import Meaning, Unmet, meaning_of
from gateway.domain.outcome import Accepted, Applied, Outcome, TaskStatus, task_status, word
from gateway.domain.strict_json import Object, Value
from gateway.flow import records
from gateway.flow.ports import Sighting
from gateway.flow.request import Caller
from gateway.flow.store import Key
from gateway.flow.tasks import Task
from gateway.flow.traces import Trace, trace_of

DEPTH: Final = 64
"""Of PKB's copy, which may be deeper than what a partner may send."""


@dataclass(frozen=True, slots=True)
class Once:
    """An idempotency key, and the hash of all that makes a repetition the same request."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What an appointment is to look like. Which command that comes to shows only beside PKB's copy."""

    wanted: "Callable[[Object], Value | Unmet]"
    """Makes the wanted copy of the one that is shown, and leaves that as it is."""


@dataclass(frozen=True, slots=True)
class Order:
    """A command for one appointment, the caller who gave it, and the version it was meant for."""

    caller: Caller
    customer: Customer
    """As the gate saw it."""
    appointment: str
    command: Write | Wish | Meaning
    """A wish becomes a meaning once PKB has been read."""
    expected_version: str | None
    task: str
    """The id its Task will have, minted first."""
    control_id: str
    """The number its message will have where PKB is sent messages (MSH-10)."""
    once: Once | None = None
    """What makes a repetition known as one, where the partner asked for that."""

    @property
    def operation(self) -> Operation | None:
        """Name the operation, as soon as it is known."""
        return None if isinstance(self.command, Wish) else self.command.operation

    @property
    def reason(self) -> str | None:
        """Give the reason of a cancel, as the audit stream may have it."""
        match self.command:
            case Wish():
                return None
            case Meaning(command=command):
                return records.reason(command)
            case command:
                return records.reason(command)

    def beside(self, sighting: Sighting) -> "Order":
        """Find out what a wish comes to beside PKB's copy."""
        assert isinstance(self.command, Wish), "a command needs no copy to be understood"
        shown = strict_json.read(sighting.body, depth=DEPTH)
        assert isinstance(shown, dict), "what is shown is a resource"
        return replace(self, command=meaning_of(shown, self.command.wanted(shown), sighting.appointment))

    def keys(self, sighting: Sighting | None) -> tuple[Key, ...]:
        """Name what the write holds: the appointment by its id and, where HL7 knows it by another name, by that."""
        route = self.customer.route.name
        own = (route, self.appointment)
        placer = sighting.appointment.placer_id if sighting else None
        # A slash is in no resource id, so a placer id cannot be taken for one.
        return (own,) if placer is None else (own, (route, f"placer/{placer}"))


@dataclass(frozen=True, slots=True)
class Permitted:
    """An order with all that its decision saw. `permitted` makes one."""

    order: Order
    command: Write
    """What the order asks for, or comes to."""
    sighting: Sighting
    permit: Permit
    now: datetime
    record: records.Record
    """What every record of it repeats."""
    upstream: records.Upstream
    """What is on record before PKB answered."""
    sought: Trace
    """What another process needs to know of the copy before, and of what was wanted."""

    @property
    def before(self) -> Appointment:
        """Give PKB's copy as it was read for the decision."""
        return self.sighting.appointment

    def again(self, permit: Permit, policy: Policy, now: datetime) -> "Permitted":
        """Give the same order under a later decision on the same copy."""
        order, record = self.order, self.record
        about = records.about(order.caller, policy, self.command.operation, order.appointment)
        told = {**about, **records.decided(permit, now), "reason": record["reason"], "patient": record["patient"]}
        return Permitted(order, self.command, self.sighting, permit, now, told, self.upstream, self.sought)

    def intent(self, veil: records.Veil) -> records.Record:
        """Tell what is about to be sent."""
        return {
            **self.record,
            **records.intent(self.order.task, self.command, self.before, veil),
            "upstream": self.upstream.as_record(),
        }

    def task(self, intent: int | None) -> Task:
        """Make its Task, with all that another process needs to find out how it ended."""
        order = self.order
        trace = {
            "route": order.customer.route.name,
            "names": [name for _, name in order.keys(self.sighting)],
            "intent": intent,
            "sent_at": None,
            "accepted": False,
            "record": self.record,
            "upstream": self.upstream.as_record(),
            "sought": self.sought,
        }
        return Task(
            order.task,
            order.caller.partner,
            order.caller.customer,
            order.appointment,
            self.command.operation,
            TaskStatus.REQUESTED if intent is None else TaskStatus.IN_PROGRESS,
            self.now,
            self.now,
            trace=trace,
        )


def permitted(
    order: Order, sighting: Sighting, permit: Permit, policy: Policy, now: datetime, veil: records.Veil
) -> Permitted:
    """Join an order to the decision that permits it."""
    assert not isinstance(order.command, Wish), "a wish is decided by what it means"
    command = order.command.command if isinstance(order.command, Meaning) else order.command
    route, before = order.customer.route, sighting.appointment
    record = {
        **records.about(order.caller, policy, command.operation, order.appointment),
        **records.decided(permit, now),
        "reason": records.reason(command),
        "patient": records.patient_of(before, order.customer, veil),
    }
    number = order.control_id if route.kind is RouteKind.HL7 else None
    upstream = records.Upstream(route.name, before.version, control_id=number)
    return Permitted(order, command, sighting, permit, now, record, upstream, trace_of(command, before, veil))


@dataclass(frozen=True, slots=True)
class OpenWrite:
    """A write that was or may have been sent, with all that its later records repeat."""

    task: Task
    command: Write
    before: Appointment
    intent: int
    sent_at: datetime
    """When the attempt to send it ended; what PKB had taken in by then may still be under way."""
    since: float
    """The same, or when this process took it up, in ticks: the time of day may jump under a write in doubt."""
    accepted: bool
    """Whether PKB said that it took the message; then it may be held for review, and is waited for much longer."""
    record: records.Record
    """What every record of it repeats."""
    upstream: records.Upstream
    resumed: bool = False
    """Whether another process sent it; then only its Task's trace tells what was wanted."""
    age: timedelta = timedelta(0)
    """How old it was when this process took it up, as far as the time of day tells."""

    def outcome_record(self, outcome: Outcome, *, recovered: bool, closed: bool = False) -> records.Record:
        """Tell how it ended, or that this is not known yet."""
        told = records.ended(outcome, self.intent, self.task.id, self.upstream, recovered=recovered, closed=closed)
        return {**self.record, **told}

    def told(self, outcome: Outcome, now: datetime, *, closed: bool = False) -> "OpenWrite":
        """Give it with its Task as an outcome leaves it."""
        was = self.task
        task = Task(
            was.id,
            was.partner,
            was.customer,
            was.appointment,
            was.operation,
            task_status(outcome, closed=closed),
            was.requested,
            now,
            code=records.outcome_code(outcome),
            outcome=word(outcome),
            version=outcome.version or None if isinstance(outcome, Applied) else None,
            repeated=was.repeated,
            trace=was.trace,
        )
        return replace(self, task=task, accepted=isinstance(outcome, Accepted))
