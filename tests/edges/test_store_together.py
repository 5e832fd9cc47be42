"""Changes of a file that wait at the same moment share one transaction, and what is not lasting lasts with the next."""

import asyncio
import errno
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gateway.flow.ports import StateUnavailable
from gateway.flow.store import KeyClaim, KeyIsNew, Phase
from gateway.storage import sqlite as sqlite_module
from gateway.storage.database import Session
from gateway.storage.sqlite import path_of
from gateway.storage.store import Store, open_store, visit_store
from tests.edges.store_bench import KEEP, NOW, RECORD, A, a_task, held

_HEADER, _FRAME = 32, 24
"""Bytes of SQLite's write-ahead log before its frames, and of a frame before its page."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state.db"


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = await open_store(url, "chain-1", KEEP)
    yield opened
    await opened.close()


def log_of(file: Path) -> Path:
    return file.with_name(f"{file.name}-wal")


def commits(url: str) -> list[int]:
    """Where in the write-ahead log each transaction ends; a frame that ends one tells the size of the database."""
    log = log_of(path_of(url)).read_bytes()
    size = _FRAME + int.from_bytes(log[8:12])
    salt = log[16:24]
    ends = list[int]()
    for at in range(_HEADER, len(log) - size + 1, size):
        if log[at + 8 : at + 16] != salt:
            break
        if int.from_bytes(log[at + 4 : at + 8]):
            ends.append(at + size)
    return ends


@contextmanager
def _busy(url: str) -> Iterator[None]:
    """Hold the file, so that all who want to change it wait."""
    other = sqlite3.connect(path_of(url), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


async def gathered(url: str, *changes: Coroutine[Any, Any, object]) -> list[object]:
    """Ask for changes that wait for each other; the first goes ahead alone."""
    with _busy(url):
        asked = []
        for change in changes:
            asked.append(asyncio.ensure_future(change))
            await asyncio.sleep(0 if len(asked) > 1 else 0.05)
    return list(await asyncio.gather(*asked, return_exceptions=True))


def claims(store: Store, first: int, count: int) -> list[Coroutine[Any, Any, KeyClaim]]:
    return [store.claim_key("swiftbook", f"k-{n}", "f", f"t-{n}") for n in range(first, first + count)]


async def test_all_who_wait_share_one_transaction(store: Store, url: str) -> None:
    before = len(commits(url))
    await gathered(url, *claims(store, 0, 30))
    assert len(commits(url)) - before == 2
    assert len(await store.database.rows("SELECT 1 FROM request_key")) == 30


async def test_who_fails_in_a_shared_transaction_is_undone_alone(store: Store, url: str) -> None:
    async def half(session: Session) -> None:
        await session.change("INSERT INTO block VALUES ('half', '', 'pat', 1)")
        await session.rows("SELECT broken")

    async def stubborn(session: Session) -> None:
        await session.change("INSERT INTO block VALUES ('stubborn', '', 'pat', 1)")
        raise KeyError("stubborn")

    first = store.claim_key("swiftbook", "k", "f", "t")
    told = await gathered(
        url,
        first,
        store.database.transact(half),
        store.hold(a_task(), {A: 0}, "chain-1"),
        store.hold(a_task("t-2"), {A: 0}, "chain-1"),
        store.database.transact(stubborn),
        store.remember_jti("swiftbook", "j", 2**70, NOW),
        store.remember_jti("swiftbook", "j", 2**40, NOW),
    )
    assert [type(each) for each in told[1:]] == [StateUnavailable, bool, bool, KeyError, StateUnavailable, bool]
    assert (told[2], told[3], told[6]) == (True, False, True)
    assert await store.database.rows("SELECT partner FROM block") == []
    assert [filed.task.id for filed in await store.all_writes()] == ["t-1"]


async def test_where_the_whole_transaction_was_undone_nobody_is_told_that_it_was_done(store: Store, url: str) -> None:
    """A disk that fails undoes all of it; so does a conflict, where one says so."""

    async def fatal(session: Session) -> None:
        for _ in range(2):
            await session.change("INSERT OR ROLLBACK INTO block VALUES ('fatal', '', 'pat', 1)")

    told = await gathered(
        url, store.renew(), *claims(store, 0, 2), store.database.transact(fatal), *claims(store, 2, 2)
    )
    assert told[0] is True
    assert [type(each) for each in told[1:]] == [StateUnavailable] * 5
    assert await store.database.rows("SELECT 1 FROM request_key") == []
    assert await store.database.rows("SELECT 1 FROM block") == []
    await held(store)


async def test_reads_that_wait_are_answered_together_and_each_for_itself(store: Store) -> None:
    await held(store)
    broken = asyncio.ensure_future(store.database.rows("SELECT broken"))
    found = await asyncio.gather(*(store.find("t-1") for _ in range(20)))
    assert {filed.task.id for filed in found if filed is not None} == {"t-1"}
    with pytest.raises(StateUnavailable):
        await broken


class Syncs:
    """Notes, for each sync of the log, how much of it is whole by then; `broken` as a disk is that cannot sync."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.broken = False
        self.covered = list[int]()

    def __call__(self, descriptor: int) -> None:
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        assert os.fstat(descriptor).st_ino == log_of(path_of(self._url)).stat().st_ino
        self.covered.append(commits(self._url)[-1])

    @property
    def cover_all(self) -> bool:
        """Whether nothing was committed since the last one."""
        return bool(self.covered) and self.covered[-1] == commits(self._url)[-1]


