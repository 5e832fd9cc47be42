"""Keys by URL: asked for anew when one is unknown, whoever asks, and at a pace that strangers cannot set."""

import asyncio
import time
from dataclasses import replace

import pytest

from gateway.partner import remote_keys as module
from gateway.partner.key_servers import FetchFailed
from gateway.partner.remote_keys import Room
from tests.edges.remote_keys_bench import (
    FOR_EVER,
    QUICK,
    Bench,
    entry,
    eventually,
    seconds_of,
)
from tests.edges.tokens import jwks


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
