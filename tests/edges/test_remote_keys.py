"""Keys by URL: known ahead, asked for anew when one is unknown, kept while their server fails."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.partner import remote_keys as module
from gateway.partner.key_servers import Fetched, FetchFailed
from gateway.partner.remote_keys import KeyUrls, Pace, RemoteKeys, Room
from tests.edges.tokens import jwk, jwks, private_key

URL = "https://keys.example/certs"
QUICK = Pace(refresh=30.0, retry=0.05, cool_down=0.1, wait=0.5, fetch=1.0)
FOR_EVER = 1e9


def entry(kid: str, number: int = 0, **more: Any) -> dict[str, Any]:
    return jwk(private_key("P-256", number), kid=kid, **more)


@dataclass
class Server:
    """A stand-in for a server: what it gives, how long it takes, when it was asked."""

    body: bytes = b""
    delay: float = 0.0
    fault: Exception | None = None
    max_age: float | None = None
    asked: list[float] = field(default_factory=list)

    async def fetch(self, url: str, seconds: float) -> Fetched:
        assert (url, seconds) == (URL, QUICK.fetch)
        self.asked.append(time.monotonic())
        body, fault = self.body, self.fault
        await asyncio.sleep(self.delay)
        if fault is not None:
            raise fault
        return Fetched(body, self.max_age)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """Remote keys in front of a stand-in; `told` is what was told of them, as (kids, problem)."""

    server: Server = field(default_factory=lambda: Server(jwks(entry("k1"))))
    pace: Pace = QUICK
    room: Room = field(default_factory=Room)
    clock: Callable[[], float] = time.monotonic
    told: list[tuple[list[str], str | None]] = field(default_factory=list)
    keys: RemoteKeys = field(init=False)

    def __post_init__(self) -> None:
        self.keys = RemoteKeys(
            URL, self.server.fetch, self.tell, lambda: 1.0, room=self.room, pace=self.pace, clock=self.clock
        )

    def tell(self, keys: RemoteKeys) -> None:
        self.told.append((sorted(keys.key_set().keys), keys.problem))

    @property
    def kids(self) -> set[str]:
        return set(self.keys.key_set().keys)


async def seconds_of(work: Any) -> tuple[Any, float]:
    begun = time.monotonic()
    result = await work
    return result, time.monotonic() - begun


@contextlib.asynccontextmanager
async def running(keys: RemoteKeys) -> AsyncIterator[None]:
    task = asyncio.create_task(keys.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await keys.close()


async def eventually(good: Callable[[], bool]) -> None:
    async with asyncio.timeout(3):
        while True:
            if good():
                return
            await asyncio.sleep(0.01)


# Asking for a key that is not known.


async def test_before_the_first_look_there_is_no_key_and_a_request_waits_for_it() -> None:
    bench = Bench()
    assert bench.kids == set()
    assert await bench.keys.seek("k1", FOR_EVER)
    assert bench.kids == {"k1"}
    assert len(bench.server.asked) == 1


async def test_one_look_serves_all_who_wait() -> None:
    bench = Bench()
    bench.server.delay = 0.1
    found = await asyncio.gather(*(bench.keys.seek("k1", FOR_EVER) for _ in range(60)))
    assert found == [True] * 60
    assert len(bench.server.asked) == 1


async def test_a_thousand_unknown_kids_make_the_server_be_asked_at_its_own_pace() -> None:
    bench = Bench()
    begun = time.monotonic()
    while time.monotonic() < begun + 0.5:
        found = await asyncio.gather(*(bench.keys.seek(f"stranger-{number}", FOR_EVER) for number in range(200)))
        assert not any(found)
    assert len(bench.server.asked) <= 1 + (time.monotonic() - begun) / QUICK.cool_down


async def test_a_new_key_is_found_though_strangers_have_just_made_the_server_be_asked() -> None:
    bench = Bench()
    assert not await bench.keys.seek("stranger", FOR_EVER)
    bench.server.body = jwks(entry("k2", 2))
    assert await bench.keys.seek("k2", FOR_EVER)
    assert len(bench.server.asked) == 2


async def test_a_look_begun_before_the_key_was_there_is_followed_by_another() -> None:
    bench = Bench()
    bench.server.delay = 0.15
    early = asyncio.create_task(bench.keys.refresh())
    await asyncio.sleep(0.05)
    bench.server.body = jwks(entry("k2", 2))
    assert await bench.keys.seek("k2", FOR_EVER)
    await early
    assert len(bench.server.asked) == 2


async def test_another_key_under_a_known_name_is_looked_for() -> None:
    bench = Bench()
    assert await bench.keys.seek("k1", FOR_EVER)
    known = bench.keys.key_set().find("k1")
    assert not await bench.keys.seek("k1", FOR_EVER, known)
    bench.server.body = jwks(entry("k1", 9))
    assert await bench.keys.seek("k1", FOR_EVER, known)
    assert len(bench.server.asked) == 3
    assert bench.keys.key_set().find("k1") != known


async def test_a_key_that_a_good_look_did_not_show_is_not_waited_for_any_longer() -> None:
    bench = Bench()
    found, took = await seconds_of(bench.keys.seek("nobody", FOR_EVER))
    assert not found
    assert took < QUICK.cool_down


async def test_a_server_that_failed_once_is_asked_again_while_the_request_may_wait() -> None:
    bench = Bench()
    bench.server.fault = FetchFailed("away")
    seeking = asyncio.create_task(bench.keys.seek("k1", FOR_EVER))
    await eventually(lambda: bench.keys.problem == "away")
    bench.server.fault = None
    assert await seeking
    assert len(bench.server.asked) == 2


async def test_a_server_that_hangs_holds_a_request_no_longer_than_the_pace_allows() -> None:
    bench = Bench()
    bench.server.delay = 5.0
    found, took = await seconds_of(bench.keys.seek("k1", FOR_EVER))
    assert not found
    assert QUICK.wait <= took < QUICK.wait + 0.3
    await bench.keys.close()


async def test_a_request_does_not_wait_beyond_its_own_deadline() -> None:
    bench = Bench()
    bench.server.delay = 5.0
    deadline = asyncio.get_running_loop().time() + 0.1
    found, took = await seconds_of(bench.keys.seek("k1", deadline))
    assert not found
    assert took < 0.3
    await bench.keys.close()


async def test_nobody_waits_for_a_look_that_comes_too_late_for_it() -> None:
    bench = Bench(pace=replace(QUICK, cool_down=5.0))
    assert not await bench.keys.seek("stranger", FOR_EVER)
    found, took = await seconds_of(bench.keys.seek("k2", FOR_EVER))
    assert not found
    assert took < 0.1


async def test_only_so_many_wait_for_one_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING", 3)
    bench = Bench()
    bench.server.delay = 0.2
    waiting = [asyncio.create_task(bench.keys.seek("k1", FOR_EVER)) for _ in range(3)]
    await asyncio.sleep(0.05)
    found, took = await seconds_of(bench.keys.seek("k1", FOR_EVER))
    assert not found
    assert took < 0.1
    assert all(await asyncio.gather(*waiting))
    assert await bench.keys.seek("k1", FOR_EVER)


async def test_only_so_many_wait_for_all_servers_together() -> None:
    room = Room(3)
    first, second = Bench(room=room), Bench(room=room)
    first.server.delay = second.server.delay = 0.2
    waiting = [asyncio.create_task(bench.keys.seek("k1", FOR_EVER)) for bench in (first, first, second)]
    await asyncio.sleep(0.05)
    assert room.free == 0
    found, took = await seconds_of(second.keys.seek("k1", FOR_EVER))
    assert not found
    assert took < 0.1
    assert all(await asyncio.gather(*waiting))
    assert room.free == 3


async def test_a_request_that_gives_up_does_not_end_the_look_of_the_others() -> None:
    bench = Bench()
    bench.server.delay = 0.2
    first, second = (asyncio.create_task(bench.keys.seek("k1", FOR_EVER)) for _ in range(2))
    await asyncio.sleep(0.05)
    first.cancel()
    assert await second
    assert len(bench.server.asked) == 1


# Staying fresh, and what happens when that fails.


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
