"""Partners that dawdle, never read, pipeline or vanish: each is cut off in bounded time, and no write is lost by it."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from yarl import URL

from tests.journeys.network_place import bent_gateway
from tests.journeys.partner import Client, parameters, reason, until
from tests.journeys.processes import Json, Place

LIMITS = '[limits]\ndeadline = "1500ms"\nnot_found_step = "0s"'
HTTP = {"headers": 0.7, "keep_alive": 1.0, "write": 0.7, "connections": 60}


@pytest.fixture(scope="module")
def brisk(place: Place) -> Iterator[Place]:
    """A gateway with little patience for partners."""
    with bent_gateway(place, "brisk", LIMITS, limits=json.dumps(HTTP)) as (running, _, _):
        yield running


@pytest.fixture
async def gateway(brisk: Place, client: Client) -> Client:
    return client.at(brisk)


@dataclass
class Line:
    """One connection of a partner."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def rest(self, within: float) -> bytes:
        """Everything until the gateway closes, which it must do in time."""
        async with asyncio.timeout(within):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read()
        return b""


@asynccontextmanager
async def line(gateway: Client, *, small: bool = False) -> AsyncIterator[Line]:
    url = URL(gateway.place.gateway_url)
    held = socket.socket()
    if small:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    held.setblocking(False)
    await asyncio.get_running_loop().sock_connect(held, (url.host, url.port))
    reader, writer = await asyncio.open_connection(sock=held, limit=4_096)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


def reset(line: Line) -> None:
    linger = struct.pack("ii", 1, 0)
    line.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    line.writer.transport.abort()


def head_of(gateway: Client, method: str, path: str, *lines: str) -> bytes:
    token = gateway.place.token("swiftbook")
    return "\r\n".join(
        [f"{method} {path} HTTP/1.1", "Host: gateway", f"Authorization: Bearer {token}", *lines, "", ""]
    ).encode()


def cancel_of(gateway: Client, id_: str) -> tuple[bytes, bytes]:
    body = json.dumps(parameters(reason())).encode()
    lines = ("Content-Type: application/fhir+json", f"Content-Length: {len(body)}")
    return head_of(gateway, "POST", f"/airedale/fhir/Appointment/{id_}/$cancel", *lines), body


async def outcome_of(gateway: Client, id_: str) -> tuple[Json, Json]:
    """Wait for intent and outcome of an appointment's only write."""

    async def told() -> list[Json]:
        return [each for each in gateway.place.records() if each["appointment"] == id_]

    intent, outcome = await until(told, lambda records: len(records) >= 2)
    assert (intent["event"], outcome["event"], outcome["intent"]) == ("intent", "outcome", intent["seq"])
    return intent, outcome


async def serves(gateway: Client) -> None:
    assert (await gateway.read(gateway.demo("changeable")["id"])).status == 200


async def test_a_body_that_comes_byte_by_byte_is_given_up_at_the_deadline_and_nothing_is_written(
    gateway: Client,
) -> None:
    id_ = await gateway.fresh()
    head, body = cancel_of(gateway, id_)
    began = asyncio.get_running_loop().time()

    async def trickle() -> None:
        with contextlib.suppress(ConnectionError):
            for byte in body:
                slow.writer.write(bytes([byte]))
                await slow.writer.drain()
                await asyncio.sleep(0.1)

    async with line(gateway) as slow:
        slow.writer.write(head)
        trickling = asyncio.create_task(trickle())
        answer = await slow.rest(within=6)
        trickling.cancel()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"request-timeout" in answer
    assert b"Connection: close" in answer
    assert 1.4 < asyncio.get_running_loop().time() - began < 5
    assert await gateway.writes(id_) == []
    await serves(gateway)


