"""State files as the release before the request store wrote them."""

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

STEPS = (
    (
        (
            "CREATE TABLE seen_jti (issuer TEXT NOT NULL, jti TEXT NOT NULL, expires INTEGER NOT NULL,"
            " PRIMARY KEY (issuer, jti)) STRICT, WITHOUT ROWID"
        ),
        "CREATE INDEX seen_jti_expires ON seen_jti (expires)",
    ),
    (
        (
            "CREATE TABLE task (id TEXT NOT NULL PRIMARY KEY, updated INTEGER NOT NULL, body TEXT NOT NULL)"
            " STRICT, WITHOUT ROWID"
        ),
        "CREATE INDEX task_updated ON task (updated)",
    ),
    (
        "ALTER TABLE task ADD COLUMN open INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE task ADD COLUMN claimed_by TEXT",
        "ALTER TABLE task ADD COLUMN claimed_at INTEGER",
        "CREATE INDEX task_open ON task (updated) WHERE open = 1",
    ),
)
UPDATED = 1795384800


def body(name: str, **changes: Any) -> dict[str, Any]:
    """A Task that PKB took and that is followed, as it was kept."""
    return {
        "id": name,
        "partner": "swiftbook",
        "customer": "bradford",
        "appointment": "a-1",
        "operation": "cancel",
        "status": "accepted",
        "requested": "2026-11-22T21:59:59.123456+00:00",
        "updated": "2026-11-22T22:00:00+00:00",
        "code": "accepted-pending",
        "outcome": "accepted",
        "version": None,
        "repeated": {"request_id": "r-1", "intent": 7, "upstream": {"route": "hl7", "collateral": []}},
        "trace": {
            "route": "hl7",
            "names": ["a-1", "placer/p-1"],
            "sent_at": "2026-11-22T22:00:00+00:00",
            "accepted": True,
            "record": {"event": "outcome", "task": name, "intent": 7},
            "sought": {"id": "a-1", "comment": {"hash": "…", "length": 3}},
        },
        **changes,
    }


def write_former(path: Path, bodies: Iterable[dict[str, Any]] = (), jtis: Iterable[str] = (), steps: int = 3) -> None:
    """Write such a file; what is in progress or accepted is open."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    for step in STEPS[:steps]:
        for statement in step:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {steps}")
    for jti in jtis:
        connection.execute("INSERT INTO seen_jti VALUES ('swiftbook', ?, ?)", (jti, UPDATED + 300))
    for task in bodies:
        going = int(task["status"] in {"requested", "in-progress", "accepted"})
        by, at = ("process 1", UPDATED) if going else (None, None)
        row = (task["id"], UPDATED, json.dumps(task), going, by, at)
        connection.execute("INSERT INTO task VALUES (?, ?, ?, ?, ?, ?)", row)
    connection.close()
