"""Lets go of grants that are no longer in force, a few at a time: a large file's at once would hold everybody up."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.configuration.grants import Grants

GRACE: Final = 30.0
"""Seconds after which nobody holds grants that were replaced: longer than any request takes."""
PIECE: Final = 500
"""Objects let go of at once."""


@dataclass(slots=True)
class LettingGo:
    """Grants that were replaced, oldest first, each with the time from which it is let go of."""

    _left: deque[tuple[float, list[Any]]] = field(default_factory=deque)

    def __len__(self) -> int:
        return sum(len(parts) for _, parts in self._left)

    def add(self, grants: Grants, now: float) -> None:
        """Keep the parts of grants, so that the whole can go without them."""
        policy = grants.policy
        parts = [*policy.grants, *policy.customers.values(), *grants.registrations.values()]
        self._left.append((now + GRACE, parts))

    def some(self, now: float) -> None:
        """Let go of a piece of what is due."""
        if not self._left or self._left[0][0] > now:
            return
        parts = self._left[0][1]
        del parts[-PIECE:]
        if not parts:
            self._left.popleft()
