"""How the connections of a port are taken by a process that gets round slowly."""

import asyncio
import socket
from contextlib import AsyncExitStack, ExitStack

import pytest
from aiohttp import web

from gateway.app.listening import open_port
from gateway.app.loop import run_served

BURST = 64


async def unasked(_: web.BaseRequest) -> web.Response:
    raise AssertionError("nobody asks")


async def _rounds_until_all_are_taken() -> int:
    async with AsyncExitStack() as stack:
        server = web.Server(unasked)
        port = await open_port(web.ServerRunner(server), "127.0.0.1", 0, (), stack)
        callers = stack.enter_context(ExitStack())
        for _ in range(BURST):
            callers.enter_context(socket.create_connection(("127.0.0.1", port)))
        rounds = 0
        while len(server.connections) < BURST:
            await asyncio.sleep(0)
            rounds += 1
        return rounds


def test_a_burst_of_connections_does_not_wait_a_round_of_the_loop_for_each() -> None:
    assert run_served(_rounds_until_all_are_taken()) <= BURST // 4


async def test_all_descriptors_of_a_port_are_closed_with_it() -> None:
    async with AsyncExitStack() as stack:
        port = await open_port(web.ServerRunner(web.Server(unasked)), "127.0.0.1", 0, (), stack)
        socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
