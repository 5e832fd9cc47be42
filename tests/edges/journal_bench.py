"""What the tests of the journal share: a journal on a folder of their own, and a disk that fails when told."""

import asyncio
import errno
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.storage.journal import Journal, JournalSettings
from gateway.storage.journal_chain import ChainSettings, Platform, Signer

NOON = datetime(2026, 11, 22, 12, 0, 0, 1, tzinfo=UTC)
SIGNER = Signer("audit-1", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


@dataclass
class Clock:
    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class Disk:
    """Counts what is made durable. `full` takes so many more bytes and then no more; `broken` cannot sync.

    `read_only` takes nothing at all; while `hanging` is not set a sync does not come back.
    """

    synced: list[int] = field(default_factory=list)
    full: int | None = None
    broken: bool = False
    read_only: bool = False
    hanging: threading.Event = field(default_factory=threading.Event)
    asked: int = 0
    free: int = 10**12
    ids: int = 0

    def __post_init__(self) -> None:
        self.hanging.set()

    def put(self, fd: int, data: bytes) -> int:
        if self.read_only:
            raise OSError(errno.EROFS, "Read-only file system")
        if self.full is None:
            return os.write(fd, data)
        if self.full == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        data = data[: self.full]
        self.full -= len(data)
        return os.write(fd, data)

    def sync(self, fd: int) -> None:
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        self.asked += 1
        assert self.hanging.wait(20), "a test forgot its hanging disk"
        os.fdatasync(fd)
        self.synced.append(fd)

    def free_bytes(self, directory: Path) -> int:
        return self.free

    def new_id(self) -> str:
        self.ids += 1
        return f"{self.ids:08x}"

    @property
    def platform(self) -> Platform:
        return Platform(self.put, self.sync, self.free_bytes, self.new_id)


async def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(250):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came true")


@dataclass
class Bench:
    directory: Path
    clock: Clock = field(default_factory=Clock)
    disk: Disk = field(default_factory=Disk)

    @asynccontextmanager
    async def journal(
        self,
        *,
        signer: Signer | None = None,
        chain: dict[str, Any] | None = None,
        alarm: Callable[[str | None], None] | None = None,
        **settings: Any,
    ) -> AsyncIterator[Journal]:
        journal = await Journal.open(
            JournalSettings(
                ChainSettings(self.directory, **(chain or {})), **{"patience": 0.02, "look": 0.0, **settings}
            ),
            clock=self.clock,
            signer=signer,
            platform=self.disk.platform,
            alarm=alarm,
        )
        try:
            yield journal
        finally:
            await journal.close()

    @property
    def files(self) -> list[Path]:
        return sorted(self.directory.glob("*.jsonl"))

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for file in self.files for line in file.read_bytes().splitlines()]

    @property
    def events(self) -> list[str]:
        return [record["event"] for record in self.records]
