"""What an event loop has done by a thread of its own: there in batches, and back with one call for all of a batch."""

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

AT_ONCE: Final = 512
"""Errands in one batch."""


class Errand:
    """One of them. Only who awaits it may be told of it; a thread that has taken it carries it out in any case."""

    __slots__ = ("settled", "taken", "until", "waiter", "withdrawn")

    def __init__(self, waiter: "asyncio.Future[Any] | None") -> None:
        self.waiter = waiter
        self.until = 0.0
        self.taken = False
        self.withdrawn = False
        self.settled = waiter is None


E = TypeVar("E", bound=Errand)


class Errands(Generic[E]):
    """The way to one thread and back. One event loop hands in, one thread gathers.

    `overdue` is called with an errand that was not settled in time; it may withdraw it, settle it, or leave it.
    """

    def __init__(self, overdue: Callable[[E], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._overdue = overdue
        self._queue: queue.SimpleQueue[E | None] = queue.SimpleQueue()
        self._handed_in: list[E] = []
        self._taking = threading.Lock()
        self._waiting: deque[E] = deque()
        self._timer: asyncio.TimerHandle | None = None

    # What follows belongs to the event loop.

    def __len__(self) -> int:
        """How many the thread has not gathered yet."""
        return len(self._handed_in) + self._queue.qsize()

    def waiter(self) -> "asyncio.Future[Any]":
        """Make what an errand is awaited by."""
        return self._loop.create_future()

    def hand_in(self, errand: E, wait: float) -> None:
        """Hand it in; somebody who awaits it does so for `wait` seconds, always the same, before it is overdue."""
        if not self._handed_in:
            self._loop.call_soon(self._send)
        self._handed_in.append(errand)
        if errand.settled:
            return
        waiting = self._waiting
        while waiting and waiting[0].settled:
            waiting.popleft()
        waiting.append(errand)
        errand.until = self._loop.time() + wait
        # One timer for all: it goes by the oldest, and few are ever overdue.
        if self._timer is None:
            self._timer = self._loop.call_at(errand.until, self._look)

    async def result(self, errand: E) -> Any:
        """Wait for what comes of it. A caller that is cancelled goes on once it has come to its end all the same."""
        assert errand.waiter is not None, "nobody waits for an errand without a waiter"
        try:
            return await errand.waiter
        except asyncio.CancelledError:
            while not errand.settled:
                errand.waiter = self.waiter()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await errand.waiter
            raise

    def withdraw(self, errand: E) -> bool:
        """Take it back; False where the thread has it already."""
        with self._taking:
            errand.withdrawn = not errand.taken
        return errand.withdrawn

    def settle(self, results: Sequence[tuple[E, object]]) -> None:
        """Tell whoever waits what came of it: an exception is raised there."""
        for errand, result in results:
            waiter = errand.waiter
            if errand.settled or waiter is None:
                continue
            errand.settled = True
            if waiter.done():
                continue
            if isinstance(result, BaseException):
                waiter.set_exception(result)
            else:
                waiter.set_result(result)

    def close(self) -> None:
        """Let the thread gather what is left, and no more."""
        self._send()
        self._queue.put(None)

    def _send(self) -> None:
        """Wake the thread once for all that this round of the loop hands in.

        A thread that is awake asks for the interpreter's lock, and each time that the loop gives the lock away for a
        moment, to send or to write, it has to get it back. So whoever is woken late wakes seldom.
        """
        for errand in self._handed_in:
            self._queue.put(errand)
        self._handed_in.clear()

    def _look(self) -> None:
        now, waiting = self._loop.time(), self._waiting
        while waiting and (waiting[0].settled or waiting[0].until <= now):
            errand = waiting.popleft()
            if not errand.settled:
                self._overdue(errand)
        self._timer = self._loop.call_at(waiting[0].until, self._look) if waiting else None

    # What follows belongs to the thread.

    def gather(self, patience: float | None = None) -> tuple[list[E], bool]:
        """Wait for an errand and take it, with all that wait already; False once there will be no more.

        After `patience` seconds there may be none.
        """
        come: list[E] = []
        is_open = True
        with contextlib.suppress(queue.Empty):
            errand = self._queue.get(timeout=patience)
            # Nobody else gathers: as many as are there now can be had without waiting.
            left = min(self._queue.qsize(), AT_ONCE - 1)
            while errand is not None:
                come.append(errand)
                if left == 0:
                    break
                left -= 1
                errand = self._queue.get_nowait()
            is_open = errand is not None
        with self._taking:
            for errand in come:
                errand.taken = not errand.withdrawn
        return [errand for errand in come if errand.taken], is_open

    def on_loop(self, call: Callable[..., None], *what: object) -> None:
        """Have the event loop call something."""
        # A loop that was closed without an end to this has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *what)
