"""What tests of every floor may ask for."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

from gateway.app.loop import new_loop
from tests.postgres import NoServer, Server, start_server

# How long an example takes says more about what else the machine does than about the code.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    try:
        server = start_server()
    except NoServer as missing:
        pytest.skip(f"NOTHING IS TESTED ON POSTGRESQL: {missing}")
    yield server
    server.stop()


ON_BOTH_LOOPS = frozenset(
    {
        "test_http_connections.py",
        "test_http_protocol.py",
        "test_http_room.py",
        "test_network_fence.py",
        "test_pkb_broken_bodies.py",
        "test_pkb_customer_fhir_writes.py",
        "test_pkb_http.py",
        "test_pkb_reuse.py",
        "test_tls_listener.py",
    }
)
"""What hangs on how a loop treats sockets and timers: a platform without uvloop serves on asyncio's own."""


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run what is asynchronous on the loop that serves."""
    if item.path.name in ON_BOTH_LOOPS:
        return {"serving": new_loop, "asyncio": asyncio.new_event_loop}
    return {"serving": new_loop}
