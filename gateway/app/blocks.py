"""The kill switch: a person's block goes into the store, and every node follows the store within a second."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import structlog

from gateway.app.background import run_beside
from gateway.domain.codes import Code
from gateway.domain.grant import Block, Policy
from gateway.flow import records
from gateway.flow.ports import JournalUnavailable, StateUnavailable

LOOK_EVERY: Final = 0.4
"""Seconds between two looks at the store: with the look itself well under the second that a block may take."""

_log = structlog.get_logger("pkb_gateway")


class BlockStore(Protocol):
    """Where blocks are kept for all nodes. Changes are durable on return. Every method raises StateUnavailable."""

    async def block(self, partner: str, customer: str | None, by: str, at: datetime) -> bool:
        """Keep a block; False where it is kept already, by whomever."""
        ...

    async def unblock(self, partner: str, customer: str | None) -> bool:
        """Forget exactly this block; False where there is none."""
        ...

    async def blocks(self) -> Collection[Block]:
        """Give every block."""
        ...


class Blocks:
    """The blocks in force on this node. While the store cannot be read, those that were read last stay in force."""

    def __init__(self, read: Callable[[], Awaitable[Collection[Block]]], *, look_every: float = LOOK_EVERY) -> None:
        self.current: frozenset[Block] = frozenset()
        self._read = read
        self._look_every = look_every
        self._latest: tuple[Policy, Policy] | None = None
        self._lost = False
        self.looked_at = -math.inf
        """When the store was asked last, answer or not: a time of the running event loop."""

    def on(self, policy: Policy) -> Policy:
        """Give a policy with the blocks of this moment on it."""
        if self._latest is None or self._latest[0] is not policy or self._latest[1].blocks is not self.current:
            self._latest = (policy, policy.with_blocks(self.current))
        return self._latest[1]

    async def look(self) -> None:
        """Read them once. Raises StateUnavailable."""
        asked_at = asyncio.get_running_loop().time()
        try:
            found = frozenset(await self._read())
        finally:
            self.looked_at = asked_at
        if found != self.current:
            _log.warning("blocks changed", added=_words(found - self.current), removed=_words(self.current - found))
            self.current = found

    async def run(self) -> None:
        """Follow the store until cancelled."""
        while True:
            await asyncio.sleep(self._look_every)
            try:
                await self.look()
            except StateUnavailable as error:
                self._tell_lost(str(error))
            except Exception:  # noqa: BLE001 - whatever failed, the next block must be followed all the same
                _log.exception("blocks could not be read")
            else:
                self._lost = False

    def _tell_lost(self, reason: str) -> None:
        if not self._lost:
            _log.error("blocks could not be read", problem=reason)
        self._lost = True


async def follow_blocks(read: Callable[[], Awaitable[Collection[Block]]], stack: AsyncExitStack) -> Blocks:
    """Read the blocks, and follow them until the stack unwinds. Raises StateUnavailable."""
    blocks = Blocks(read)
    await blocks.look()
    run_beside(blocks.run(), stack)
    return blocks


def _words(blocks: Collection[Block]) -> list[str]:
    return sorted(partner if customer is None else f"{partner} at {customer}" for partner, customer in blocks)


@dataclass(frozen=True, slots=True)
class Wish:
    """Whom a person wants blocked, or no longer blocked; `customer` None: at every one."""

    partner: str
    customer: str | None
    by: str
    at: datetime

    def record(self, *, blocked: bool) -> records.Record:
        """Tell it in the words of the audit stream; `code` is what the partner is told from now on."""
        code = Code.PARTNER_SUSPENDED if self.customer is None else Code.NO_GRANT
        return {
            "event": "blocked",
            "partner": self.partner,
            "customer": self.customer,
            "decision": "refuse" if blocked else "permit",
            "code": code.value if blocked else None,
            "operator": self.by,
            "now": records.moment(self.at),
        }


class NotDone(Exception):
    """What was wanted is not done, or only half; the message says what is, and what is not."""


class Chain(Protocol):
    """A chain of the audit stream."""

    async def write(self, record: Mapping[str, object], *, essential: bool = False) -> int:
        """Make a record durable. Raises JournalUnavailable."""
        ...


Opened = Callable[[], AbstractAsyncContextManager[Chain]]
"""Opens a chain of the audit stream for one record. Raises JournalUnavailable."""


async def put(wish: Wish, store: BlockStore, journal: Opened) -> bool:
    """Block, then record it: shutting somebody out waits for no disk. False where it was blocked already.

    Raises NotDone.
    """
    try:
        new = await store.block(wish.partner, wish.customer, wish.by, wish.at)
    except StateUnavailable as error:
        raise NotDone(f"the block may not be in force, and nothing is on record: {error}") from error
    try:
        await _record(wish, journal, blocked=True)
    except JournalUnavailable as error:
        raise NotDone(f"the block is in force, but it is not on record: {error}") from error
    return new


async def lift(wish: Wish, store: BlockStore, journal: Opened) -> bool:
    """Record it, then unblock: nobody gets back in without a record. False where there was no block. Raises NotDone."""
    try:
        if (wish.partner, wish.customer) not in await store.blocks():
            return False
        await _record(wish, journal, blocked=False)
    except (StateUnavailable, JournalUnavailable) as error:
        raise NotDone(f"nothing was changed, a block is still in force: {error}") from error
    try:
        return await store.unblock(wish.partner, wish.customer)
    except StateUnavailable as error:
        raise NotDone(f"it is on record as lifted, but the block may still be in force: {error}") from error


async def _record(wish: Wish, journal: Opened, *, blocked: bool) -> None:
    async with journal() as chain:
        await chain.write(wish.record(blocked=blocked), essential=True)
