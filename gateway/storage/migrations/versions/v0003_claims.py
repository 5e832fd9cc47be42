"""Which Tasks are open, and who is about to end them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Take the step."""
    op.add_column("task", sa.Column("open", _WHOLE, nullable=False, server_default=sa.text("0")))
    op.add_column("task", sa.Column("claimed_by", sa.Text()))
    op.add_column("task", sa.Column("claimed_at", _WHOLE))
    op.create_index(
        "task_open",
        "task",
        ["updated"],
        sqlite_where=sa.text("open = 1"),
        postgresql_where=sa.text("open = 1"),
    )
