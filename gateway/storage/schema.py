"""Brings a database to the schema of this release, step by step, with Alembic's migrations."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.flow.ports import StateUnavailable
from gateway.storage.database import Asked, Database, Session

HEAD: Final = "0005"
"""The migration that this release ends with."""

NUMBERED: Final = 3
"""A file of SQLite counted its steps in `user_version` up to this one; the first migrations bear the same numbers."""

_FOLDER: Final = Path(__file__).with_name("migrations")
_VERSION_TABLE: Final = (
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL,"
    " CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)
_HAS_VERSION_TABLE: Final = {
    "sqlite": "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'",
    "postgresql": "SELECT 1 WHERE to_regclass('alembic_version') IS NOT NULL",
}


async def bring_up(database: Database) -> None:
    """Take the steps that are missing. Raises StateUnavailable, also where a newer release has been here."""
    if await _taken(database, database.name) != HEAD:
        await database.migrate(lambda session: _missing(session, database.name))


async def _taken(asked: Asked, dialect: str) -> str | None:
    """Tell the last step that was taken."""
    if await asked.rows(_HAS_VERSION_TABLE[dialect]):
        found = await asked.rows("SELECT version_num FROM alembic_version")
        return str(found[0][0]) if found else None
    if dialect != "sqlite":
        return None
    counted = int((await asked.rows("PRAGMA user_version"))[0][0])
    return f"{counted:04}" if counted else None


async def _missing(session: Session, dialect: str) -> Sequence[str]:
    # Another process may have taken the steps while this one waited for its turn.
    taken = await _taken(session, dialect)
    if taken == HEAD:
        return ()
    statements = written(taken, dialect) if taken else _from_nothing(dialect)
    if dialect != "sqlite":
        return statements
    if taken is not None and not await session.rows(_HAS_VERSION_TABLE[dialect]):
        statements = [_VERSION_TABLE, f"INSERT INTO alembic_version VALUES ('{taken}')", *statements]
    # A release that counts its steps sees by this number that the file is no longer its own.
    return [*statements, f"PRAGMA user_version = {NUMBERED + 1}"]


class _Script:
    """Takes what Alembic writes, a statement at a time."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def write(self, text: str) -> None:
        if not text.startswith("--"):
            self.statements.append(text.strip())

    def flush(self) -> None:
        """Nothing is held back."""


def _from_nothing(dialect: str) -> list[str]:
    """Give all steps, as Alembic wrote them beforehand: most stores are new, and to import it takes a second."""
    return _whole(dialect).read_text(encoding="utf-8").strip().split("\n\n")


def _whole(dialect: str) -> Path:
    return _FOLDER / "whole" / f"{dialect}.sql"


def written(taken: str | None, dialect: str) -> list[str]:
    """Write the steps after `taken` as SQL; the connection and the transaction in which they run are ours.

    Raises StateUnavailable where `taken` is a step that this release does not know.
    """
    from alembic import command  # noqa: PLC0415 - not needed at most starts
    from alembic.config import Config  # noqa: PLC0415 - not needed at most starts
    from alembic.util import CommandError  # noqa: PLC0415 - not needed at most starts

    script = _Script()
    config = Config(output_buffer=script)  # type: ignore[arg-type] # of a file, Alembic uses these two methods
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["dialect"] = dialect
    try:
        command.upgrade(config, f"{taken}:head" if taken else "head", sql=True)
    except CommandError as error:
        raise StateUnavailable("the request store was written by a newer version of the gateway") from error
    return script.statements


def main() -> None:
    """Write all steps down for each kind of database, for stores that are new."""
    for dialect in _HAS_VERSION_TABLE:
        _whole(dialect).parent.mkdir(exist_ok=True)
        _whole(dialect).write_text("\n\n".join(written(None, dialect)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
