"""Live records: one follower for all who watch, none while nobody does, and no room for those who do not read."""

import asyncio
import contextlib
import gc
import json
import socket
import tracemalloc
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from multidict import MultiDict

from gateway.admin import feed as following
from gateway.admin import stream as sending
from gateway.admin.feed import VIEWERS, WAITING, Feed, Filter, Full, Viewer
from gateway.admin.stream import MOST_RECENT, event
from tests.edges.console_desk import Asker, Desk, FakeAudit, News, Record, record


def anything(_: Any) -> bool:
    return True


async def taken(viewer: Viewer, count: int) -> list[Any]:
    async with asyncio.timeout(5):
        return [await viewer.waiting.get() for _ in range(count)]


async def events(asker: Asker, query: str = "") -> AsyncGenerator[tuple[str, Record], None]:
    """The events of a stream, with their names."""
    async with asker.client.get(f"/audit/stream{query}") as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        name = ""
        async for line in response.content:
            word, _, value = line.decode().rstrip("\n").partition(": ")
            name = value if word == "event" else name
            if word == "data":
                yield name, json.loads(value)


async def first(asker: Asker, query: str, count: int) -> list[tuple[str, Record]]:
    got = []
    async with asyncio.timeout(5), contextlib.aclosing(events(asker, query)) as coming:
        async for each in coming:
            got.append(each)
            if len(got) == count:
                break
    return got


async def test_one_follower_serves_all_and_stops_with_the_last_of_them() -> None:
    audit = FakeAudit()
    feed = Feed(audit.source, pause=0.01)
    assert (feed.running, audit.begun) == (False, 0)
    async with feed.watching(anything) as one:
        async with feed.watching(anything) as other:
            audit.coming.append(News([record()]))
            assert await taken(one, 1) == await taken(other, 1) == [record()]
            assert (audit.begun, feed.viewers) == (1, 2)
        assert feed.running
    await asyncio.sleep(0.05)
    looks = audit.looks
    await asyncio.sleep(0.05)
    assert (feed.running, audit.looks) == (False, looks)
    async with feed.watching(anything):
        assert audit.begun == 2


async def test_a_viewer_gets_what_it_wants_and_nothing_else() -> None:
    audit = FakeAudit()
    feed = Feed(audit.source, pause=0.01)
    async with feed.watching(Filter.read(MultiDict({"code": "too-late"}))) as viewer:
        audit.coming.append(News([record(code="no-grant"), record(seq=2)]))
        assert await taken(viewer, 1) == [record(seq=2)]
        assert viewer.waiting.empty()


async def test_one_who_does_not_keep_up_is_let_go_and_costs_the_others_nothing() -> None:
    audit = FakeAudit()
    feed = Feed(audit.source, pause=0.01)
    async with feed.watching(anything) as slow, feed.watching(anything) as quick:
        for n in range(4):
            audit.coming.append(News([record(seq=n * 200 + each) for each in range(200)]))
        assert len(await taken(quick, 800)) == 800
        assert (slow.lost, slow.waiting.qsize(), quick.lost) == (True, WAITING, False)


async def test_what_came_too_fast_to_be_looked_at_is_told() -> None:
    audit = FakeAudit()
    feed = Feed(audit.source, pause=0.01)
    async with feed.watching(anything) as viewer:
        audit.coming.append(News([record()], passed_over=10_000_000))
        assert await taken(viewer, 1) == [None]
        assert viewer.lost


async def test_a_folder_that_cannot_be_read_for_a_moment_ends_nothing() -> None:
    class Failing(FakeAudit):
        def news(self) -> News:
            if self.looks == 1:
                self.looks += 1
                raise OSError(5, "no answer")
            return super().news()

    audit = Failing()
    feed = Feed(audit.source, pause=0.01)
    async with feed.watching(anything) as viewer:
        audit.coming += [News(), News([record()])]
        assert await taken(viewer, 1) == [record()]


async def test_no_more_watch_than_there_is_room_for() -> None:
    feed = Feed(FakeAudit().source)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(VIEWERS):
            await stack.enter_async_context(feed.watching(anything))
        with pytest.raises(Full):
            await stack.enter_async_context(feed.watching(anything))


