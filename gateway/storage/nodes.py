"""Nodes and their leases, by the clock of the database: who lives, and who takes over what the dead leave."""

import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from gateway.flow.ports import StateUnavailable
from gateway.flow.store import LEASE_SECONDS, Filed
from gateway.storage.database import Asked, Database, Session, listed
from gateway.storage.task_text import COLUMNS, read_filed

NAMELESS: Final = ""
"""The node of writes that were filed before nodes had names. It is dead."""

JITTER: Final = 1.0
"""Seconds that a clock may go back without being taken for one that jumped."""


class Nodes:
    """The nodes as one of them sees them. `monotonic` gives seconds. Methods raise StateUnavailable.

    A node judges the leases of others only while its own has been good for a whole lease. After the database was away,
    or its clock jumped, everybody's lease has lapsed, and nobody may be robbed for that.
    """

    def __init__(
        self,
        database: Database,
        chain: str,
        lease: float = LEASE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = chain
        """The name of this node: its chain and, once it was taken for dead, a number."""
        self._database = database
        self._chain = chain
        self._lease = lease
        self._monotonic = monotonic
        self._number = 1
        self._good_since = math.inf
        self._last = -math.inf

    async def register(self) -> None:
        """Begin a lease under this node's name, or under the next one where that is taken."""
        now = self._database.now
        while True:
            begun = self._monotonic()
            added = await self._database.change(
                f"INSERT INTO node (name, chain, expires, lapsed) VALUES ($1, $2, {now} + $3, 0)"
                " ON CONFLICT (name) DO NOTHING",
                self.name,
                self._chain,
                self._lease,
            )
            if added:
                self._good_since = self._last = begun
                return
            self._rename()

    async def renew(self, chain: str | None = None) -> bool:
        """Prolong the lease, also one that has lapsed; False where another took this node for dead.

        Then the node goes on under a new name. A journal whose files were taken away goes on in another `chain`.
        """
        self._chain = chain or self._chain
        begun = self._monotonic()
        try:
            found = await self._database.returned(
                f"UPDATE node SET lapsed = CASE WHEN {self._lapsed('node')} THEN 1 ELSE 0 END,"
                f" expires = {self._database.now} + $2, chain = $3 WHERE name = $1 RETURNING lapsed",
                self.name,
                self._lease,
                self._chain,
            )
        except StateUnavailable:
            self._good_since = math.inf
            raise
        if not found:
            self._rename()
            await self.register()
            return False
        if found[0][0] or begun - self._last > self._lease or self._good_since == math.inf:
            self._good_since = begun
        self._last = begun
        return True

    async def peers(self) -> Sequence[str]:
        """Name the chains of the others."""
        found = await self._database.rows(
            "SELECT DISTINCT chain FROM node WHERE chain <> $1 AND name <> $2 ORDER BY chain", self._chain, NAMELESS
        )
        return [chain for (chain,) in found]

    async def is_alive(self, name: str) -> bool:
        """Say whether the lease of a node is good."""
        condition = f"node.name = $1 AND NOT {self._lapsed('node')}"
        return bool(await self._database.rows(f"SELECT 1 FROM node WHERE {condition}", name))

    async def adopt(self, died: Iterable[str]) -> Sequence[Filed]:
        """Take over from nodes whose lease ran out, and from those of these chains."""
        chains = frozenset(died) - {self._chain}
        judges = self._monotonic() - self._good_since >= self._lease
        if not await self._dead(self._database, chains, judges=judges):
            return []

        async def take(session: Session) -> Sequence[Filed]:
            # Every adopter locks all nodes in the same order: of two that would take each other over, one comes first.
            await session.rows(f"SELECT name FROM node ORDER BY name {self._database.alone}")
            taken = await self._dead(session, chains, judges=judges)
            if not taken or not await session.rows("SELECT 1 FROM node WHERE name = $1", self.name):
                return []
            return await self._take_over(session, taken)

        return await self._database.transact(take)

    async def _take_over(self, session: Session, taken: Collection[str]) -> Sequence[Filed]:
        names = listed(2, len(taken))
        await session.change(f"DELETE FROM node WHERE name IN ({listed(1, len(taken))})", *taken)
        await session.change(
            f"DELETE FROM request_key WHERE node IN ({listed(1, len(taken))})"
            " AND NOT EXISTS (SELECT 1 FROM task WHERE task.id = request_key.task)",
            *taken,
        )
        await session.change(f"UPDATE request_key SET node = $1 WHERE node IN ({names})", self.name, *taken)
        left = await session.rows(
            f"SELECT {COLUMNS} FROM task WHERE node IN ({listed(1, len(taken))}) AND phase <> 'ended'"
            f" ORDER BY touched, id {self._database.alone}",
            *taken,
        )
        await session.change(
            f"UPDATE task SET node = $1 WHERE node IN ({names}) AND phase <> 'ended'", self.name, *taken
        )
        return [read_filed(row) for row in left]

    async def _dead(self, asked: Asked, chains: Collection[str], *, judges: bool) -> Sequence[str]:
        """Name the nodes that may be taken over."""
        reasons = ["node.name = $2"]
        if chains:
            reasons.append(f"node.chain IN ({listed(3, len(chains))})")
        if judges:
            good = f"SELECT 1 FROM node AS own WHERE own.name = $1 AND NOT {self._lapsed('own')}"
            reasons.append(f"({self._lapsed('node')} AND EXISTS ({good}))")
        found = await asked.rows(
            f"SELECT node.name FROM node WHERE node.name <> $1 AND ({' OR '.join(reasons)}) ORDER BY node.name",
            self.name,
            NAMELESS,
            *sorted(chains),
        )
        return [name for (name,) in found]

    def _rename(self) -> None:
        self._number += 1
        self.name = f"{self._chain}/{self._number}"

    def _lapsed(self, table: str) -> str:
        """Write the condition that a lease has run out, or ends later than one that begins now: the clock went back."""
        now = self._database.now
        return f"({table}.expires < {now} OR {table}.expires > {now} + {self._lease + JITTER!r})"
