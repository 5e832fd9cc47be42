"""What a write is about, from the partner's wish to the permitted case."""

from dataclasses import dataclass
from datetime import datetime

from gateway.domain.appointment import Appointment, Write
from gateway.domain.decision import Permit
from gateway.domain.grant import Customer, Policy, RouteKind
from gateway.domain.outcome import TaskStatus
from gateway.flow import records
from gateway.flow.ports import Sighting
from gateway.flow.request import Caller
from gateway.flow.store import Key
from gateway.flow.tasks import Task
from gateway.flow.traces import trace_of


@dataclass(frozen=True, slots=True)
class Once:
    """An idempotency key, and the hash of all that makes a repetition the same request."""

    key: str
    fingerprint: str


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
    once: Once | None = None
    """What makes a repetition known as one, where the partner asked for that."""

    def keys(self, sighting: Sighting | None) -> tuple[Key, ...]:
        """Name what the write holds: the appointment by its id and, where HL7 knows it by another name, by that."""
        route = self.customer.route.name
        own = (route, self.appointment)
        placer = sighting.appointment.placer_id if sighting else None
        # A slash is in no resource id, so a placer id cannot be taken for one.
        return (own,) if placer is None else (own, (route, f"placer/{placer}"))


@dataclass(frozen=True, slots=True)
class Permitted:
    """An order with all that its decision saw."""

    order: Order
    policy: Policy
    permit: Permit
    sighting: Sighting
    now: datetime

    @property
    def before(self) -> Appointment:
        """Give PKB's copy as it was read for the decision."""
        return self.sighting.appointment

    @property
    def upstream(self) -> records.Upstream:
        """Tell what is on record before PKB answered."""
        route = self.order.customer.route
        number = self.order.control_id if route.kind is RouteKind.HL7 else None
        return records.Upstream(route.name, self.before.version, control_id=number)

    def intent(self, veil: records.Veil) -> records.Record:
        """Tell what is about to be sent."""
        order = self.order
        return {
            **records.about(order.caller, self.policy, order.command.operation, order.appointment),
            **records.intent(self.permit, self.now, order.task, order.command, self.before, veil),
            "patient": records.patient_of(self.before, order.customer, veil),
            "upstream": self.upstream.as_record(),
        }

    def repeated(self, veil: records.Veil) -> records.Record:
        """Tell what every record of its outcome repeats."""
        order = self.order
        return {
            **records.about(order.caller, self.policy, order.command.operation, order.appointment),
            **records.decided(self.permit, self.now),
            "reason": records.reason(order.command),
            "patient": records.patient_of(self.before, order.customer, veil),
        }

    def task(self, veil: records.Veil, intent: int | None) -> Task:
        """Make its Task, with all that another process needs to find out how it ended."""
        order = self.order
        trace = {
            "route": order.customer.route.name,
            "names": [name for _, name in order.keys(self.sighting)],
            "intent": intent,
            "sent_at": None,
            "accepted": False,
            "record": self.repeated(veil),
            "upstream": self.upstream.as_record(),
            "sought": trace_of(order.command, self.before, veil),
        }
        return Task(
            order.task,
            order.caller.partner,
            order.caller.customer,
            order.appointment,
            order.command.operation,
            TaskStatus.REQUESTED if intent is None else TaskStatus.IN_PROGRESS,
            self.now,
            self.now,
            trace=trace,
        )