async def test_the_stream_sends_the_last_records_then_each_new_one_once() -> None:
    audit = FakeAudit([record(seq=n) for n in range(1, 4)])
    audit.coming = [News([record(seq=3), record(seq=4)])]
    async with Desk(audit=audit).open() as asker:
        got = await first(asker, "?recent=2", 3)
    assert [(name, each["seq"]) for name, each in got] == [("record", 2), ("record", 3), ("record", 4)]


async def test_the_stream_filters_by_every_field_that_it_offers() -> None:
    audit = FakeAudit()
    chosen = record(event="read", partner="a", customer="b", operation="read", decision="permit", code=None, seq=9)
    audit.coming = [News([record(), {**chosen, "code": "x"}])]
    async with Desk(audit=audit).open() as asker:
        got = await first(
            asker, "?partner=a&customer=b&operation=read&decision=permit&event=read&event=search&code=x", 1
        )
    assert got == [("record", {**chosen, "code": "x"})]


def test_a_record_cannot_begin_a_line_of_the_stream() -> None:
    text = event(record(appointment="x\ndata: {}\n\nevent: lost\r\n\u2028")).decode()
    assert [line.partition(":")[0] for line in text.splitlines() if line] == ["id", "event", "data"]


async def test_a_viewer_that_was_let_go_gets_a_word_and_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    audit = FakeAudit()
    audit.coming = [News([record()], passed_over=1)]
    async with Desk(audit=audit).open() as asker:
        async with asyncio.timeout(5):
            got = [each async for each in events(asker)]
    assert got == [("lost", {"why": "records came faster than they were taken; connect again"})]


async def test_silence_is_broken_by_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "STILL_THERE", 0.05)
    async with Desk().open() as asker, asker.client.get("/audit/stream") as response, asyncio.timeout(5):
        lines = [await response.content.readline() for _ in range(4)]
    assert lines == [b": the audit stream\n", b"\n", b": still here\n", b"\n"]


async def test_another_site_cannot_take_the_places_of_those_who_watch() -> None:
    async with Desk().open() as asker:
        assert (await asker.get("/audit/stream", Sec_Fetch_Site="cross-site")).status == 403


@pytest.mark.parametrize("text", ["-1", "x", "99999999", "1e3", "²"])
async def test_a_count_that_is_none_is_taken_for_none(text: str) -> None:
    audit = FakeAudit([record(seq=n) for n in range(MOST_RECENT + 50)])
    audit.coming = [News([record(seq=999)])]
    async with Desk(audit=audit).open() as asker:
        assert [each["seq"] for _, each in await first(asker, f"?recent={text}", 1)] == [999]


async def test_who_watches_is_let_go_when_the_gateway_stops() -> None:
    async with Desk().open() as asker:
        response = await asker.client.get("/audit/stream")
        await response.content.readline()
        async with asyncio.timeout(5):
            await asker.client.server.close()
            assert await response.content.read() == b"\n: still here\n\n"


async def test_a_viewer_that_does_not_read_is_cut_off_and_memory_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PATIENCE", 0.3)
    monkeypatch.setattr(following, "PAUSE", 0.005)
    large = {**record(), "facts": {"status": "x" * 20_000}}

    class Flood(FakeAudit):
        def news(self) -> News:
            self.looks += 1
            return News([{**large, "seq": self.looks * 20 + n} for n in range(20)])

    desk = Desk(audit=Flood())
    async with desk.open() as asker:
        port = asker.client.server.port
        assert port is not None
        with socket.socket() as mute:
            mute.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            mute.setblocking(False)
            await asyncio.get_running_loop().sock_connect(mute, ("127.0.0.1", port))
            await asyncio.get_running_loop().sock_sendall(
                mute, b"GET /audit/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            )
            tracemalloc.start()
            grown = []
            for _ in range(8):
                await asyncio.sleep(0.25)
                grown.append(tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()
            gc.collect()
            # Two seconds of forty megabytes each went by.
            assert max(grown) < 40 * 1024 * 1024
            assert grown[-1] < 10 * 1024 * 1024
            # It was cut off, and the follower rests.
            looks = desk.audit.looks
            await asyncio.sleep(0.2)
            assert desk.audit.looks == looks
