"""What tests of every floor may ask for."""

from collections.abc import Iterator

import pytest

from tests.postgres import NoServer, Server, start_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    try:
        server = start_server()
    except NoServer as missing:
        pytest.skip(f"NOTHING IS TESTED ON POSTGRESQL: {missing}")
    yield server
    server.stop()
