"""How a write lies in the store: the Task as JSON, the rest in columns."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from gateway.domain.grant import Operation
from gateway.domain.outcome import TaskStatus
from gateway.flow.store import Filed, Phase
from gateway.flow.tasks import Task
from gateway.storage.database import Row

COLUMNS = "task.body, task.phase, task.chain, task.owed, task.record"
"""What `read_filed` reads."""


def read_filed(row: Row) -> Filed:
    """Read `COLUMNS`."""
    body, phase, chain, owed, record = row
    return Filed(read_task(body), Phase(phase), chain, owed, None if record is None else json.loads(record))


_ascii: Final = json.JSONEncoder(separators=(",", ":"), default=datetime.isoformat).encode
_fast: Final = msgspec.json.Encoder().encode


def _written(told: Mapping[str, Any]) -> str:
    """Write in ASCII: PKB's names may hold what is no text to a database. What is ASCII needs no care."""
    try:
        written = _fast(told)
    except UnicodeEncodeError:
        return _ascii(told)
    return written.decode() if written.isascii() else _ascii(told)


def write_record(record: Mapping[str, Any]) -> str:
    """Write a record as the store keeps it while it is owed."""
    return _written(record)


def write_task(task: Task) -> str:
    """Write a Task as the store keeps it."""
    return _written(
        {
            "id": task.id,
            "partner": task.partner,
            "customer": task.customer,
            "appointment": task.appointment,
            "operation": task.operation,
            "status": task.status,
            "requested": task.requested,
            "updated": task.updated,
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
