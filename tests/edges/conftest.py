"""Stores on both databases."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.storage.opening import open_database
from tests.edges.store_bench import Open, opening
from tests.postgres import Server

EMPTY = "TRUNCATE seen_jti, task, turn, request_key, node, block, bucket"


@pytest.fixture(scope="session")
def made_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a state file once; to copy it is much faster than to take all steps of its schema."""
    file = tmp_path_factory.mktemp("made") / "state.db"
    asyncio.run(_made(f"sqlite:///{file}"))
    return file


@pytest.fixture(scope="session")
def made_database(postgres: Server) -> str:
    address = postgres.database()
    asyncio.run(_made(address))
    return address


async def _made(address: str) -> None:
    await (await open_database(address)).close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give the address of a database that holds nothing but its tables."""
    if request.param == "sqlite":
        file = tmp_path / "state.db"
        shutil.copyfile(request.getfixturevalue("made_file"), file)
        yield f"sqlite:///{file}"
        return
    address: str = request.getfixturevalue("made_database")
    server: Server = request.getfixturevalue("postgres")
    # To make a database takes a second.
    server.sql(EMPTY, address)
    yield address


@pytest.fixture
async def open_node(url: str) -> AsyncIterator[Open]:
    async with opening(url) as opened:
        yield opened
