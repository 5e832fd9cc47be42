"""One bench for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.flow.fakes import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.open_writes.close()
