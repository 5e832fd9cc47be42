"""How many connections partners may hold at once, and which one goes when one more comes."""

import resource
from dataclasses import dataclass, field
from typing import Final, Protocol

PARTNERS_SHARE: Final = 2
"""One in so many of the files a process may open; the others are for PKB, the audit stream and the store."""


class Connection(Protocol):
    """One connection as far as making room needs it."""

    def is_idle(self) -> bool:
        """Whether it waits for a request."""
        ...

    def force_close(self) -> None:
        """Close it now."""
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
        """Take one in, closing the one that has been idle for longest if need be; False where none is idle.

        So whoever opens many and says nothing loses them to those who have something to say.
        """
        if len(self._by_last_use) >= self.most:
            idle = next((each for each in self._by_last_use if each.is_idle()), None)
            if idle is None:
                return False
            self.leave(idle)
            idle.force_close()
        self._by_last_use[connection] = None
        return True

    def used(self, connection: Connection) -> None:
        """Note that one has just carried a request."""
        if connection in self._by_last_use:
            self._by_last_use[connection] = self._by_last_use.pop(connection)

    def leave(self, connection: Connection) -> None:
        """Forget one."""
        self._by_last_use.pop(connection, None)
