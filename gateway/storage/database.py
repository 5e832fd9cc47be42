"""What the request store asks of a database: one wording of SQL for both, with parameters `$1`, `$2`, in order."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

Value = str | int | float | None
Row = Sequence[Any]
T = TypeVar("T")


class Asked(Protocol):
    """Whatever answers a query. Raises StateUnavailable."""

    async def rows(self, sql: str, *values: Value) -> Sequence[Row]:
        """Give the rows of a query."""
        ...


class Session(Asked, Protocol):
    """A transaction under way. Its methods raise StateUnavailable; `rows` also gives what a change returns."""

    async def change(self, sql: str, *values: Value) -> int:
        """Say how many rows a statement changed."""
        ...


class Database(Asked, Protocol):
    """A database, safe for concurrent calls. Every method raises StateUnavailable; changes are durable on return.

    One that need not be `lasting` is seen by everybody on return, survives the death of this process, and becomes
    durable with the next that is, at the latest; a power cut before that takes it and all that came after it.

    A caller that is cancelled leaves nothing half done: its statement or transaction comes to its end first.
    """

    name: str
    """As SQLAlchemy calls the dialect."""
    now: str
    """An expression for seconds since the epoch by the clock of the database, the same all through a statement."""
    share: str
    """What ends a query whose rows nobody may remove before the transaction ends."""
    alone: str
    """What ends a query whose rows nobody else may take or share before the transaction ends."""

    async def returned(self, sql: str, *values: Value) -> Sequence[Row]:
        """Give the rows that a change returns."""
        ...

    async def change(self, sql: str, *values: Value, lasting: bool = True) -> int:
        """Say how many rows a statement changed."""
        ...

    async def transact(self, work: Callable[[Session], Awaitable[T]], *, lasting: bool = True) -> T:
        """Do all of `work` or, where it raises, nothing. It may be called again after a deadlock."""
        ...

    async def migrate(self, plan: Callable[[Session], Awaitable[Sequence[str]]]) -> None:
        """Run the statements of `plan` in one transaction that no other process's `migrate` overlaps."""
        ...

    async def close(self) -> None:
        """End it; every later call raises StateUnavailable."""
        ...


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """Bring `work` to its end, even where the caller is cancelled meanwhile; it must be bounded in time."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait({task})
        if not task.cancelled():
            # Nobody is left to be told, and a fault that nobody asks for would be reported as lost.
            task.exception()
        raise


def listed(first: int, count: int) -> str:
    """Write `count` parameters in a row: `$3, $4, $5`."""
    return ", ".join(f"${number}" for number in range(first, first + count))
