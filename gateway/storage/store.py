"""The request store on a database: the port of the flow, and what else must outlive a process."""

import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Final

from gateway.flow.ports import StateUnavailable
from gateway.flow.store import (
    LEASE_SECONDS,
    Filed,
    Key,
    KeyClaim,
    KeyIsKnown,
    KeyIsNew,
    KeyIsOthers,
    Turn,
)
from gateway.flow.tasks import Task
from gateway.storage.database import Asked, Database, Session, listed
from gateway.storage.nodes import Nodes
from gateway.storage.opening import open_database
from gateway.storage.retention import Retention
from gateway.storage.seen_ids import SeenIds
from gateway.storage.task_text import COLUMNS, read_filed, write_record, write_task
from gateway.storage.turns import NotFree, let_go, look_at, take, take_what_is_free

AT_ONCE: Final = 500
"""Writes that one statement names."""

TRIES: Final = 5
"""How often a key is tried that was freed between two looks at it."""


@dataclass(slots=True)
class Store:
    """The request store as one node sees it. See `gateway.flow.store.Store`; every method raises StateUnavailable."""

    database: Database
    nodes: Nodes
    retention: Retention
    seen: SeenIds
    _endings: dict[str, str] = field(default_factory=dict)
    """Marks of ends of which this node was not told whether they were filed."""
    _mark: str = field(default_factory=lambda: f"{secrets.token_hex(8)}-")
    """How the marks of this store begin, and of no other: they are numbered."""
    _numbers: Iterator[int] = field(default_factory=count)
    _chains: dict[str, str] = field(default_factory=dict)
    """The chains of the intents of this node's own writes."""

    async def close(self) -> None:
        """End the connection; every later call raises StateUnavailable."""
        await self.database.close()

    async def is_usable(self) -> bool:
        """Say whether the database answers and may be written."""
        return await self.seen.is_usable()

    async def remember_jti(self, issuer: str, jti: str, expires: int, now: datetime) -> bool:
        """Say whether `issuer` never used `jti` before. `expires`: seconds since the epoch."""
        return await self.seen.remember(issuer, jti, expires, now)

    async def claim_key(self, partner: str, key: str, fingerprint: str, task: str) -> KeyClaim:
        """See the port."""
        for _ in range(TRIES):
            # A claim is filed under a node that lives: whoever takes this node over finds it.
            added = await self.database.change(
                "INSERT INTO request_key (partner, key, fingerprint, task, node, touched)"
                f" SELECT $1, $2, $3, $4, name, {self.database.now} FROM node WHERE name = $5"
                f" {self.database.share} ON CONFLICT (partner, key) DO NOTHING",
                partner,
                key,
                fingerprint,
                task,
                self.nodes.name,
                # Nothing comes of it before `send`, which lasts.
                lasting=False,
            )
            if added:
                return KeyIsNew()
            found = await self.database.rows(
                f"SELECT request_key.fingerprint, request_key.task, {COLUMNS} FROM request_key"
                " LEFT JOIN task ON task.id = request_key.task AND task.phase <> 'held'"
                " WHERE partner = $1 AND key = $2",
                partner,
                key,
            )
            if found:
                return _claimed(fingerprint, task, *found[0])
            await self._must_live(self.database)
        raise StateUnavailable("an idempotency key is claimed and freed again and again")

    async def free_key(self, task: str) -> None:
        """See the port."""
        await self.database.change(
            "DELETE FROM request_key WHERE task = $1"
            " AND NOT EXISTS (SELECT 1 FROM task WHERE task.id = $1 AND phase <> 'held')",
            task,
            lasting=False,
        )

    async def look(self, keys: Sequence[Key]) -> Sequence[Turn]:
        """See the port."""
        return await look_at(self.database, keys)

    async def hold(self, task: Task, turns: Mapping[Key, int], chain: str) -> bool:
        """See the port."""
        body = write_task(task)

        async def held(session: Session) -> None:
            filed = await session.change(
                "INSERT INTO task (id, phase, node, chain, touched, body)"
                f" SELECT $1, 'held', name, $2, {self.database.now}, $3 FROM node WHERE name = $4"
                f" {self.database.share}",
                task.id,
                chain,
                body,
                self.nodes.name,
            )
            if not filed:
                await self._must_live(session)
            await take(session, turns, task.id, self.database.now)

        try:
            # Until `send`, which lasts, the intent in the audit stream is all that must not be lost.
            await self.database.transact(held, lasting=False)
        except NotFree:
            return False
        self._chains[task.id] = chain
        return True

    async def send(self, task: Task) -> bool:
        """See the port."""
        sent = await self.database.change(
            f"UPDATE task SET phase = 'sent', body = $2, touched = {self.database.now}"
            " WHERE id = $1 AND phase = 'held' AND node = $3 AND EXISTS (SELECT 1 FROM node WHERE name = $3)",
            task.id,
            write_task(task),
            self.nodes.name,
        )
        return sent == 1

    async def open(self, task: Task) -> None:
        """See the port."""
        await self.database.change(
            f"UPDATE task SET phase = 'open', body = $2, touched = {self.database.now}"
            " WHERE id = $1 AND phase IN ('sent', 'open')",
            task.id,
            write_task(task),
        )

    async def end(self, task: Task, record: Mapping[str, Any], chain: str, *, free_key: bool = False) -> bool:
        """See the port. A write that the store lost, or never had, ends as well.

        Who is not told whether the end was filed may call again: that was its own end then, and it is told True.
        """
        return await self._end(task, write_record(record), chain, free_key=free_key)

    async def end_on_record(self, task: Task) -> bool:
        """End a write whose final outcome is known to be on record; False where it has ended already."""
        return await self._end(task, None, None, free_key=False)

    async def _end(self, task: Task, record: str | None, chain: str | None, *, free_key: bool) -> bool:
        mark = self._endings.pop(task.id, None) or f"{self._mark}{next(self._numbers)}"
        # Where the outcome follows the intent in its chain, whoever takes over from this node finds it there.
        lasting = self._chains.pop(task.id, None) != chain
        body = write_task(task)

        async def ended(session: Session) -> bool:
            filed = await session.change(
                "INSERT INTO task (id, phase, node, chain, touched, body, owed, record, ended_by)"
                f" VALUES ($1, 'ended', $2, COALESCE($3, ''), {self.database.now}, $4, $3, $5, $6)"
                " ON CONFLICT (id) DO UPDATE SET phase = 'ended', touched = excluded.touched, body = excluded.body,"
                " owed = excluded.owed, record = excluded.record, ended_by = excluded.ended_by"
                " WHERE task.phase <> 'ended'",
                task.id,
                self.nodes.name,
                chain,
                body,
                record,
                mark,
            )
            if filed:
                await self._let_go(session, task.id, free_key=free_key)
                return True
            # Its own end that it was not told of, and by now it may know a better one: the last word counts, unless
            # somebody has put the first one on record meanwhile.
            mine = await session.change(
                "UPDATE task SET body = $2, record = $4 WHERE id = $1 AND ended_by = $5 AND owed = $3",
                task.id,
                body,
                chain,
                record,
                mark,
            )
            if mine and free_key:
                await self._let_go(session, task.id, free_key=True)
            return mine == 1

        try:
            return await self.database.transact(ended, lasting=lasting)
        except BaseException:
            self._endings[task.id] = mark
            raise

    async def recorded(self, tasks: Collection[str]) -> None:
        """See the port."""
        named = sorted(tasks)
        for start in range(0, len(named), AT_ONCE):
            some = named[start : start + AT_ONCE]
            await self.database.change(
                f"UPDATE task SET owed = NULL, record = NULL WHERE phase = 'ended' AND id IN ({listed(1, len(some))})",
                *some,
            )

    async def drop(self, task: str) -> None:
        """See the port."""

        async def dropped(session: Session) -> None:
            if await session.change("DELETE FROM task WHERE id = $1 AND phase = 'held'", task):
                await self._let_go(session, task, free_key=True)

        self._chains.pop(task, None)
        await self.database.transact(dropped, lasting=False)

    async def secure(self) -> None:
        """See the port."""
        await self.database.change("UPDATE node SET lapsed = lapsed WHERE name = $1", self.nodes.name)

    async def find(self, task: str) -> Filed | None:
        """See the port."""
        found = await self._filed("task.id = $1", task)
        return found[0] if found else None

    async def renew(self, chain: str | None = None) -> bool:
        """See the port. Old writes and keys are removed from time to time as well."""
        renewed = await self.nodes.renew(chain)
        if not renewed:
            # Another node ends what was open here.
            self._chains.clear()
        await self.retention.clean()
        return renewed

    async def peers(self) -> Sequence[str]:
        """See the port."""
        return await self.nodes.peers()

    async def adopt(self, died: Iterable[str]) -> Sequence[Filed]:
        """See the port."""
        return await self.nodes.adopt(died)

    async def restore(self, filed: Filed, keys: Sequence[Key]) -> bool:
        """See the port."""

        async def restored(session: Session) -> bool:
            now = self.database.now
            added = await session.change(
                "INSERT INTO task (id, phase, node, chain, touched, body)"
                f" SELECT $1, 'open', name, $2, {now}, $3 FROM node WHERE name = $4 {self.database.share}"
                " ON CONFLICT (id) DO NOTHING",
                filed.task.id,
                filed.chain,
                write_task(filed.task),
                self.nodes.name,
            )
            if not added:
                await self._must_live(session)
                return False
            await take_what_is_free(session, keys, filed.task.id, now)
            return True

        return await self.database.transact(restored)

    async def owing(self, but: Collection[str] = ()) -> Sequence[Filed]:
        """See the port."""
        left_out = f" AND task.owed NOT IN ({listed(1, len(but))})" if but else ""
        return await self._filed(f"task.owed IS NOT NULL{left_out}", *but)

    async def inherit(self, task: str, owed: str, chain: str) -> bool:
        """See the port."""
        changed = await self.database.change("UPDATE task SET owed = $3 WHERE id = $1 AND owed = $2", task, owed, chain)
        return changed == 1

    async def is_running(self, task: str) -> bool:
        """Say whether the request that caused a write still runs, on a node that lives."""
        node = await self.database.rows("SELECT node FROM task WHERE id = $1 AND phase IN ('held', 'sent')", task)
        return bool(node) and await self.nodes.is_alive(node[0][0])

    async def open_writes(self) -> Sequence[Filed]:
        """Give the writes of all nodes that have not ended, the one first touched first."""
        return await self._filed("task.phase <> 'ended'")

    async def all_writes(self) -> Sequence[Filed]:
        """Give all writes that are kept, the one first touched first."""
        return await self._filed("1 = 1")

    async def _filed(self, condition: str, *values: str) -> Sequence[Filed]:
        found = await self.database.rows(
            f"SELECT {COLUMNS} FROM task WHERE {condition} ORDER BY task.touched, task.id", *values
        )
        return [read_filed(row) for row in found]

    async def _let_go(self, session: Session, task: str, *, free_key: bool) -> None:
        await let_go(session, task, self.database.now)
        if free_key:
            await session.change("DELETE FROM request_key WHERE task = $1", task)

    async def _must_live(self, asked: Asked) -> None:
        """Raise StateUnavailable where another node took this one for dead; it renews under a new name in a moment."""
        if not await asked.rows("SELECT 1 FROM node WHERE name = $1", self.nodes.name):
            raise StateUnavailable("this node was taken for dead")


async def open_store(url: str, chain: str, keep: timedelta, lease: float = LEASE_SECONDS) -> Store:
    """Open the store at `url` as the node of an audit chain, whose lease of so many seconds begins.

    What has ended is kept for `keep`. The schema is brought up to date. Raises StateUnavailable.
    """
    store = await visit_store(url, chain, keep, lease)
    try:
        await store.nodes.register()
    except BaseException:
        await store.close()
        raise
    return store


async def visit_store(url: str, chain: str, keep: timedelta, lease: float = LEASE_SECONDS) -> Store:
    """Open the store without a lease, to look at it or to end writes. Raises StateUnavailable."""
    database = await open_database(url)
    return Store(database, Nodes(database, chain, lease), Retention(database, keep), SeenIds(database))


def _claimed(fingerprint: str, task: str, known: str, owner: str, *filed: Any) -> KeyClaim:
    if owner == task:
        # The claim came through, though the database broke off before it said so.
        return KeyIsNew()
    if known != fingerprint:
        return KeyIsOthers()
    return KeyIsKnown(None if filed[0] is None else read_filed(filed))
