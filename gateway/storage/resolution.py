"""A person ends a write whose outcome nobody knows: on record exactly once, whoever else is about to do the same.

Of all who would end a write the store tells one that it did, and keeps the record until it is in a chain: should this
process die in between, whoever next sees its chain writes it there, a gateway or another call of `resolve`.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, Protocol

from gateway.domain.codes import Code
from gateway.domain.outcome import Applied, Rejected, TaskStatus, task_status
from gateway.flow import records
from gateway.flow.chains import Told
from gateway.flow.ports import JournalUnavailable
from gateway.flow.store import Filed, Phase
from gateway.flow.tasks import Task
from gateway.storage.journal import Journal
from gateway.storage.store import Store

Word = Literal["applied", "rejected"]
_END: Final[Mapping[str, Applied | Rejected]] = {
    # What a person saw in PKB has no version that the gateway read.
    "applied": Applied(version=""),
    "rejected": Rejected(Code.UPSTREAM_REFUSED),
}


class NotResolved(Exception):
    """Nothing was recorded; the message says why."""


class Ledgers(Protocol):
    """The chains of the audit folder. Methods raise JournalUnavailable."""

    def is_dead(self, chain: str) -> bool:
        """Say whether nobody writes it any more."""
        ...

    async def told(self, chain: str, task: str) -> Told | None:
        """Say what a chain tells of a write."""
        ...

    async def final_anywhere(self, task: str) -> str | None:
        """Give the word of a write's final outcome, in whichever chain it stands."""
        ...


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a person says of a write, and when."""

    task: str
    outcome: Word
    by: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Resolver:
    """Where writes and their records lie. `journal` opens a chain of its own."""

    store: Store
    ledgers: Ledgers
    journal: Callable[[], AbstractAsyncContextManager[Journal]]

    async def resolve(self, wish: Resolution) -> Task:
        """Record the end of an open write and give its ended Task.

        Raises NotResolved, JournalUnavailable and StateUnavailable.
        """
        filed = await self._open_write(wish.task)
        said = await self.ledgers.final_anywhere(wish.task)
        if said is None:
            return await self._end(filed, wish)
        # The audit stream is right where the store, or the file of an earlier release, was not told.
        ended = _ended(filed.task, said, wish.now)
        await self.store.end_on_record(ended)
        if said != wish.outcome:
            raise NotResolved(f"its end was on record already: {said}")
        return ended

    async def _open_write(self, task: str) -> Filed:
        filed = await self.store.find(task)
        if filed is None:
            raise NotResolved(f"no Task {task}; see tasks list")
        if filed.phase is Phase.ENDED:
            await self._pay(filed)
            raise NotResolved(f"Task {task} has ended: {filed.task.outcome}")
        if await self.store.is_running(task):
            raise NotResolved(f"the request of Task {task} still runs; look again in a minute")
        if filed.phase is Phase.HELD:
            raise NotResolved(f"nothing of Task {task} was sent; a gateway lets go of it within seconds of its start")
        return filed

    async def _end(self, filed: Filed, wish: Resolution) -> Task:
        task = filed.task
        ended = _ended(task, wish.outcome, wish.now)
        said, final = _told(task, wish)
        async with self.journal() as journal:
            if not await self.store.end(ended, final, journal.chain):
                raise NotResolved("the gateway has just ended it itself; see tasks list --all")
            try:
                for record in (said, final):
                    await journal.write(record, essential=True)
            except JournalUnavailable as error:
                raise JournalUnavailable(
                    f"Task {task.id} has ended, its record waits for a gateway: {error}"
                ) from error
            await self.store.recorded([task.id])
        return ended

    async def _pay(self, filed: Filed) -> None:
        """Write the record of an end that a dead process owes."""
        task, owed = filed.task.id, filed.owed
        if owed is None or not filed.record or not self.ledgers.is_dead(owed):
            return
        told = await self.ledgers.told(owed, task)
        if told is None:
            return
        if not told.ended:
            async with self.journal() as journal:
                if not await self.store.inherit(task, owed, journal.chain):
                    return
                await journal.write({**filed.record, "recovered": True}, essential=True)
        await self.store.recorded([task])


def _told(task: Task, wish: Resolution) -> tuple[records.Record, records.Record]:
    """Tell who said so, and the end itself; both repeat what the first outcome's record says of the request."""
    trace = task.trace
    # Tasks of the first releases have all of it in the record, or with the Task itself.
    repeated = {**task.repeated, **trace.get("record", {})}
    upstream = {**(trace.get("upstream") or repeated.get("upstream") or {}), "collateral": []}
    about: records.Record = {
        **repeated,
        "partner": task.partner,
        "customer": task.customer,
        "operation": task.operation.value,
        "appointment": task.appointment,
        "task": task.id,
        "intent": trace.get("intent", repeated.get("intent")),
        "upstream": upstream,
        "outcome": wish.outcome,
        "operator": wish.by,
        "now": records.moment(wish.now),
    }
    final = {"event": "outcome", "code": records.outcome_code(_END[wish.outcome]), "final": True, "recovered": True}
    said = {"event": "task-resolved", "code": None, "final": None, "recovered": None}
    return {**about, **said}, {**about, **final}


def _ended(task: Task, outcome: str, now: datetime) -> Task:
    """Give the Task as it is after that end; a gateway may have recorded others than a person can say."""
    end = _END.get(outcome)
    if end is None:
        status = TaskStatus.FAILED if outcome == "unknown" else TaskStatus.COMPLETED
        return replace(task, status=status, outcome=outcome, updated=now)
    return replace(
        task, status=task_status(end), outcome=outcome, code=records.outcome_code(end), version=None, updated=now
    )
