"""Tasks in the order in which they came, and turns found by the writes that have them: fewer pages for each write.

SQLite keeps at most a quarter of a page of a row beside its key in a table without row ids, and the rest on pages of
its own. https://sqlite.org/withoutrowid.html
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_SECONDS: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
_PARTS = (
    ("task_going", "node", "phase <> 'ended'"),
    ("task_owed", "touched", "owed IS NOT NULL"),
    ("task_ended", "touched", "phase = 'ended'"),
)


def upgrade() -> None:
    """Take the step."""
    op.drop_index("turn_task", table_name="turn")
    _index("turn_task", "turn", "task", "task IS NOT NULL")
    # PostgreSQL keeps rows in a heap as it is.
    if op.get_context().dialect.name == "sqlite":
        _give_row_ids()


def _give_row_ids() -> None:
    for name, _, _ in _PARTS:
        op.drop_index(name, table_name="task")
    op.rename_table("task", "former_task")
    op.create_table(
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
        sqlite_strict=True,
    )
    op.execute(
        "INSERT INTO task (id, phase, node, chain, touched, body, owed, record, ended_by)"
        " SELECT id, phase, node, chain, touched, body, owed, record, ended_by FROM former_task ORDER BY touched, id"
    )
    op.drop_table("former_task")
    for name, column, where in _PARTS:
        _index(name, "task", column, where)


def _index(name: str, table: str, column: str, where: str) -> None:
    op.create_index(name, table, [column], sqlite_where=sa.text(where), postgresql_where=sa.text(where))
