"""The names of appointments in the store: who has them now, and how often each was had."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Final

from gateway.flow.store import Key, Turn
from gateway.storage.database import Asked, Session
from gateway.storage.task_text import COLUMNS, read_filed

_UNTAKEN: Final = Turn()


class NotFree(Exception):
    """One of the names is somebody else's, or was since it was looked at."""


async def look_at(asked: Asked, keys: Sequence[Key]) -> Sequence[Turn]:
    """Give the turns of names in their order. Raises StateUnavailable."""
    if not keys:
        return []
    names = [_plain(key) for key in keys]
    found = await asked.rows(_turns_of(len(names)), *(part for name in names for part in name))
    turns = {
        (route, name): Turn(epoch, None if filed[0] is None else read_filed(filed))
        for route, name, epoch, *filed in found
    }
    return [turns.get(name, _UNTAKEN) for name in names]


async def take(session: Session, turns: Mapping[Key, int], task: str, now: str) -> None:
    """Take names that are as the caller saw them; `now` is the database's. Raises NotFree and StateUnavailable.

    In a fixed order: of two writes that want the same two names, none waits for the other in a circle.
    """
    wanted = sorted((_plain(key), epoch) for key, epoch in turns.items())
    unseen = [key for key, epoch in wanted if not epoch]
    if unseen and len(unseen) == len(wanted):
        await _take_unseen(session, unseen, task, now)
        return
    for key, epoch in wanted:
        if epoch:
            await _take_again(session, key, epoch, task, now)
        else:
            await _take_unseen(session, [key], task, now)


async def take_what_is_free(session: Session, keys: Iterable[Key], task: str, now: str) -> None:
    """Take those names that nobody has, whatever became of them before. Raises StateUnavailable."""
    for route, name in sorted(map(_plain, keys)):
        await session.change(
            f"INSERT INTO turn (route, name, task, epoch, touched) VALUES ($1, $2, $3, 1, {now})"
            " ON CONFLICT (route, name) DO UPDATE"
            " SET task = excluded.task, epoch = turn.epoch + 1, touched = excluded.touched"
            " WHERE turn.task IS NULL",
            route,
            name,
            task,
        )


async def let_go(session: Session, task: str, now: str) -> None:
    """Free the names that a write has. Raises StateUnavailable."""
    # By one statement, so that the names of an appointment are as old as each other.
    await session.change(f"UPDATE turn SET task = NULL, touched = {now} WHERE task = $1", task)


def _plain(key: Key) -> Key:
    """Write a name so that every database takes it: PKB's names may hold what is no text to PostgreSQL."""
    route, name = key
    if name.isprintable() and "\\" not in name:
        return key
    return route, name.encode("unicode_escape").decode("ascii")


async def _take_unseen(session: Session, keys: Sequence[Key], task: str, now: str) -> None:
    taken = await session.change(
        f"INSERT INTO turn (route, name, task, epoch, touched) VALUES {_first_turns(len(keys), now)}"
        " ON CONFLICT (route, name) DO NOTHING",
        task,
        *(part for key in keys for part in key),
    )
    if taken != len(keys):
        raise NotFree


async def _take_again(session: Session, key: Key, epoch: int, task: str, now: str) -> None:
    taken = await session.change(
        f"UPDATE turn SET task = $3, epoch = epoch + 1, touched = {now}"
        " WHERE route = $1 AND name = $2 AND task IS NULL AND epoch = $4",
        *key,
        task,
        epoch,
    )
    if not taken:
        raise NotFree


@cache
def _turns_of(names: int) -> str:
    wanted = " OR ".join(f"(turn.route = ${2 * n + 1} AND turn.name = ${2 * n + 2})" for n in range(names))
    return (
        f"SELECT turn.route, turn.name, turn.epoch, {COLUMNS} FROM turn LEFT JOIN task ON task.id = turn.task"
        f" WHERE {wanted}"
    )


@cache
def _first_turns(names: int, now: str) -> str:
    return ", ".join(f"(${2 * n + 2}, ${2 * n + 3}, $1, 1, {now})" for n in range(names))
