"""Opens the database that an address names."""

from gateway.storage.database import Database
from gateway.storage.schema import bring_up
from gateway.storage.sqlite import SCHEME, SqliteDatabase


async def open_database(url: str) -> Database:
    """Open it and bring its schema up to date. Raises StateUnavailable, and ValueError for an address of no use."""
    database = await connected(url)
    try:
        await bring_up(database)
    except BaseException:
        await database.close()
        raise
    return database


async def connected(url: str) -> Database:
    """Open it as it is. Raises as above."""
    if url.startswith(SCHEME):
        return await SqliteDatabase.open(url)
    # What only PostgreSQL needs is not loaded for a file.
    from gateway.storage.postgres import PostgresDatabase  # noqa: PLC0415 - not needed at most starts

    return await PostgresDatabase.open(url)
