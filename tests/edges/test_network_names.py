"""Names that do not resolve, and a resolver that hangs: nobody waits for it who does not need it."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from yarl import URL

from gateway.pkb import names as module
from gateway.pkb.http import HttpClient, NotConnected, Reuse
from gateway.pkb.names import Names
from tests.edges.pkb_bench import soon
from tests.edges.raw_upstream import RawUpstream, raw_upstream, reply


@dataclass
class Resolver:
    """The system's resolver as this module wants it; it hangs until it is let go."""

    free: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    hanging: frozenset[str] = frozenset({"hangs.example"})

    def __call__(self, host: str, port: int, *rest: Any) -> list[Any]:
        self.asked.append(host)
        if host in self.hanging:
            self.free.wait(10)
        if host == "gone.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if host == "odd.example":
            raise UnicodeError("label too long")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.free.set()


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with HttpClient("gateway/test") as client:
        yield client


async def put(http: HttpClient, host: str, port: int = 9, seconds: float = 5.0) -> int:
    url = URL(f"http://{host}:{port}/thing", encoded=True)
    return (await http.send("PUT", url, {}, soon(seconds), body=b"{}", reuse=Reuse.NEVER)).status


async def test_a_name_that_resolves_is_reached(http: HttpClient, resolver: Resolver) -> None:
    async with raw_upstream() as upstream:
        upstream.on("PUT /thing", reply(200, b"{}"))
        assert await put(http, "box.example", upstream.port) == 200
        assert upstream.heard[0].headers["host"] == f"box.example:{upstream.port}"
    assert resolver.asked == ["box.example"]


@pytest.mark.parametrize("host", ["gone.example", "odd.example"])
async def test_a_name_that_does_not_resolve_is_no_connection(http: HttpClient, resolver: Resolver, host: str) -> None:
    with pytest.raises(NotConnected) as caught:
        await put(http, host)
    assert (caught.value.late, resolver.asked) == (False, [host])


async def test_a_resolver_that_hangs_is_given_up_and_nothing_has_left(
    http: HttpClient, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOKUP_SECONDS", 0.1)
    with pytest.raises(NotConnected) as caught:
        await put(http, "hangs.example")
    assert (caught.value.late, resolver.asked) == (False, ["hangs.example"])


async def test_a_resolver_that_hangs_beyond_the_deadline_is_late(http: HttpClient, resolver: Resolver) -> None:
    with pytest.raises(NotConnected) as caught:
        await put(http, "hangs.example", seconds=0.1)
    assert caught.value.late
    assert resolver.asked == ["hangs.example"]


async def test_fifty_requests_for_a_name_that_hangs_ask_once_and_hold_up_nobody_else(
    http: HttpClient, resolver: Resolver, monkeypatch: pytest.MonkeyPatch, upstream: RawUpstream
) -> None:
    monkeypatch.setattr(module, "LOOKUP_SECONDS", 0.3)
    upstream.on("PUT /thing", reply(200, b"{}"))
    stuck = [asyncio.create_task(put(http, "hangs.example")) for _ in range(50)]
    await asyncio.sleep(0.05)

    began = time.monotonic()
    # The audit stream and the state store work in the event loop's own threads.
    await asyncio.gather(*(asyncio.to_thread(int) for _ in range(20)))
    assert await put(http, "box.example", upstream.port) == 200
    assert time.monotonic() - began < 0.2

    ended = await asyncio.gather(*stuck, return_exceptions=True)
    assert {type(each) for each in ended} == {NotConnected}
    assert resolver.asked == ["hangs.example", "box.example"]


async def test_a_lookup_that_hangs_is_joined_until_it_has_taken_too_long(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOKUP_SECONDS", 0.05)
    names = Names()
    for asked in range(1, 7):
        with pytest.raises(OSError, match="in time"):
            await names.resolve("hangs.example", 80)
        assert len(resolver.asked) == min(asked, module.LOOKUPS)


async def test_a_resolver_that_is_back_answers_although_an_old_lookup_still_hangs(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOKUP_SECONDS", 0.05)
    names = Names()
    with pytest.raises(OSError, match="in time"):
        await names.resolve("hangs.example", 80)
    resolver.hanging = frozenset()
    monkeypatch.setattr(module, "LOOKUP_SECONDS", 0.04)
    (found,) = await names.resolve("hangs.example", 80)
    assert (found["host"], found["port"], found["hostname"]) == ("127.0.0.1", 80, "hangs.example")
    assert resolver.asked == ["hangs.example", "hangs.example"]


async def test_a_lookup_that_ends_late_serves_those_who_joined_it(resolver: Resolver) -> None:
    names = Names()
    waiting = [asyncio.create_task(names.resolve("hangs.example", 80)) for _ in range(3)]
    await asyncio.sleep(0.02)
    resolver.free.set()
    assert [found["host"] for (found,) in await asyncio.gather(*waiting)] == ["127.0.0.1"] * 3
    assert resolver.asked == ["hangs.example"]


async def test_one_who_gives_up_does_not_take_the_answer_from_the_others(resolver: Resolver) -> None:
    names = Names()
    first = asyncio.create_task(names.resolve("hangs.example"))
    second = asyncio.create_task(names.resolve("hangs.example"))
    await asyncio.sleep(0.02)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    resolver.free.set()
    assert len(await second) == 1
    assert resolver.asked == ["hangs.example"]


def test_a_lookup_that_hangs_does_not_hold_up_the_end_of_the_process(resolver: Resolver) -> None:
    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await Names().resolve("hangs.example")

    began = time.monotonic()
    asyncio.run(give_up())
    assert time.monotonic() - began < 1
    assert [each.daemon for each in threading.enumerate() if each.name == "name lookup"] == [True]
    resolver.free.set()


@pytest.fixture
async def upstream() -> AsyncIterator[RawUpstream]:
    async with raw_upstream() as server:
        yield server
