"""The same request again: its answer is given again, and nothing is sent."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from gateway.domain.appointment import Read
from gateway.domain.codes import Code
from gateway.domain.decision import Permit
from gateway.domain.grant import Customer, Policy
from gateway.domain.outcome import TaskStatus
from gateway.domain.rules import decide
from gateway.flow import records
from gateway.flow.open_writes import OpenWrites
from gateway.flow.ports import Journal, Sighting, Upstream, UpstreamFault
from gateway.flow.request import (
    Answer,
    Caller,
    Refused,
    Replayed,
    Shown,
    Taken,
    Unshown,
    milliseconds_since,
    same_route,
)
from gateway.flow.store import Filed, Phase
from gateway.flow.tasks import Task


@dataclass(frozen=True, slots=True)
class Replays:
    """Answers again for a write that was carried out, or may have been. `clock` gives UTC."""

    policy: Callable[[], Policy]
    upstream: Upstream
    journal: Journal
    open_writes: OpenWrites
    veil: records.Veil
    clock: Callable[[], datetime]

    async def answer(self, caller: Caller, customer: Customer, filed: Filed) -> Answer:
        """Give the answer that the write has by now; what is unknown is looked for first.

        Raises JournalUnavailable and StateUnavailable.
        """
        task = filed.task
        if filed.phase is Phase.OPEN:
            task = await self.open_writes.find_out(task, caller.deadline)
        sighting, told = None, records.Record()
        if task.status is TaskStatus.COMPLETED and task.outcome == "applied":
            sighting, told = await self._look(caller, customer, task)
        await self._record(caller, task, told)
        return Replayed(_again(task, sighting))

    async def _look(self, caller: Caller, customer: Customer, task: Task) -> tuple[Sighting | None, records.Record]:
        """Read the appointment afresh, and give it if the partner may read it now; the record tells either way."""
        try:
            sighting = await self.upstream.read(customer, task.appointment, caller.deadline, fresh=True)
        except UpstreamFault:
            return None, {}
        policy, now = self.policy(), self.clock()
        seen = sighting.appointment if sighting and same_route(customer, policy) else None
        decision = decide(caller.who, Read(), seen, policy, now)
        told = {**records.decided(decision, now), "patient": records.patient_of(seen, customer, self.veil)}
        return sighting if isinstance(decision, Permit) else None, told

    async def _record(self, caller: Caller, task: Task, told: records.Record) -> None:
        await self.journal.write(
            {
                **records.about(caller, self.policy(), task.operation, task.appointment),
                "now": records.moment(self.clock()),
                **told,
                "event": "replayed",
                "decision": "permit",
                "code": task.code,
                "outcome": task.outcome,
                "task": task.id,
                "duration_ms": milliseconds_since(caller.received),
            }
        )


def _again(task: Task, sighting: Sighting | None) -> Shown | Unshown | Taken | Refused:
    match task.status:
        case TaskStatus.COMPLETED if task.outcome == "applied":
            return Shown(sighting, task.id) if sighting is not None else Unshown(task.id)
        case TaskStatus.COMPLETED | TaskStatus.ACCEPTED:
            return Taken(task.id)
        case TaskStatus.REJECTED:
            return Refused(Code(task.code) if task.code else Code.UPSTREAM_REFUSED)
        case TaskStatus.REQUESTED | TaskStatus.IN_PROGRESS | TaskStatus.FAILED:
            return Refused(Code.OUTCOME_UNKNOWN, task=task.id)
        case unexpected:
            assert_never(unexpected)