async def test_a_partner_that_never_reads_is_cut_off_and_takes_no_memory_with_it(gateway: Client) -> None:
    """It asks for megabytes in one go, and reads none of them."""
    request = head_of(gateway, "GET", "/airedale/fhir/metadata")
    before = resident(gateway.place.pid)

    async def ask_and_never_read() -> float:
        began = asyncio.get_running_loop().time()
        async with line(gateway, small=True) as deaf:
            deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport of a socket reads too
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(25):
                    while True:
                        deaf.writer.write(request * 50)
                        await deaf.writer.drain()
        return asyncio.get_running_loop().time() - began

    took = await asyncio.gather(*(ask_and_never_read() for _ in range(3)))
    assert max(took) < 20
    assert resident(gateway.place.pid) - before < 40_000_000
    await serves(gateway)


def resident(pid: int) -> int:
    """Bytes of memory that a process holds now."""
    fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * 4_096


@pytest.mark.parametrize("leaves", ["stays and never reads", "resets in the middle of the answer"])
async def test_a_write_whose_answer_is_not_taken_is_done_and_on_record(leaves: str, gateway: Client) -> None:
    id_ = await gateway.fresh(comment="x" * 300_000)
    head, body = cancel_of(gateway, id_)
    async with line(gateway, small=True) as deaf:
        deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]  # as above
        deaf.writer.write(head + body)
        await deaf.writer.drain()
        if leaves.startswith("resets"):
            await until(lambda: gateway.writes(id_), bool)
            reset(deaf)
        _, outcome = await outcome_of(gateway, id_)
    assert (outcome["outcome"], outcome["final"]) == ("applied", True)
    assert [each["applied"] for each in await gateway.writes(id_)] == [True]
    await serves(gateway)


async def test_writes_that_are_pipelined_are_carried_out_one_after_the_other_and_all_answered(gateway: Client) -> None:
    ids = [await gateway.fresh() for _ in range(3)]
    async with line(gateway) as eager:
        for id_ in ids:
            head, body = cancel_of(gateway, id_)
            eager.writer.write(head + body)
        answers = await eager.rest(within=10)
    assert answers.count(b"HTTP/1.1 200 ") == 3
    assert [answers.index(id_.encode()) for id_ in ids] == sorted(answers.index(id_.encode()) for id_ in ids)
    writes = [each["path"].rsplit("/", 1)[1] for each in await gateway.writes()]
    assert [id_ for id_ in writes if id_ in ids] == ids


async def test_a_partner_that_resets_between_pipelined_writes_gets_the_first_done_once(gateway: Client) -> None:
    first, second = [await gateway.fresh() for _ in range(2)]
    await gateway.fault("delay", 400, on="write", count=1)
    async with line(gateway) as eager:
        for id_ in (first, second):
            head, body = cancel_of(gateway, id_)
            eager.writer.write(head + body)
        await until(lambda: gateway.writes(first), bool)
        reset(eager)
    _, outcome = await outcome_of(gateway, first)
    assert (outcome["outcome"], outcome["final"]) == ("applied", True)
    assert [each["applied"] for each in await gateway.writes(first)] == [True]
    # Nobody is there any more to have asked for it.
    assert await gateway.writes(second) == []


async def test_hundreds_of_silent_connections_keep_nobody_out_and_go_by_themselves(gateway: Client) -> None:
    async with contextlib.AsyncExitStack() as lines:
        silent = [await lines.enter_async_context(line(gateway)) for _ in range(300)]
        for _ in range(3):
            await serves(gateway)
        assert await open_files(gateway) < 200
        ended = await asyncio.gather(*(each.rest(within=HTTP["headers"] * 4) for each in silent))
    assert set(ended) == {b""}


async def open_files(gateway: Client) -> int:
    return len(await asyncio.to_thread(lambda: list(Path(f"/proc/{gateway.place.pid}/fd").iterdir())))


async def test_a_connection_kept_between_requests_is_closed_when_nothing_more_comes(gateway: Client) -> None:
    async with line(gateway) as idle:
        idle.writer.write(head_of(gateway, "GET", "/airedale/fhir/metadata"))
        began = asyncio.get_running_loop().time()
        answer = await idle.rest(within=6)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert asyncio.get_running_loop().time() - began >= HTTP["keep_alive"] - 0.1
