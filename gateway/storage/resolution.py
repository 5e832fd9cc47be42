"""A person ends a write whose outcome nobody knows: on record exactly once, whoever else is about to do the same.

Three steps, each durable before the next: the claim in the state file, the records in the audit stream, the ended
Task in the state file. A gateway that follows the write claims it the same way, so of two only one ever records an
end. Where a process dies after its claim, nothing else ends the write; it stays open and listed, and `resolve` may be
called again. Only then is the audit stream searched first: an end that is on record already is not recorded twice.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

from gateway.domain.codes import Code
from gateway.domain.outcome import Applied, Rejected, TaskStatus, task_status
from gateway.flow import records
from gateway.flow.tasks import Task
from gateway.storage.journal import Journal
from gateway.storage.state import Claim, KeptTask, State
from gateway.storage.task_book import PROCESS, read_task, write_task
from gateway.storage.verification import audit_files

LEFT_AFTER: Final = timedelta(minutes=10)
"""After that long without renewal the claim of a gateway is taken for that of a process that died."""

_PERSON: Final = "person "

Word = Literal["applied", "rejected"]
_END: Final[Mapping[str, Applied | Rejected]] = {
    # What a person saw in PKB has no version that the gateway read.
    "applied": Applied(version=""),
    "rejected": Rejected(Code.UPSTREAM_REFUSED),
}


class NotResolved(Exception):
    """Nothing was recorded; the message says why."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a person says of a write, and when."""

    task: str
    outcome: Word
    by: str
    now: datetime


@contextlib.contextmanager
def alone(state: Path) -> Iterator[None]:
    """Keep other persons' resolutions of the same state file away. Raises NotResolved and OSError."""
    descriptor = os.open(state.with_name(f"{state.name}.resolve"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # The system lets go of it when the process dies.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise NotResolved("another resolution is under way; try again in a moment") from error
    finally:
        os.close(descriptor)


async def resolve(
    wish: Resolution, state: State, directory: Path, open_journal: Callable[[], Awaitable[Journal]]
) -> Task:
    """Record the end of an open Task and give the ended Task. To be called `alone`.

    Raises NotResolved, JournalUnavailable and StateUnavailable; `Unreadable` where the audit folder must be searched.
    """
    kept = await state.find_task(wish.task)
    over = _claim_to_take(kept, wish)
    assert kept is not None, "only a Task that is there can be claimed"
    task, claim = read_task(kept.body), Claim(_PERSON + wish.by, wish.now)
    async with _opened(open_journal) as journal:
        if not await state.claim_task(task.id, kept.body, claim, over):
            raise NotResolved("the gateway has just ended it itself; see tasks list --all")
        said = recorded_end(directory, task.id) if kept.claim is not None else None
        if said is None:
            for record in _told(task, wish):
                await journal.write(record, essential=True)
        ended = _ended(task, said or wish.outcome, wish.now)
        await state.keep_task(task.id, write_task(ended), ended.updated, ended=True)
    if said not in {None, wish.outcome}:
        raise NotResolved(f"its end was on record already: {said}")
    return ended


def recorded_end(directory: Path, task: str) -> str | None:
    """Find the final outcome of a Task in the audit stream. Reads all of it. Raises Unreadable and OSError."""
    wanted = task.encode()
    for path in audit_files([directory]):
        with path.open("rb") as file:
            for line in file:
                # A line without its end was never durable, and whoever wrote it was told so.
                if wanted not in line or not line.endswith(b"\n"):
                    continue
                record: Any = json.loads(line)
                if (record.get("event"), record.get("task"), record.get("final")) == ("outcome", task, True):
                    return str(record["outcome"])
    return None


@contextlib.asynccontextmanager
async def _opened(open_journal: Callable[[], Awaitable[Journal]]) -> AsyncIterator[Journal]:
    journal = await open_journal()
    try:
        yield journal
    finally:
        await journal.close()


def _claim_to_take(kept: KeptTask | None, wish: Resolution) -> Claim | None:
    if kept is None:
        raise NotResolved(f"no Task {wish.task}; see tasks list")
    if not kept.open:
        raise NotResolved(f"Task {wish.task} has ended: {read_task(kept.body).outcome}")
    claim = kept.claim
    if claim is not None and claim.by.startswith(PROCESS) and wish.now - claim.at < LEFT_AFTER:
        raise NotResolved(f"the gateway is about to end Task {wish.task} itself; look again in a few minutes")
    return claim


def _told(task: Task, wish: Resolution) -> tuple[records.Record, records.Record]:
    """Tell who said so, and the end itself; both repeat what the first outcome's record said of the request."""
    end = _END[wish.outcome]
    about: records.Record = {
        **task.repeated,
        "partner": task.partner,
        "customer": task.customer,
        "operation": task.operation.value,
        "appointment": task.appointment,
        "task": task.id,
        "outcome": wish.outcome,
        "operator": wish.by,
        "now": records.moment(wish.now),
    }
    final = {"event": "outcome", "code": records.outcome_code(end), "final": True, "recovered": True}
    return {**about, "event": "task-resolved"}, {**about, **final}


def _ended(task: Task, outcome: str, now: datetime) -> Task:
    """Give the Task as it is after that end; a gateway may have recorded others than a person can say."""
    end = _END.get(outcome)
    if end is None:
        status = TaskStatus.FAILED if outcome == "unknown" else TaskStatus.COMPLETED
        return replace(task, status=status, outcome=outcome, updated=now)
    return replace(
        task, status=task_status(end), outcome=outcome, code=records.outcome_code(end), version=None, updated=now
    )