@pytest.fixture
def syncs(url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> Syncs:
    noted = Syncs(url)
    monkeypatch.setattr(sqlite_module, "sync", noted)
    return noted


async def test_a_write_is_synced_when_it_may_be_sent_and_not_before(store: Store, syncs: Syncs) -> None:
    await store.claim_key("swiftbook", "k", "f", "t-1")
    task = await held(store)
    assert syncs.covered == []
    assert await store.send(task)
    assert syncs.cover_all
    assert await store.end(task, RECORD, "chain-1")
    assert not syncs.cover_all
    await store.recorded(["t-1"])
    assert syncs.cover_all
    await held(store, "t-2")
    await store.drop("t-2")
    assert not syncs.cover_all
    await store.secure()
    assert syncs.cover_all
    assert len(syncs.covered) == 3


async def test_what_a_change_gives_back_is_synced_and_what_is_only_read_is_not(store: Store, syncs: Syncs) -> None:
    await store.database.rows("SELECT 1 FROM node")
    assert syncs.covered == []
    await store.database.returned("UPDATE node SET lapsed = lapsed RETURNING name")
    assert syncs.cover_all


@pytest.mark.parametrize("way", ["in another chain", "taken over"])
async def test_an_end_that_the_chain_of_its_intent_does_not_tell_is_synced(
    store: Store, url: str, way: str, syncs: Syncs
) -> None:
    task = await held(store)
    assert await store.send(task)
    if way == "in another chain":
        assert await store.end(task, RECORD, "chain-1b")
    else:
        other = await visit_store(url, "chain-2", KEEP)
        assert await other.end(task, RECORD, "chain-2")
        await other.close()
    assert syncs.cover_all


async def test_while_the_disk_is_waited_for_others_may_write(
    store: Store, url: str, syncs: Syncs, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await held(store)
    other = await visit_store(url, "chain-2", KEEP)
    while_waiting = list[int]()

    def wait(descriptor: int) -> None:
        syncs(descriptor)
        connection = sqlite3.connect(path_of(url), timeout=0)
        while_waiting.append(connection.execute("UPDATE node SET lapsed = lapsed").rowcount)
        connection.commit()
        connection.close()

    monkeypatch.setattr(sqlite_module, "sync", wait)
    assert await store.send(task)
    assert while_waiting == [1]
    await other.close()


async def test_who_needs_a_sync_that_fails_is_told_so_and_nobody_else(store: Store, url: str, syncs: Syncs) -> None:
    task = await held(store)
    syncs.broken = True
    told = await gathered(
        url,
        store.database.change("UPDATE node SET lapsed = lapsed", lasting=False),
        store.send(task),
        store.claim_key("swiftbook", "k", "f", "t-9"),
        store.database.change("UPDATE node SET nothing = 1"),
    )
    assert [type(each) for each in told] == [int, StateUnavailable, KeyIsNew, StateUnavailable]
    causes = [type(each.__cause__) for each in told if isinstance(each, StateUnavailable)]
    assert causes == [OSError, sqlite3.OperationalError]
    syncs.broken = False
    # As with a server that broke off after a commit: the change is there, and whoever asked must not rely on it.
    (filed,) = await store.open_writes()
    assert filed.phase is Phase.SENT
    await store.secure()
    assert syncs.cover_all


async def test_a_power_cut_takes_only_what_came_last_and_never_from_the_middle(
    store: Store, url: str, tmp_path: Path
) -> None:
    """The log is read up to the first frame that is not whole; a sync covers all that came before it."""
    await store.claim_key("swiftbook", "k", "f", "t-1")
    task = await held(store)
    assert await store.send(task)
    may_be_sent = commits(url)[-1]
    assert await store.end(task, RECORD, "chain-1")
    log = log_of(path_of(url)).read_bytes()
    seen = list[tuple[str | None, int]]()
    for number, (end, beyond) in enumerate(pairwise([*commits(url)[-4:], len(log)])):
        for cut in {end, (end + beyond) // 2}:
            copy = tmp_path / f"{number}-{cut}.db"
            shutil.copy(path_of(url), copy)
            log_of(copy).write_bytes(log[:cut])
            left = await visit_store(f"sqlite:///{copy}", "visitor", KEEP)
            filed = await left.find("t-1")
            keys = len(await left.database.rows("SELECT 1 FROM request_key"))
            await left.close()
            assert filed is None or filed.task.id == "t-1"
            assert cut < may_be_sent or (filed is not None and filed.phase is not Phase.HELD)
            seen.append((filed.phase.value if filed else None, keys))
    assert sorted(set(seen), key=str) == [("ended", 1), ("held", 1), ("sent", 1), (None, 1)]


async def test_a_caller_that_gives_up_waits_for_the_end_of_what_it_asked_for(store: Store, url: str) -> None:
    with _busy(url):
        tries = [asyncio.ensure_future(claim) for claim in claims(store, 0, 3)]
        await asyncio.sleep(0.05)
        for claim in tries:
            claim.cancel()
        await asyncio.sleep(0.05)
        for claim in tries:
            claim.cancel()
        await asyncio.sleep(0.05)
        assert not any(claim.done() for claim in tries)
    await asyncio.wait(tries)
    assert all(claim.cancelled() for claim in tries)
    assert len(await store.database.rows("SELECT 1 FROM request_key")) == 3
