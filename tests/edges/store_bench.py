"""Nodes on one request store, and writes for them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from gateway.domain.grant import Operation
from gateway.domain.outcome import TaskStatus
from gateway.flow.store import LEASE_SECONDS, Key
from gateway.flow.tasks import Task
from gateway.storage.store import Store, open_store

NOW = datetime(2026, 11, 22, 22, 0, 0, 123456, tzinfo=UTC)
KEEP = timedelta(days=30)
A = ("box", "a-1")
PLACER = ("box", "placer/p-1")
RECORD = {"event": "outcome", "task": "t-1", "final": True, "upstream": {"collateral": []}}


@dataclass
class Monotonic:
    """A monotonic clock that the test moves."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


Open = Callable[..., Awaitable[Store]]


@asynccontextmanager
async def opening(url: str) -> AsyncIterator[Open]:
    """Open nodes on one database; all are closed in the end."""
    opened: list[Store] = []

    async def open_node(chain: str = "chain-1", lease: float = LEASE_SECONDS, keep: timedelta = KEEP) -> Store:
        opened.append(await open_store(url, chain, keep, lease))
        return opened[-1]

    try:
        yield open_node
    finally:
        for store in opened:
            await store.close()


def a_task(name: str = "t-1", **changes: object) -> Task:
    made = Task(
        name,
        "swiftbook",
        "airedale",
        "a-1",
        Operation.CANCEL,
        TaskStatus.REQUESTED,
        NOW,
        NOW,
        repeated={"request_id": "r-1", "upstream": {"route": "box", "collateral": []}},
        trace={"route": "box", "names": ["a-1"], "sought": {"comment": {"hash": "ü\u2028\x00"}}},
    )
    return replace(made, **changes)  # type: ignore[arg-type] # a test names fields of its own accord


async def held(store: Store, name: str = "t-1", *keys: Key) -> Task:
    """File a write and give it the turns of its names as they are."""
    names = keys or (A,)
    turns = await store.look(names)
    task = a_task(name)
    assert await store.hold(task, {key: turn.epoch for key, turn in zip(names, turns, strict=True)}, store.nodes.name)
    return task


async def sent(store: Store, name: str = "t-1", *keys: Key) -> Task:
    task = await held(store, name, *keys)
    assert await store.send(task)
    return task


async def opened(store: Store, name: str = "t-1", *keys: Key) -> Task:
    task = await sent(store, name, *keys)
    await store.open(task)
    return task
