"""Live records for everybody who watches: one follower for all, which runs only while somebody does.

Nobody's slowness costs more than a bounded queue: who does not keep up is let go, with a word.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import structlog
from multidict import MultiMapping

Record = Mapping[str, Any]
Wanted = Callable[[Record], bool]

FILTERS: Final = ("partner", "customer", "operation", "decision", "code", "event")
"""The fields of a record that a viewer may ask for."""

PAUSE: Final = 0.2
"""Seconds between two looks at the audit folder."""
WAITING: Final = 500
"""Records that wait for one viewer, at most."""
VIEWERS: Final = 64

_log = structlog.get_logger("pkb_gateway")


@dataclass(frozen=True, slots=True)
class Filter:
    """What a viewer wants to see: for each field the values that will do."""

    fields: Mapping[str, frozenset[str]] = field(default_factory=dict)
    quiet: frozenset[str] = frozenset()
    """Events that are left out."""

    @classmethod
    def read(cls, query: MultiMapping[str]) -> "Filter":
        """Take it from a query. Fields left empty do not count."""
        given = {name: frozenset(filter(None, query.getall(name, ()))) for name in FILTERS}
        return cls({name: values for name, values in given.items() if values})

    def __call__(self, record: Record) -> bool:
        """Whether a record is wanted."""
        return record.get("event") not in self.quiet and all(
            record.get(name) in values for name, values in self.fields.items()
        )


class News(Protocol):
    """What came since the last look."""

    @property
    def records(self) -> Sequence[Record]:
        """Whole records in the order of their times."""
        ...

    @property
    def passed_over(self) -> int:
        """Bytes that came too fast to be looked at."""
        ...


class Source(Protocol):
    """An audit folder as it grows; used by one thread at a time. Methods raise OSError."""

    def begin(self) -> None:
        """Take what is there now for known."""
        ...

    def news(self) -> News:
        """Give what is new."""
        ...


class Full(Exception):
    """As many watch as may."""


@dataclass(slots=True, eq=False)
class Viewer:
    """One who watches."""

    wanted: Wanted
    waiting: asyncio.Queue[Record | None] = field(default_factory=lambda: asyncio.Queue(WAITING))
    """None: there is a word for the viewer, or nothing more comes."""
    lost: bool = False
    """It did not keep up, and nothing more is put into its queue."""
    over: bool = False
    """The gateway stops."""

    def offer(self, records: Sequence[Record]) -> None:
        """Put what is wanted into the queue, as long as there is room."""
        try:
            for record in records:
                if self.wanted(record):
                    self.waiting.put_nowait(record)
        except asyncio.QueueFull:
            self.lost = True

    def lose(self) -> None:
        """Tell it that it did not see everything."""
        self.lost = True
        self._wake()

    def end(self) -> None:
        """Tell it that nothing more comes."""
        self.over = True
        self._wake()

    def _wake(self) -> None:
        if not self.waiting.full():
            self.waiting.put_nowait(None)


class Feed:
    """Everybody who watches this process's view of the audit folder."""

    def __init__(self, source: Callable[[], Source], pause: float | None = None) -> None:
        self._source = source
        self._pause = PAUSE if pause is None else pause
        self._viewers: set[Viewer] = set()
        self._following: asyncio.Task[None] | None = None
        self._began = asyncio.Event()
        self._closed = False

    @property
    def viewers(self) -> int:
        """How many watch."""
        return len(self._viewers)

    @property
    def running(self) -> bool:
        """Whether the audit folder is being looked at."""
        return self._following is not None

    @asynccontextmanager
    async def watching(self, wanted: Wanted) -> AsyncIterator[Viewer]:
        """Watch for as long as the caller likes, from now on. Raises Full."""
        if len(self._viewers) >= VIEWERS or self._closed:
            raise Full
        viewer = Viewer(wanted)
        self._viewers.add(viewer)
        if self._following is None:
            self._began = asyncio.Event()
            self._following = asyncio.create_task(self._follow(self._began))
        try:
            # What is written after this moment is seen: by who came first, and by who comes later.
            await self._began.wait()
            yield viewer
        finally:
            self._viewers.discard(viewer)
            if not self._viewers and self._following is not None:
                self._following.cancel()
                self._following = None

    async def close(self) -> None:
        """Let everybody go; nobody may come any more."""
        self._closed = True
        for viewer in self._viewers:
            viewer.end()

    async def _follow(self, began: asyncio.Event) -> None:
        # A thread of its own: a pool that is busy with disk writes must not hold up what people watch.
        thread = ThreadPoolExecutor(1, "console")
        loop = asyncio.get_running_loop()
        source = self._source()
        try:
            while True:
                try:
                    if not began.is_set():
                        await loop.run_in_executor(thread, source.begin)
                        began.set()
                    self._tell(await loop.run_in_executor(thread, source.news))
                except OSError as error:
                    _log.warning("audit folder not followed", reason=error.strerror)
                    began.set()
                await asyncio.sleep(self._pause)
        finally:
            thread.shutdown(wait=False)

    def _tell(self, news: News) -> None:
        for viewer in self._viewers:
            if news.passed_over:
                viewer.lose()
            if not viewer.lost:
                viewer.offer(news.records)
