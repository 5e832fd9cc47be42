"""Thousands of connections: only so many are open, and whoever has something to say finds room."""

import asyncio
import resource
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from gateway.partner.connections import Connections, most_connections
from gateway.partner.http_edge import HttpLimits
from tests.edges.raw_requests import get
from tests.edges.wire_bench import Wire, serving, wire

FEW = HttpLimits(connections=3, keep_alive=5.0, shutdown=0.5)


async def used(line: Wire) -> Wire:
    await line.send(get())
    assert (await line.answer()).status == 200
    return line


async def test_one_connection_too_many_takes_the_place_of_the_one_idle_for_longest() -> None:
    async with serving(FEW) as bench, AsyncExitStack() as lines:
        first, second, third = [await used(await lines.enter_async_context(wire(bench))) for _ in range(3)]
        await used(first)
        await used(await lines.enter_async_context(wire(bench)))
        assert await second.closed(within=0.5)
        await used(third)
        await used(first)


async def test_a_connection_that_has_never_said_anything_goes_too() -> None:
    async with serving(FEW) as bench, AsyncExitStack() as lines:
        silent = [await lines.enter_async_context(wire(bench)) for _ in range(3)]
        await asyncio.sleep(0.05)
        await used(await lines.enter_async_context(wire(bench)))
        assert await silent[0].closed(within=0.5)


async def test_where_every_connection_is_busy_one_more_is_closed_at_once() -> None:
    async with serving(FEW) as bench, AsyncExitStack() as lines:
        busy = [await lines.enter_async_context(wire(bench)) for _ in range(3)]
        for line in busy:
            await line.send(get(target="/slow"))
        await asyncio.sleep(0.05)
        further = await lines.enter_async_context(wire(bench))
        assert await further.closed(within=0.15)
        assert [(await line.answer()).status for line in busy] == [200, 200, 200]
        await used(await lines.enter_async_context(wire(bench)))


async def test_connections_that_are_closed_make_room() -> None:
    async with serving(FEW) as bench:
        for _ in range(10):
            async with wire(bench) as line:
                await used(line)
        async with AsyncExitStack() as lines:
            for line in [await lines.enter_async_context(wire(bench)) for _ in range(3)]:
                await used(line)


async def test_two_thousand_that_say_nothing_do_not_keep_one_out_that_speaks() -> None:
    async with serving(HttpLimits(connections=100, shutdown=0.5)) as bench, AsyncExitStack() as lines:
        for _ in range(2_000):
            await lines.enter_async_context(wire(bench))
        await used(await lines.enter_async_context(wire(bench)))


async def test_connections_that_take_no_answer_make_room_for_one_that_speaks() -> None:
    async with serving(FEW) as bench, AsyncExitStack() as lines:
        for _ in range(3):
            deaf = await lines.enter_async_context(wire(bench))
            deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport of a socket reads too
            await deaf.send(get(target="/big"))
        await asyncio.sleep(0.1)
        await used(await lines.enter_async_context(wire(bench)))


@dataclass(eq=False)
class Line:
    idle: bool = False
    stuck: bool = False
    gone: bool = False

    def is_idle(self) -> bool:
        return self.idle

    def is_stuck(self) -> bool:
        return self.stuck

    def cut_off(self) -> None:
        self.gone = True


def test_an_idle_connection_goes_before_a_stuck_one_and_one_at_work_never() -> None:
    room = Connections(3)
    lines = [Line(), Line(stuck=True), Line(idle=True), Line(), Line()]
    assert all(map(room.enter, lines))
    assert [each.gone for each in lines] == [False, True, True, False, False]
    further = Line()
    assert not room.enter(further)
    assert (further.gone, len(room)) == (False, 3)
    room.leave(further)
    room.used(further)
    assert len(room) == 3


@pytest.mark.parametrize(
    ("wanted", "files", "most"),
    [(4_096, 20_000, 4_096), (4_096, 1_024, 512), (4_096, resource.RLIM_INFINITY, 4_096), (4_096, 1, 1)],
)
def test_half_of_the_files_are_left_to_others(
    wanted: int, files: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert most_connections(wanted) == most
