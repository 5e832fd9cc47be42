"""The request store: writes and their phases, appointments' turns, idempotency keys, nodes, blocks and rates."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import SchemaItem

revision = "0004"
down_revision = "0003"

_WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_SECONDS: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
"""Seconds since the epoch."""


def upgrade() -> None:
    """Take the step."""
    op.drop_index("task_open", table_name="task")
    op.drop_index("task_updated", table_name="task")
    op.rename_table("task", "former_task")
    _create_tasks()
    _create_others()
    # Only a file of SQLite can hold Tasks of before.
    if op.get_context().dialect.name == "sqlite":
        _keep_tasks()
    op.drop_table("former_task")


def _create_tasks() -> None:
    _table(
        "task",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("touched", _SECONDS, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("owed", sa.Text()),
        sa.Column("record", sa.Text()),
        sa.Column("ended_by", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="task_key"),
        sa.CheckConstraint("phase IN ('held', 'sent', 'open', 'ended')", name="task_phase"),
    )
    _index("task_going", "task", ["node"], "phase <> 'ended'")
    _index("task_owed", "task", ["touched"], "owed IS NOT NULL")
    _index("task_ended", "task", ["touched"], "phase = 'ended'")
    _table(
        "turn",
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("task", sa.Text()),
        sa.Column("epoch", _WHOLE, nullable=False),
        sa.Column("touched", _SECONDS, nullable=False),
        sa.PrimaryKeyConstraint("route", "name", name="turn_key"),
    )
    op.create_index("turn_task", "turn", ["task"])


def _create_others() -> None:
    _table(
        "request_key",
        sa.Column("partner", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("touched", _SECONDS, nullable=False),
        sa.PrimaryKeyConstraint("partner", "key", name="request_key_key"),
    )
    op.create_index("request_key_task", "request_key", ["task"])
    op.create_index("request_key_node", "request_key", ["node"])
    _table(
        "node",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("expires", _SECONDS, nullable=False),
        sa.Column("lapsed", _WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("name", name="node_key"),
    )
    _table(
        "block",
        sa.Column("partner", sa.Text(), nullable=False),
        sa.Column("customer", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("at", _SECONDS, nullable=False),
        sa.PrimaryKeyConstraint("partner", "customer", name="block_key"),
    )
    _table(
        "bucket",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("requests", _WHOLE, nullable=False),
        sa.Column("seconds", _WHOLE, nullable=False),
        sa.Column("level", _SECONDS, nullable=False),
        sa.Column("granted", _WHOLE, nullable=False),
        sa.Column("at", _SECONDS, nullable=False),
        sa.PrimaryKeyConstraint("key", name="bucket_key"),
    )


def _keep_tasks() -> None:
    """Give open writes their appointments' turns by what their bodies remember; none of them has a living node."""
    op.execute(
        "INSERT INTO task (id, phase, node, chain, touched, body)"
        " SELECT id, CASE WHEN open = 1 THEN 'open' ELSE 'ended' END, '',"
        " COALESCE(json_extract(body, '$.trace.record.chain'), ''), updated, body FROM former_task"
    )
    op.execute(
        "INSERT OR IGNORE INTO turn (route, name, task, epoch, touched)"
        " SELECT json_extract(body, '$.trace.route'), names.value, former_task.id, 1, updated"
        " FROM former_task, json_each(body, '$.trace.names') AS names"
        " WHERE open = 1 AND json_extract(body, '$.trace.route') IS NOT NULL ORDER BY updated, former_task.id"
    )

    # The node without a name is dead from the start: whoever adopts first takes over.
    op.execute(
        "INSERT INTO node (name, chain, expires, lapsed) SELECT '', '', 0, 1"
        " WHERE EXISTS (SELECT 1 FROM task WHERE phase <> 'ended')"
    )


def _table(name: str, *parts: SchemaItem) -> None:
    op.create_table(name, *parts, sqlite_with_rowid=False, sqlite_strict=True)


def _index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
