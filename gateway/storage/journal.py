"""The audit journal: many callers, one thread, one fsync for all who wait at the same time."""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from gateway.domain.chain import Record, canonical
from gateway.domain.grant import Rate
from gateway.flow.ports import JournalUnavailable
from gateway.storage.errands import Errand, Errands
from gateway.storage.journal_budget import Budget
from gateway.storage.journal_chain import ChainSettings, ChainWriter, Clock, Committed, Draft, Platform, Signer
from gateway.storage.journal_files import Head, prepare
from gateway.storage.journal_records import checked, stamp

Listener = Callable[[tuple[bytes, ...]], None]
Alarm = Callable[[str | None], None]
Watch = Callable[[float, int], None]
"""Hears how many seconds a batch took, and how many records it had. Called in the journal's own thread."""

_PROCESS: Final = Rate(20, 1)
_CLIENT: Final = Rate(5, 1)
_NOTES: Final = 1_000
"""Notes held while the disk is away; what comes after is counted only."""
_ANSWERS: Final = frozenset({"read", "search", "refused", "token-issued", "authentication-refused"})
"""Records of answers that changed nothing. One that got no answer in the end does no harm on record."""
_LOW: Final = "the reserve of the disk is reached"
_SILENT: Final = "the audit stream cannot be written: the disk does not answer"


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """`reserve`: bytes of the disk that only essential records may use. Rates bind unauthenticated refusals."""

    chain: ChainSettings
    reserve: int = 64 * 1024 * 1024
    process: Rate = _PROCESS
    client: Rate = _CLIENT
    suppressed_seconds: float = 10.0
    look: float = 0.1
    """Seconds between looks at the room on the disk while it is written to: too few to fill the reserve."""
    patience: float = 1.0
    """Seconds between looks at the clock, the disk and the reserve while nothing is written."""
    wait: float = 8.0
    """Seconds that a caller waits for a slow disk."""


class _Entry(Errand):
    """A record on its way; a note has no waiter."""

    __slots__ = ("draft", "essential")

    def __init__(self, draft: Draft, waiter: asyncio.Future[Any] | None, *, essential: bool) -> None:
        super().__init__(waiter)
        self.draft = draft
        self.essential = essential


