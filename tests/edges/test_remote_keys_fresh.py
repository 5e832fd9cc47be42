"""Keys by URL: kept fresh, kept while their server fails, and followed at many URLs."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.partner.key_servers import Fetched, FetchFailed
from gateway.partner.remote_keys import KeyUrls, RemoteKeys
from tests.edges.remote_keys_bench import (
    FOR_EVER,
    QUICK,
    URL,
    Bench,
    Clock,
    Server,
    entry,
    eventually,
    running,
)
from tests.edges.tokens import jwks


async def test_a_key_that_is_known_is_there_without_asking() -> None:
    bench = Bench()
    async with running(bench.keys):
        await eventually(lambda: bench.kids == {"k1"})
        await asyncio.sleep(0.1)
    assert len(bench.server.asked) == 1


async def test_keys_that_come_and_go_are_followed() -> None:
    bench = Bench()
    async with running(bench.keys):
        await eventually(lambda: bench.kids == {"k1"})
        bench.server.body = jwks(entry("k1"), entry("k2", 2))
        bench.keys.refresh_now()
        await eventually(lambda: bench.kids == {"k1", "k2"})
        bench.server.body = jwks(entry("k2", 2))
        bench.keys.refresh_now()
        await eventually(lambda: bench.kids == {"k2"})
    assert [kids for kids, _ in bench.told] == [["k1"], ["k1", "k2"], ["k2"]]


async def test_asking_while_a_look_is_under_way_brings_another_one() -> None:
    bench = Bench()
    bench.server.delay = 0.1
    async with running(bench.keys):
        await eventually(lambda: len(bench.server.asked) == 1)
        bench.server.body = jwks(entry("k2", 2))
        bench.keys.refresh_now()
        await eventually(lambda: bench.kids == {"k2"})


async def test_the_same_kid_with_other_material_is_another_key() -> None:
    bench = Bench()
    await bench.keys.refresh()
    before = bench.keys.key_set()
    bench.server.body = jwks(entry("k1", 9))
    await bench.keys.refresh()
    after = bench.keys.key_set()
    assert before.generation != after.generation
    assert before.find("k1") != after.find("k1")


BAD: dict[str, bytes] = {
    "no key": b'{"keys": []}',
    "a page": b"<html>Sign in</html>",
    "nothing": b"",
    "members twice": jwks(entry("k1"))[:-1] + b', "keys": []}',
    "only a weak key": jwks(entry("k1") | {"kty": "oct", "k": "AAAA"}),
    "too large": jwks(entry("k1")) + b" " * 70_000,
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
async def test_a_set_that_is_no_use_leaves_the_last_good_keys_and_is_told_once(body: bytes) -> None:
    bench = Bench()
    await bench.keys.refresh()
    bench.server.body = body
    for _ in range(3):
        await bench.keys.refresh()
    assert bench.kids == {"k1"}
    assert len(bench.told) == 2
    assert bench.told[1][1] is not None
    bench.server.body = jwks(entry("k1"))
    await bench.keys.refresh()
    assert bench.told[2:] == [(["k1"], None)]


@pytest.mark.parametrize("fault", [FetchFailed("away"), RuntimeError("a fault of ours")], ids=["away", "a fault"])
async def test_a_look_that_fails_leaves_the_last_good_keys(fault: Exception) -> None:
    bench = Bench()
    await bench.keys.refresh()
    bench.server.fault = fault
    await bench.keys.refresh()
    assert bench.kids == {"k1"}
    assert bench.keys.problem is not None


async def test_the_last_good_keys_are_used_for_a_day_and_then_refused() -> None:
    clock = Clock()
    bench = Bench(clock=clock, pace=replace(QUICK, keep=86_400.0))
    await bench.keys.refresh()
    bench.server.fault = FetchFailed("away")
    clock.now += 86_400.0
    await bench.keys.refresh()
    assert bench.kids == {"k1"}
    clock.now += 1.0
    assert bench.kids == set()
    await bench.keys.refresh()
    bench.server.fault = None
    await bench.keys.refresh()
    assert bench.kids == {"k1"}
    assert bench.told == [(["k1"], None), (["k1"], "away"), ([], "away"), (["k1"], None)]


async def test_a_weak_key_is_refused_and_told_and_the_others_of_the_set_are_good() -> None:
    bench = Bench(Server(jwks(entry("k1"), entry("bad") | {"use": "enc"}, {"kid": "oct", "kty": "oct", "k": "AAAA"})))
    await bench.keys.refresh()
    assert bench.kids == {"k1"}
    assert len(bench.keys.refused) == 2
    assert bench.told == [(["k1"], None)]


async def test_a_failing_server_is_asked_again_and_again_until_it_works() -> None:
    bench = Bench()
    bench.server.fault = FetchFailed("away")
    async with running(bench.keys):
        await eventually(lambda: len(bench.server.asked) >= 3)
        bench.server.fault = None
        await eventually(lambda: bench.kids == {"k1"})
    assert bench.told == [([], "away"), (["k1"], None)]


@pytest.mark.parametrize(
    ("max_age", "seconds"),
    [(None, 300.0), (0.0, 60.0), (59.0, 60.0), (120.0, 120.0), (86_400.0, 300.0)],
    ids=["nothing said", "at once stale", "under the floor", "between", "over the ceiling"],
)
async def test_the_pause_between_two_looks_is_the_servers_within_bounds(max_age: float | None, seconds: float) -> None:
    keys = RemoteKeys(URL, _giving(max_age), lambda _: None, lambda: 1.0)
    await keys.refresh()
    assert keys.pause() == pytest.approx(seconds)


def _giving(max_age: float | None) -> Callable[[str, float], Any]:
    async def fetch(_url: str, _seconds: float) -> Fetched:
        return Fetched(jwks(entry("k1")), max_age)

    return fetch


async def test_pauses_differ_by_chance_so_that_gateways_do_not_ask_together() -> None:
    pauses = []
    for chance in (0.0, 0.5, 1.0):
        keys = RemoteKeys(URL, _giving(None), lambda _: None, lambda chance=chance: chance)  # type: ignore[misc]  # bound early
        await keys.refresh()
        pauses.append(round(keys.pause()))
    assert pauses == [270, 285, 300]


async def test_the_pause_after_failures_doubles_up_to_a_minute() -> None:
    async def fetch(_url: str, _seconds: float) -> Fetched:
        raise FetchFailed("away")

    keys = RemoteKeys(URL, fetch, lambda _: None, lambda: 1.0)
    pauses = []
    for _ in range(8):
        await keys.refresh()
        pauses.append(round(keys.pause()))
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]


# Many URLs.


@dataclass
class Many:
    """Keys of any URL, each at a server of its own."""

    servers: dict[str, Server] = field(default_factory=dict)

    def make(self, url: str) -> RemoteKeys:
        server = self.servers.setdefault(url, Server(jwks(entry("k1", 20 + len(self.servers)))))

        async def fetch(_url: str, seconds: float) -> Fetched:
            return await server.fetch(URL, seconds)

        return RemoteKeys(url, fetch, lambda _: None, lambda: 1.0, pace=QUICK)


async def test_urls_are_followed_as_long_as_they_are_named() -> None:
    many = Many()
    urls = KeyUrls(many.make)
    await urls.follow(["one", "two"])
    one = urls.at("one")
    await eventually(lambda: all(urls.at(url).key_set().keys for url in ("one", "two")))
    await urls.follow(["two", "three"])
    assert urls.at("two").key_set().keys
    assert urls.at("one") is not one
    await urls.close()


async def test_a_url_that_is_asked_for_is_followed_at_once() -> None:
    urls = KeyUrls(Many().make)
    keys = urls.at("new")
    await eventually(lambda: bool(keys.key_set().keys))
    await urls.close()


async def test_two_urls_with_one_kid_have_two_keys() -> None:
    urls = KeyUrls(Many().make)
    await urls.follow(["one", "two"])
    await asyncio.gather(*(urls.at(url).seek("k1", FOR_EVER) for url in ("one", "two")))
    assert urls.at("one").key_set().find("k1") != urls.at("two").key_set().find("k1")
    await urls.close()


async def test_it_is_told_which_servers_fail_and_all_are_asked_anew_on_demand() -> None:
    many = Many({"bad": Server(fault=FetchFailed("away")), "good": Server(jwks(entry("k1")))})
    urls = KeyUrls(many.make)
    await urls.follow(["bad", "good"])
    await eventually(lambda: urls.failing == ("bad",))
    many.servers["bad"].fault, many.servers["bad"].body = None, jwks(entry("k1"))
    urls.refresh_now()
    await eventually(lambda: urls.failing == () and len(many.servers["good"].asked) == 2)
    await urls.close()


async def test_a_request_that_waits_for_a_url_which_is_given_up_is_answered() -> None:
    many = Many({"one": Server(jwks(entry("k1")), delay=5.0)})
    urls = KeyUrls(many.make)
    seeking = asyncio.create_task(urls.at("one").seek("k1", FOR_EVER))
    await asyncio.sleep(0.05)
    await urls.follow([])
    assert await asyncio.wait_for(seeking, 0.2) is False
