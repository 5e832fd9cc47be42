"""Writes every checkpoint to a second place too, where who may change the audit folder cannot reach it.

In a thread of its own: a place that is slow, full or gone keeps no record and no request waiting.
"""

import asyncio
import fcntl
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.storage.chain_tails import whole_lines
from gateway.storage.journal_files import Put, Sync

_PENDING: Final = 1_000
"""Checkpoints held while the place is away; beyond it the oldest is let go. The last one of a chain says most."""
_RETRY: Final = 5.0
_LATE: Final = 10.0
"""Seconds that a checkpoint may take to be there."""
_CLOSE: Final = 2.0
"""Seconds that a stop waits for the last checkpoint."""
_MARK: Final = b'"event":"checkpoint"'

Alarm = Callable[[str | None], None]


class CheckpointCopy:
    """Appends checkpoint records to a file, mode 0600, each durable. All methods belong to the loop that made it.

    The folder is never made: a place that is not mounted must not be mistaken for one. `alarm` hears of every change of
    `trouble`.
    """

    def __init__(
        self,
        path: Path,
        alarm: Alarm,
        *,
        put: Put = os.write,
        sync: Sync = os.fsync,
        retry: float = _RETRY,
        late: float = _LATE,
    ) -> None:
        self._path = path
        self._alarm = alarm
        self._put, self._sync = put, sync
        self._retry, self._late = retry, late
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._failed: str | None = None
        self._waiting_since: float | None = None
        self._told: str | None = None
        self._thread = threading.Thread(target=self._run, name="checkpoint-copy", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str | None:
        """Why the newest checkpoints are not in the second place; None while they are."""
        since = self._waiting_since
        if self._failed is None and since is not None and time.monotonic() - since >= self._late:
            return "the second place for checkpoints does not answer"
        return self._failed

    def listen(self, lines: tuple[bytes, ...]) -> None:
        """Take the checkpoints among these lines."""
        for line in lines:
            if _MARK in line:
                self._queue.put(line)
        self.mention()

    def mention(self) -> None:
        """Raise the alarm, or end it, where something has changed."""
        trouble = self.trouble
        if trouble != self._told:
            self._told = trouble
            self._alarm(trouble)

    async def close(self) -> None:
        """Write what is still waiting, as far as the place answers soon."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, _CLOSE)

    # What follows runs in the thread.

    def _run(self) -> None:
        pending: deque[bytes] = deque(maxlen=_PENDING)
        open_for_more = True
        while open_for_more:
            open_for_more = self._gather(pending)
            if pending:
                self._waiting_since = self._waiting_since or time.monotonic()
                self._try(pending)
                self._on_loop()

    def _gather(self, pending: deque[bytes]) -> bool:
        try:
            line = self._queue.get(timeout=self._retry if pending else None)
            while line is not None:
                pending.append(line)
                line = self._queue.get_nowait()
        except queue.Empty:
            return True
        return False

    def _try(self, pending: deque[bytes]) -> None:
        try:
            self._append(b"".join(pending))
        except OSError as error:
            self._failed = f"checkpoints cannot be written to their second place: {error.strerror}"
            return
        pending.clear()
        self._failed = self._waiting_since = None

    def _append(self, data: bytes) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._path, flags, 0o600)
        try:
            # Several processes write to one file.
            fcntl.flock(fd, fcntl.LOCK_EX)
            whole = whole_lines(fd)  # A process that died may have left half a line.
            os.ftruncate(fd, whole)
            try:
                left = memoryview(data)
                while left:
                    left = left[self._put(fd, bytes(left)) :]
                self._sync(fd)
            except OSError:
                os.ftruncate(fd, whole)
                raise
        finally:
            os.close(fd)

    def _on_loop(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self.mention)
        except RuntimeError:
            # The loop is closed: nobody is left to tell.
            return