class Journal:
    """The audit stream of one process. All methods belong to the event loop that opened it.

    A record's number, `seq`, counts from 1. After a fault the journal tries again with the next record, and
    once a second by itself: a gateway that reports itself unready is sent no requests that could wake it.
    A disk that is slow makes callers wait, but not for longer than they can bear; one that does not answer at
    all is no different from one that is full, but for the records it has in hand.
    """

    def __init__(self, settings: JournalSettings, clock: Clock, writer: ChainWriter, platform: Platform) -> None:
        self._settings = settings
        self._clock = clock
        self._writer = writer
        self._platform = platform
        self._loop = asyncio.get_running_loop()
        self._entries: Errands[_Entry] = Errands(self._give_up)
        self._notes: list[_Entry] = []
        self._trouble: str | None = None
        self._low = False
        self._looked = -math.inf
        self._busy_since: float | None = None
        self._closed = False
        self._alarm: Alarm | None = None
        self._watch: Watch = lambda _seconds, _records: None
        self._told: str | None = None
        self._listeners: list[Listener] = []
        self._budget = Budget(settings.process, settings.client)
        self._summary: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._run, name="audit-journal", daemon=True)

    @classmethod
    async def open(
        cls,
        settings: JournalSettings,
        *,
        clock: Clock,
        signer: Signer | None = None,
        platform: Platform | None = None,
        listener: Listener | None = None,
        alarm: Alarm | None = None,
        watch: Watch = lambda _seconds, _records: None,
    ) -> Self:
        """Start a chain; its start record is durable on return. Raises JournalUnavailable.

        `alarm` is told of every change of `trouble`, `watch` of every batch that is durable.
        """
        platform = platform or Platform()
        writer = ChainWriter(settings.chain, clock, signer, platform)
        try:
            begun = await asyncio.to_thread(writer.begin)
        except OSError as error:
            raise JournalUnavailable(_reason(error)) from error
        journal = cls(settings, clock, writer, platform)
        journal._alarm = alarm
        journal._watch = watch
        if listener is not None:
            journal.listen(listener)
            listener(begun.lines)
        journal._thread.start()
        return journal

    @property
    def trouble(self) -> str | None:
        """Why records are refused; None while they are taken."""
        if self._closed:
            return "closed"
        return (_SILENT if self._is_silent else None) or self._trouble or (_LOW if self._low else None)

    @property
    def healthy(self) -> bool:
        """Whether any record would be taken."""
        return self.trouble is None

    @property
    def head(self) -> Head:
        """The last durable record: chain, seq, hash."""
        return self._writer.head

    @property
    def chain(self) -> str:
        """The chain that is written now: another one after its file was removed."""
        return self._writer.head.chain

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with the lines of every batch once they are durable; the answer ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def write(self, record: Mapping[str, object], *, essential: bool = False) -> int:
        """Put a record into the chain; its seq comes back once it would survive a power cut.

        `essential` records may use the reserve. Raises JournalUnavailable, and ValueError for a record
        that the chain cannot hold. What was refused is not in the chain and will not be; only an answer that
        changed nothing (a read, a refusal) may turn up there later, when the disk was too slow for its caller.
        """
        told = checked(record)
        if not essential and self._is_silent:
            raise JournalUnavailable(_SILENT)
        waiter: asyncio.Future[int] = self._loop.create_future()
        self._hand_in(told, waiter, essential=essential)
        return await waiter

    def note(self, record: Mapping[str, object]) -> None:
        """Put a record into the chain without waiting for the disk. Raises ValueError as `write` does."""
        noted = checked(record)
        canonical(noted)
        with contextlib.suppress(JournalUnavailable):
            self._hand_in(noted, None, essential=False)

    def refused_unauthenticated(self, record: Mapping[str, object], client_address: str) -> None:
        """Note a refusal of somebody unknown, or only count it when there are too many of them."""
        waiting = len(self._notes) + len(self._entries)
        if waiting < _NOTES and self._budget.admits(client_address, self._loop.time()):
            self.note(record)
            return
        self._only_count(record, client_address)

    async def close(self) -> None:
        """Write what is still waiting and the stop record. What cannot be written is left; `trouble` tells."""
        if not self._closed:
            self._sum_up()
            self._closed = True
            self._entries.close()
        await asyncio.to_thread(self._thread.join)

    def _hand_in(self, record: Record, waiter: asyncio.Future[int] | None, *, essential: bool) -> None:
        if self._closed:
            raise JournalUnavailable("the audit journal is closed")
        entry = _Entry(Draft(record, stamp(self._clock())), waiter, essential=essential)
        self._entries.hand_in(entry, self._settings.wait)

    @property
    def _is_silent(self) -> bool:
        since = self._busy_since
        return since is not None and time.monotonic() - since >= self._settings.wait

    def _give_up(self, entry: _Entry) -> None:
        """Let a caller go for whom the disk is too slow; what is being written and matters is waited for."""
        self._mention()
        if self._entries.withdraw(entry) or entry.draft.record["event"] in _ANSWERS:
            self._entries.settle([(entry, JournalUnavailable(_SILENT))])

    def _mention(self) -> None:
        trouble = self.trouble
        if self._alarm is not None and trouble != self._told and not self._closed:
            self._told = trouble
            self._alarm(trouble)

    def _only_count(self, record: Mapping[str, object], client_address: str) -> None:
        counts = record.get("counts")
        if isinstance(counts, list):
            self._budget.restore(counts)
        else:
            self._budget.suppress(str(record.get("code")), client_address)
        if self._summary is None and not self._closed:
            self._summary = self._loop.call_later(self._settings.suppressed_seconds, self._sum_up)

    def _sum_up(self) -> None:
        if self._summary is not None:
            self._summary.cancel()
            self._summary = None
        counts = self._budget.take()
        if counts:
            self.note({"event": "suppressed", "counts": counts})

    # What follows runs in the journal's own thread.

    def _run(self) -> None:
        open_for_more = True
        while open_for_more:
            batch, open_for_more = self._entries.gather(self._settings.patience)
            self._busy_since = time.monotonic()
            self._take(batch)
            self._busy_since = None
            if self.trouble != self._told:
                self._entries.on_loop(self._mention)
        try:
            self._tell([], self._writer.end())
        except OSError as error:
            self._trouble = _reason(error)
            self._writer.abandon()

    def _take(self, batch: Sequence[_Entry]) -> None:
        entries = [*self._notes, *batch]
        try:
            self._look()
            held = [entry for entry in entries if self._low and not entry.essential]
            taken = [entry for entry in entries if not (self._low and not entry.essential)]
            began = time.perf_counter()
            done = self._writer.commit([entry.draft for entry in taken]) if taken or self._trouble else None
            if taken:
                self._watched(time.perf_counter() - began, len(taken))
            if done is None and self._writer.checkpoint_due:
                done = self._writer.sign()
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            self._trouble = _reason(error)
            self._refuse(entries, self._trouble)
            return
        self._trouble = None
        self._refuse(held, _LOW)
        if done is not None:
            self._tell(taken, done)

    def _look(self) -> None:
        now = time.monotonic()
        if self._trouble is None and not self._low and now - self._looked < self._settings.look:
            return
        prepare(self._settings.chain.directory)
        self._low = self._platform.free_bytes(self._settings.chain.directory) < self._settings.reserve
        self._looked = now

    def _watched(self, seconds: float, records: int) -> None:
        # What is durable must not come to be refused because somebody could not count it.
        with contextlib.suppress(Exception):
            self._watch(seconds, records)

    def _refuse(self, entries: Sequence[_Entry], reason: str) -> None:
        """Turn callers away; notes, which nobody waits for, are kept for the next try, or at least counted."""
        notes = [entry for entry in entries if entry.waiter is None]
        self._notes, lost = notes[:_NOTES], notes[_NOTES:]
        if entries:
            self._entries.on_loop(self._tell_refused, entries, reason, lost)

    def _tell(self, entries: Sequence[_Entry], done: Committed) -> None:
        self._entries.on_loop(self._tell_done, entries, done)

    # And this is what it has the event loop do.

    def _tell_refused(self, entries: Sequence[_Entry], reason: str, lost: Sequence[_Entry]) -> None:
        self._entries.settle([(entry, JournalUnavailable(reason)) for entry in entries])
        for entry in lost:
            self._only_count(entry.draft.record, str(entry.draft.record.get("client")))

    def _tell_done(self, entries: Sequence[_Entry], done: Committed) -> None:
        self._entries.settle(list(zip(entries, done.results, strict=False)))
        for listener in tuple(self._listeners):
            listener(done.lines)


def _reason(error: Exception) -> str:
    """Say what failed in the words of the operating system, without paths."""
    if isinstance(error, OSError) and error.strerror:
        return f"the audit stream cannot be written: {error.strerror}"
    return f"the audit stream cannot be written: {type(error).__name__}"
