"""The grants in force follow the grants file within a second, and a bad file changes nothing."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.configuration import reload
from gateway.configuration.grants import Grants
from gateway.configuration.problems import Problem
from gateway.configuration.reading_aside import AsideReader
from gateway.configuration.reload import GrantsWatcher
from tests.edges.grants_files import GOOD, grants_file, reader

REVOKED = GOOD[: GOOD.index("[[grants]]")]
PROMISE = 1.0
"""Seconds."""


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


@dataclass
class Listener:
    """Writes down what a watcher reports."""

    loaded: list[tuple[str, str]] = field(default_factory=list)
    refused: list[tuple[Problem, ...]] = field(default_factory=list)
    keys: list[Grants] = field(default_factory=list)
    fails: bool = False

    async def on_loaded(self, grants: Grants, previous: str) -> None:
        self.loaded.append((grants.digest, previous))
        if self.fails:
            raise OSError("the disk is full")

    async def on_refused(self, problems: tuple[Problem, ...]) -> None:
        self.refused.append(problems)

    async def on_keys(self, grants: Grants) -> None:
        self.keys.append(grants)


@dataclass
class Watch:
    watcher: GrantsWatcher
    heard: Listener
    path: Path

    async def until(self, true: Callable[[], bool]) -> float:
        """Wait for something to become true and tell how long it took, in seconds."""
        began = time.monotonic()
        while not true():
            assert time.monotonic() < began + 5, (self.watcher.state, self.heard)
            await asyncio.sleep(0.005)
        return time.monotonic() - began

    async def in_force(self, text: str) -> float:
        return await self.until(lambda: self.watcher.current.digest == digest(text))

    async def degraded(self) -> float:
        return await self.until(lambda: self.watcher.state.degraded)

    async def recovered(self) -> float:
        return await self.until(lambda: not self.watcher.state.degraded)


@contextlib.asynccontextmanager
async def watching(
    path: Path, load: Callable[[], Grants] | None = None, abandon: Callable[[], None] | None = None
) -> AsyncIterator[Watch]:
    """Watch a file; ready once the watcher has had its first look."""
    heard, read = Listener(), load or reader(path).load
    watcher = GrantsWatcher(
        path,
        read,
        read(),
        now=lambda: datetime.now(UTC),
        on_loaded=heard.on_loaded,
        on_refused=heard.on_refused,
        on_keys=heard.on_keys,
        abandon=abandon,
    )
    task = asyncio.create_task(watcher.run())
    watch = Watch(watcher, heard, path)
    await watch.until(lambda: watcher._seen != ())
    await asyncio.sleep(0.02)
    try:
        yield watch
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_file_edited_in_place_counts_within_a_second(tmp_path: Path) -> None:
    path = grants_file(tmp_path)
    async with watching(path) as watch:
        path.write_text(REVOKED)
        assert await watch.in_force(REVOKED) < PROMISE
        assert watch.watcher.current.policy.grants == ()
        assert watch.heard.loaded == [(digest(REVOKED), digest(GOOD))]


async def test_a_file_replaced_by_rename_counts_within_a_second(tmp_path: Path) -> None:
    path = grants_file(tmp_path)
    async with watching(path) as watch:
        (tmp_path / "next").write_text(REVOKED)
        (tmp_path / "next").replace(path)
        assert await watch.in_force(REVOKED) < PROMISE


async def test_a_configmap_swapped_by_kubernetes_counts_within_a_second(tmp_path: Path) -> None:
    for version, text in (("..v1", GOOD), ("..v2", REVOKED)):
        (tmp_path / version).mkdir()
        grants_file(tmp_path / version, text)
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "keys").symlink_to("..data/keys")
    (tmp_path / "grants.toml").symlink_to("..data/grants.toml")
    async with watching(tmp_path / "grants.toml") as watch:
        (tmp_path / "..tmp").symlink_to("..v2")
        (tmp_path / "..tmp").replace(tmp_path / "..data")
        assert await watch.in_force(REVOKED) < PROMISE
        assert watch.heard.refused == []


async def test_a_file_that_looks_the_same_counts_after_sighup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = grants_file(tmp_path)
    monkeypatch.setattr(reload, "identity", lambda _: None)
    async with watching(path) as watch:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, watch.watcher.reload_now)
        path.write_text(REVOKED)
        await asyncio.sleep(2 * reload.LOOK_EVERY)
        assert watch.watcher.current.digest == digest(GOOD)
        os.kill(os.getpid(), signal.SIGHUP)
        assert await watch.in_force(REVOKED) < PROMISE
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)


async def test_an_edit_of_equal_length_that_hides_its_time_counts_too(tmp_path: Path) -> None:
    path = grants_file(tmp_path)
    text = GOOD.replace('status = "active"', "status = 'active'")
    before = path.stat()
    async with watching(path) as watch:
        path.write_text(text)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert await watch.in_force(text) < PROMISE


@pytest.mark.parametrize(
    ("text", "gist"),
    [
        pytest.param(GOOD.replace('"read"', '"reed"'), "not an operation", id="bad"),
        pytest.param("", "empty", id="empty"),
        pytest.param(GOOD[:-40], "not valid TOML", id="truncated"),
        pytest.param(None, "no such file", id="missing"),
    ],
)
async def test_a_file_that_is_no_good_leaves_the_last_good_one_in_force(
    tmp_path: Path, text: str | None, gist: str
) -> None:
    path = grants_file(tmp_path)
    async with watching(path) as watch:
        good = watch.watcher.current
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
        assert await watch.degraded() < PROMISE
        assert gist in watch.watcher.state.refused[0].message
        await asyncio.sleep(2 * reload.LOOK_EVERY)
        assert watch.watcher.current is good
        assert (len(watch.heard.refused), watch.heard.loaded) == (1, [])
        assert watch.watcher.state.refused_at is not None


async def test_a_file_put_back_is_no_longer_degraded_and_no_news(tmp_path: Path) -> None:
    path = grants_file(tmp_path)
    async with watching(path) as watch:
        path.write_text("")
        await watch.degraded()
        path.write_text(GOOD)
        assert await watch.recovered() < PROMISE
        assert watch.heard.loaded == []
        assert watch.watcher.state.digest == digest(GOOD)


async def test_a_corrected_file_counts_after_a_bad_one(tmp_path: Path) -> None:
    path = grants_file(tmp_path)
    async with watching(path) as watch:
        path.write_text("version = ")
        await watch.degraded()
        path.write_text(REVOKED)
        assert await watch.in_force(REVOKED) < PROMISE
        assert not watch.watcher.state.degraded


async def test_a_bad_file_replaced_by_another_bad_one_is_refused_since_the_first(tmp_path: Path) -> None:
    path = grants_file(tmp_path)
    async with watching(path) as watch:
        assert watch.watcher.state.refused_since is None
        path.write_text("version = 2\n")
        await watch.degraded()
        first = watch.watcher.state.refused_at
        path.write_text("version = 3\n")
        await watch.until(lambda: watch.watcher.state.refused_at != first)
        assert watch.watcher.state.refused_since == first
        path.write_text(REVOKED)
        await watch.recovered()
        assert watch.watcher.state.refused_since is None


async def test_sighup_tells_of_a_bad_file_again(tmp_path: Path) -> None:
    path = grants_file(tmp_path)
    async with watching(path) as watch:
        path.write_text("")
        await watch.degraded()
        watch.watcher.reload_now()
        await watch.until(lambda: len(watch.heard.refused) == 2)


async def test_a_file_only_touched_is_no_news(tmp_path: Path) -> None:
    path = grants_file(tmp_path)
    async with watching(path) as watch:
        path.touch()
        await asyncio.sleep(2 * reload.LOOK_EVERY + reload.SETTLE)
        assert (watch.heard.loaded, watch.heard.refused, watch.heard.keys) == ([], [], [])


async def test_half_of_a_file_written_in_place_never_counts_though_it_is_good_toml(tmp_path: Path) -> None:
    path = grants_file(tmp_path)
    text = GOOD.replace("72h", "96h")
    half = text[: text.index("[[grants]]")]
    async with watching(path) as watch:
        for _ in range(3):
            with path.open("w") as file:
                file.write(half)
                file.flush()
                await asyncio.sleep(reload.SETTLE / 2)
                file.write(text[len(half) :])
            await asyncio.sleep(reload.SETTLE / 2)
        await watch.in_force(text)
        assert [loaded for loaded, _ in watch.heard.loaded] == [digest(text)]
        assert watch.heard.refused == []


async def test_a_file_that_never_stands_still_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "RESTLESS", 2)
    path = grants_file(tmp_path)
    async with watching(path) as watch:
        number = 0
        while not watch.watcher.state.degraded:
            number += 1
            path.write_text(f"{GOOD}# {number}\n")
            await asyncio.sleep(reload.SETTLE / 5)
        assert "keeps changing" in watch.heard.refused[0][0].message


async def test_a_key_file_that_changes_is_read_again_under_the_same_grants(tmp_path: Path) -> None:
    path = grants_file(tmp_path)
    async with watching(path) as watch:
        (tmp_path / "keys" / "swiftbook.jwks.json").write_text('{"keys": []}')
        assert await watch.until(lambda: bool(watch.heard.keys)) < PROMISE
        assert watch.heard.keys == [watch.watcher.current]
        assert watch.heard.loaded == []


async def test_a_key_file_that_comes_late_ends_the_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "TRY_AGAIN", 0.1)
    path = grants_file(tmp_path)
    text = GOOD.replace("swiftbook.jwks", "later.jwks")
    async with watching(path) as watch:
        path.write_text(text)
        await watch.degraded()
        (tmp_path / "keys" / "later.jwks.json").write_text("{}")
        assert await watch.in_force(text) < PROMISE
        assert len(watch.heard.refused) == 1


async def test_a_listener_that_fails_does_not_end_the_watch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = grants_file(tmp_path)
    async with watching(path) as watch:
        watch.heard.fails = True
        path.write_text(REVOKED)
        await watch.in_force(REVOKED)
        path.write_text(GOOD)
        assert await watch.in_force(GOOD) < PROMISE
    assert "a listener to the grants file failed" in caplog.text


async def test_a_fault_while_reading_keeps_the_last_good_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = grants_file(tmp_path)
    good = reader(path).load

    def load() -> Grants:
        if "# fault" in path.read_text():
            raise MemoryError
        return good()

    async with watching(path, load) as watch:
        path.write_text(GOOD + "# fault\n")
        await watch.degraded()
        assert watch.heard.refused[0][0].message == "could not be read: MemoryError"
        path.write_text(REVOKED)
        assert await watch.in_force(REVOKED) < PROMISE
    assert "could not be read" in caplog.text


async def test_two_thousand_grants_count_within_a_second(tmp_path: Path) -> None:
    customers = GOOD[GOOD.index("[customers.leeds]") : GOOD.index("[[grants]]")]
    grant = GOOD[GOOD.index("[[grants]]") : GOOD.index('[[grants]]\nid = "airedale-swiftbook-summer')]
    parts = [GOOD[: GOOD.index("[customers.leeds]")]]
    parts += [f'[partners.p{n}]\nname = "Partner {n}"\npkb_client_id = "{n}"\n' for n in range(10)]
    parts += [customers.replace("leeds", f"c{n}").replace(f'"c{n}-box"', '"box"') for n in range(200)]
    parts += [
        grant.replace("airedale-swiftbook", f"g{n}")
        .replace('"airedale"', f'"c{n // 10}"')
        .replace('partner = "swiftbook"', f'partner = "p{n % 10}"')
        for n in range(2000)
    ]
    text = "".join(parts)
    path = grants_file(tmp_path, text)
    reading = AsideReader(reader(path))
    async with watching(path, reading.load, reading.abandon) as watch:
        assert len(watch.watcher.current.policy.grants) == 2000
        revoked = text.replace('id = "g7"', 'shadow = true\nid = "g7"')
        path.write_text(revoked)
        took = await watch.in_force(revoked)
    assert took < PROMISE
