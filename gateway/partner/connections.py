"""How many connections partners may hold at once, and which one goes when one more comes."""

import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

PARTNERS_SHARE: Final = 2
"""One in so many of the files a process may open; the others are for PKB, the audit stream and the store."""


class Connection(Protocol):
    """One connection as far as making room needs it."""

    def is_idle(self) -> bool:
        """Whether it waits for a request."""
        ...

    def is_stuck(self) -> bool:
        """Whether its client has not taken all of an answer yet."""
        ...

    def cut_off(self) -> None:
        """End it now."""
        ...


def most_connections(wanted: int) -> int:
    """Give the number wanted, or less where the process may not open that many files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft // PARTNERS_SHARE))


@dataclass(slots=True)
class Connections:
    """The connections that are open, at most `most` of them."""

    most: int
    _by_last_use: dict[Connection, None] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._by_last_use)

    def enter(self, connection: Connection) -> bool:
        """Take one in; if need be, cut off the one idle for longest, or one that does not take its answer.

        False where all are at work. So whoever opens many and says or reads nothing loses them to those who do.
        """
        if len(self._by_last_use) >= self.most:
            leaving = self._first(lambda each: each.is_idle()) or self._first(lambda each: each.is_stuck())
            if leaving is None:
                return False
            self.leave(leaving)
            leaving.cut_off()
        self._by_last_use[connection] = None
        return True

    def used(self, connection: Connection) -> None:
        """Note that one has just carried a request."""
        if connection in self._by_last_use:
            self._by_last_use[connection] = self._by_last_use.pop(connection)

    def leave(self, connection: Connection) -> None:
        """Forget one."""
        self._by_last_use.pop(connection, None)

    def _first(self, wanted: Callable[[Connection], bool]) -> Connection | None:
        return next(filter(wanted, self._by_last_use), None)
