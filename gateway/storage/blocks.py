"""Blocks: partners who may do nothing for now, at one customer or at any, on every node at once."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.storage.database import Database

_ANY = ""
"""No customer is named so."""


@dataclass(frozen=True, slots=True)
class Block:
    """Who is blocked, where, and who said so when."""

    partner: str
    customer: str | None
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of all nodes. Methods raise StateUnavailable; changes are durable on return."""

    database: Database

    async def block(self, partner: str, customer: str | None, by: str, at: datetime) -> bool:
        """Block a partner at one customer or, without one, everywhere; False where it is blocked there already."""
        added = await self.database.change(
            "INSERT INTO block (partner, customer, operator, at) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (partner, customer) DO NOTHING",
            partner,
            customer or _ANY,
            by,
            at.timestamp(),
        )
        return added == 1

    async def unblock(self, partner: str, customer: str | None) -> bool:
        """Lift exactly that block; False where there is none."""
        lifted = await self.database.change(
            "DELETE FROM block WHERE partner = $1 AND customer = $2", partner, customer or _ANY
        )
        return lifted == 1

    async def blocks(self) -> Collection[tuple[str, str | None]]:
        """Give who is blocked where; None is everywhere."""
        return [(block.partner, block.customer) for block in await self.listing()]

    async def listing(self) -> Sequence[Block]:
        """Give the blocks with who set them when, the oldest first."""
        found = await self.database.rows(
            "SELECT partner, customer, operator, at FROM block ORDER BY at, partner, customer"
        )
        return [
            Block(partner, customer or None, operator, datetime.fromtimestamp(at, UTC))
            for partner, customer, operator, at in found
        ]
