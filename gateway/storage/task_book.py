"""Tasks: in memory while it has room, and in the state file for as long as it keeps them.

Whoever records the end of an open Task claims it in the state file first: this process, or a person elsewhere.
"""

import asyncio
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from gateway.domain.grant import Operation
from gateway.domain.outcome import TaskStatus
from gateway.flow.ports import StateUnavailable
from gateway.flow.tasks import Task
from gateway.storage.state import Claim, KeptTask

ROOM: Final = 10_000
"""Ended Tasks held in memory; the oldest go first. Open ones stay."""

CLEAN_EVERY: Final = timedelta(hours=1)

PROCESS: Final = "process "
"""What the name of a claim of a running gateway begins with."""


class Shelf(Protocol):
    """Where Tasks outlive the process. Its methods raise StateUnavailable."""

    async def keep_task(self, task: str, body: str, updated: datetime, *, ended: bool) -> None:
        """Keep one."""
        ...

    async def claim_task(self, task: str, body: str, claim: Claim) -> bool:
        """Claim the end of one."""
        ...

    async def renew_claims(self, by: str) -> None:
        """Tell that whoever claimed still lives."""
        ...

    async def find_task(self, task: str) -> KeptTask | None:
        """Find one."""
        ...

    async def tasks(self, *, ended: bool) -> Sequence[KeptTask]:
        """Give those that are open, or all."""
        ...

    async def ended_among(self, tasks: Iterable[str]) -> Sequence[KeptTask]:
        """Give those that have ended."""
        ...

    async def forget_tasks(self, before: datetime) -> None:
        """Remove old ones."""
        ...


@dataclass(slots=True)
class TaskBook:
    """The Tasks of one process. `lost` is told of every Task that could not be put on the shelf."""

    shelf: Shelf
    keep: timedelta
    lost: Callable[[Task], None]
    room: int = ROOM
    name: str = field(default_factory=lambda: PROCESS + secrets.token_hex(8))
    """Under which this process claims."""
    _open: dict[str, Task] = field(default_factory=dict)
    _ended: OrderedDict[str, Task] = field(default_factory=OrderedDict)
    _saving: set[asyncio.Task[None]] = field(default_factory=set)
    _claims: set[str] = field(default_factory=set)
    _cleaned: datetime | None = None

    async def put(self, task: Task) -> None:
        """Keep a Task as it now is. Never raises: the audit stream, not this book, is the truth."""
        if task.open:
            self._open[task.id] = task
        else:
            self._open.pop(task.id, None)
            self._claims.discard(task.id)
            self._ended[task.id] = task
            while len(self._ended) > self.room:
                self._ended.popitem(last=False)
        # An intent on its way ends in a moment; only what lasts is worth a write to the disk.
        if task.outcome is not None:
            saving = asyncio.create_task(self._save(task))
            self._saving.add(saving)
            saving.add_done_callback(self._saving.discard)

    async def get(self, task: str) -> Task | None:
        """Find a Task. Raises StateUnavailable."""
        held = self._open.get(task) or self._ended.get(task)
        if held is not None:
            return held
        kept = await self.shelf.find_task(task)
        return None if kept is None else read_task(kept.body)

    async def left_open(self) -> Sequence[Task]:
        """Give the Tasks that an earlier process left open, and take them over. Raises StateUnavailable."""
        found = [read_task(kept.body) for kept in await self.shelf.tasks(ended=False)]
        self._open |= {task.id: task for task in found if task.open}
        return [task for task in found if task.open]

    async def claim(self, task: Task) -> bool:
        """Say whether this process may record that the Task ended so; nobody else will. Raises StateUnavailable."""
        await self.close()
        claimed = await self.shelf.claim_task(task.id, write_task(task), Claim(self.name, task.updated))
        if claimed:
            self._claims.add(task.id)
        return claimed

    async def ended(self, tasks: Iterable[str]) -> Sequence[Task]:
        """Give those of these Tasks that another process may have ended. Raises StateUnavailable."""
        if self._claims:
            # An end may wait long for the audit stream; a claim that grows old is taken for a dead process's.
            await self.shelf.renew_claims(self.name)
        return [read_task(kept.body) for kept in await self.shelf.ended_among(tasks)]

    async def close(self) -> None:
        """Wait until everything is on the shelf."""
        await asyncio.gather(*self._saving)

    async def _save(self, task: Task) -> None:
        try:
            await self.shelf.keep_task(task.id, write_task(task), task.updated, ended=not task.open)
            if self._cleaned is None or task.updated - self._cleaned >= CLEAN_EVERY:
                self._cleaned = task.updated
                await self.shelf.forget_tasks(task.updated - self.keep)
        except StateUnavailable:
            self.lost(task)


def write_task(task: Task) -> str:
    """Write a Task as the state file keeps it."""
    return json.dumps(
        {
            "id": task.id,
            "partner": task.partner,
            "customer": task.customer,
            "appointment": task.appointment,
            "operation": task.operation.value,
            "status": task.status.value,
            "requested": task.requested.isoformat(),
            "updated": task.updated.isoformat(),
            "code": task.code,
            "outcome": task.outcome,
            "version": task.version,
            "repeated": dict(task.repeated),
            "trace": dict(task.trace),
        }
    )


def read_task(body: str) -> Task:
    """Read what `write_task` wrote."""
    told = json.loads(body)
    return Task(
        id=told["id"],
        partner=told["partner"],
        customer=told["customer"],
        appointment=told["appointment"],
        operation=Operation(told["operation"]),
        status=TaskStatus(told["status"]),
        requested=datetime.fromisoformat(told["requested"]),
        updated=datetime.fromisoformat(told["updated"]),
        code=told["code"],
        outcome=told["outcome"],
        version=told["version"],
        repeated=told.get("repeated", {}),
        trace=told.get("trace", {}),
    )
