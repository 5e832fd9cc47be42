"""One sandbox for each module; every test leaves PKB without faults and the grants file as it found it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.journeys.partner import Client
from tests.journeys.processes import Place, Sandbox, sandbox_process


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with sandbox_process(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture(scope="module")
def place(sandbox: Sandbox) -> Place:
    return sandbox.place


@pytest.fixture
async def client(place: Place) -> AsyncIterator[Client]:
    async with Client(place) as speaking:
        yield speaking
        await speaking.clear()
