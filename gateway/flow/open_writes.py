"""Writes whose end is still to come: they hold their appointment, and are looked after until they end."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.domain.appointment import Appointment, Write
from gateway.domain.grant import Customer, RouteKind
from gateway.domain.outcome import (
    Accepted,
    Applied,
    Outcome,
    Unknown,
    collateral,
    is_final,
    read_back,
    task_status,
    word,
)
from gateway.flow import records
from gateway.flow.faults import report
from gateway.flow.ports import Journal, JournalUnavailable, Sighting, StateUnavailable, Upstream, UpstreamFault
from gateway.flow.tasks import Task, Tasks, keep
from gateway.flow.traces import recall, trace_of
from gateway.flow.turns import Key

FIRST_LOOK: Final = 0.5
LONGEST_PAUSE: Final = 60.0
"""Seconds before the first look at PKB after a write in doubt, and at most between two."""

LOOK_TIME: Final = 10.0
"""Seconds one look may take."""

PAY_PAUSE: Final = 1.0
"""Seconds between two tries to record an outcome that is owed."""

WATCH_PAUSE: Final = 3.0
"""Seconds between two looks for writes that a person ended."""

REPEATED: Final = ("request_id", "correlation_id", "grant", "grants_digest", "intent", "upstream")
"""Fields of an outcome's record that are kept with its Task, for whoever records the end in another process."""

Told = dict[str, Any]
"""What a read adds to the record of the upstream."""


@dataclass(frozen=True, slots=True)
class OpenWrite:
    """A write that was sent, with all that its later records repeat."""

    keys: tuple[Key, ...]
    customer: Customer
    command: Write
    before: Appointment
    intent: int
    sent_at: datetime
    """When the attempt to send it ended; what PKB had taken in by then may still be under way."""
    accepted: bool
    """Whether PKB said that it took the message; then it may be held for review, and is waited for much longer."""
    record: records.Record
    """The outcome record as first written."""
    upstream: records.Upstream
    task: Task
    resumed: bool = False
    """Whether another process sent it; then only its Task's trace tells what was wanted."""


@dataclass(slots=True)
class OpenWrites:
    """The open writes of one process. `clock` gives UTC, `sleep` waits for seconds."""

    upstream: Upstream
    journal: Journal
    tasks: Tasks
    clock: Callable[[], datetime]
    settles_after: timedelta
    unresolved_after: timedelta
    accepted_after: timedelta
    """The same for what PKB accepted."""
    alarm: Callable[[str, records.Record], None]
    """Told of what PKB changed though nobody asked, with the outcome's record."""
    veil: records.Veil
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _open: dict[Key, OpenWrite] = field(default_factory=dict)
    _owed: int = 0
    _running: set[asyncio.Task[None]] = field(default_factory=set)
    _watcher: asyncio.Task[None] | None = None

    def hold(self, keys: tuple[Key, ...]) -> bool:
        """Whether an appointment is held, under any of its names, by a write that has not ended."""
        return any(key in self._open for key in keys)

    def held(self) -> frozenset[Key]:
        """Name all that is held now."""
        return frozenset(self._open)

    def __len__(self) -> int:
        """How many writes have not ended."""
        return len({opened.task.id for opened in self._open.values()})

    @property
    def owed(self) -> int:
        """How many outcomes still wait for the audit stream."""
        return self._owed

    def task_of(self, keys: tuple[Key, ...], partner: str, customer: str) -> str | None:
        """Name the Task that holds an appointment, to the partner who caused it at this customer and to no other."""
        opened = next((self._open[key] for key in keys if key in self._open), None)
        if opened is None or (opened.task.partner, opened.task.customer) != (partner, customer):
            return None
        return opened.task.id

    async def settle(self, opened: OpenWrite, outcome: Outcome) -> None:
        """Record an outcome; one that is not final keeps its appointment and is followed."""
        if not is_final(outcome):
            repeated = {name: opened.record[name] for name in REPEATED}
            opened = replace(opened, task=replace(opened.task, repeated=repeated, trace=self._trace(opened)))
            self._open |= dict.fromkeys(opened.keys, opened)
        self._warn(opened.upstream, opened.record)
        paying = await self._record(opened.record)
        await keep(self.tasks, opened.task)
        if not is_final(outcome):
            self._attend(opened, paying)

    def resume(self, task: Task, customer: Customer) -> bool:
        """Hold and follow a write that another process sent and did not see end; False where that cannot be.

        A customer that is reached by another route by now is one of those: nothing there proves anything.
        """
        trace = task.trace
        if not trace or trace["route"] != customer.route.name:
            return False
        command, before = recall(trace["sought"], self.veil, None)
        opened = OpenWrite(
            keys=tuple((customer.route.name, name) for name in trace["names"]),
            customer=customer,
            command=command,
            before=before,
            intent=trace["record"]["intent"],
            sent_at=datetime.fromisoformat(trace["sent_at"]),
            accepted=trace["accepted"],
            record=dict(trace["record"]),
            upstream=records.Upstream(**{**trace["record"]["upstream"], "collateral": ()}),
            task=task,
            resumed=True,
        )
        self._open |= dict.fromkeys(opened.keys, opened)
        self._attend(opened, None)
        return True

    def _attend(self, opened: OpenWrite, paying: asyncio.Task[None] | None) -> None:
        if self._watcher is None:
            self._watcher = self._start(self._watch())
        self._start(self._follow(opened, paying))

    def _trace(self, opened: OpenWrite) -> Mapping[str, object]:
        return {
            "route": opened.customer.route.name,
            "names": [name for _, name in opened.keys],
            "sent_at": opened.sent_at.isoformat(),
            "accepted": opened.accepted,
            "record": opened.record,
            "sought": trace_of(opened.command, opened.before, self.veil),
        }

    async def close(self) -> None:
        """Stop looking; what is open stays open in the audit stream."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self, story: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(story)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _record(self, record: records.Record) -> asyncio.Task[None] | None:
        """Record an outcome, or owe it; the answer is who pays."""
        if await self._recorded(record):
            return None
        # What happened has happened. The partner is told the truth and the record is owed; until it is paid
        # no new write begins.
        self._owed += 1
        return self._start(self._pay({**record, "recovered": True}))

    async def _recorded(self, record: records.Record) -> bool:
        try:
            await self.journal.write(record, essential=True)
        except JournalUnavailable:
            return False
        except Exception as fault:  # noqa: BLE001 - an outcome that no chain can hold is owed for good, and heard of
            report("an outcome could not be recorded", fault)
            return False
        return True

    async def _pay(self, record: records.Record) -> None:
        await self.sleep(PAY_PAUSE)
        while not await self._recorded(record):
            await self.sleep(PAY_PAUSE)
        self._owed -= 1

    async def _follow(self, opened: OpenWrite, paying: asyncio.Task[None] | None) -> None:
        if paying is not None:
            # The end of a write is not recorded before its beginning.
            await paying
        pause = FIRST_LOOK
        while True:
            await self.sleep(pause)
            if not self._holds(opened):
                return
            pause = min(2 * pause, LONGEST_PAUSE)
            outcome, seen = await self._look(opened)
            limit = self.accepted_after if opened.accepted else self.unresolved_after
            expired = self.clock() - opened.sent_at >= limit
            if expired and not is_final(outcome):
                # What PKB took and no read ever showed is closed as unknown: to call it done would be a guess.
                outcome = Unknown()
            if (is_final(outcome) or expired) and await self._end(opened, outcome, seen, closed=expired):
                return

    async def _look(self, opened: OpenWrite) -> tuple[Outcome, Told]:
        deadline = asyncio.get_running_loop().time() + LOOK_TIME
        still: Outcome = Accepted() if opened.accepted else Unknown()
        try:
            sighting = await self.upstream.read(opened.customer, opened.before.id, deadline, fresh=True)
        except UpstreamFault:
            return still, {}
        except Exception as fault:  # noqa: BLE001 - a look that broke shows nothing; the next one may
            report("a look at an open write broke off", fault)
            return still, {}
        command, before = opened.command, opened.before
        if opened.resumed and sighting is not None:
            command, before = recall(opened.task.trace["sought"], self.veil, sighting.appointment)
        outcome, told = self.judge(opened.customer, command, before, sighting, opened.sent_at)
        return (still if isinstance(outcome, Unknown) else outcome), told

    def judge(
        self, customer: Customer, command: Write, before: Appointment, after: Sighting | None, sent_at: datetime
    ) -> tuple[Outcome, Told]:
        """Say what a read after a write proves, and what of it belongs on record."""
        seen = after.appointment if after else None
        # An HL7 message may wait in PKB's review queue for days: that nothing happened yet proves nothing.
        is_message = customer.route.kind is RouteKind.HL7
        settled_at = None if is_message else sent_at + self.settles_after
        outcome = read_back(command, before, seen, self.clock(), settled_at)
        told: Told = {"version_after": seen.version if seen else None}
        if is_message and seen is not None and isinstance(outcome, Applied):
            told["collateral"] = collateral(before, seen)
        return outcome, told

    def _warn(self, upstream: records.Upstream, record: records.Record) -> None:
        if not upstream.collateral:
            return
        try:
            self.alarm("collateral", record)
        except Exception as fault:  # noqa: BLE001 - whatever it is, the outcome is recorded
            report("an alarm failed", fault)

    async def _end(self, opened: OpenWrite, outcome: Outcome, seen: Told, *, closed: bool) -> bool:
        """Record the end of a write, unless somebody else has claimed to do it or nobody can tell."""
        task = replace(
            opened.task,
            status=task_status(outcome, closed=closed),
            outcome=word(outcome),
            code=records.outcome_code(outcome),
            version=outcome.version if isinstance(outcome, Applied) else None,
            updated=self.clock(),
        )
        if not await self._claimed(task):
            return False
        upstream = replace(opened.upstream, **seen)
        told = records.ended(outcome, opened.intent, opened.task.id, upstream, recovered=True, closed=closed)
        record = {**opened.record, **told}
        self._warn(upstream, record)
        paying = await self._record(record)
        if paying is not None:
            # Until its end is on record a Task stays open in the state file, where a person finds it should we die.
            await paying
        await self._let_go(opened, task)
        return True

    async def _claimed(self, task: Task) -> bool:
        try:
            return await self.tasks.claim(task)
        except StateUnavailable:
            return False
        except Exception as fault:  # noqa: BLE001 - whoever cannot know that he is the only one must not end it
            report("the end of an open write could not be claimed", fault)
            return False

    async def _let_go(self, ended: OpenWrite, task: Task) -> None:
        await keep(self.tasks, task)
        self._open = {key: opened for key, opened in self._open.items() if opened is not ended}
        if not self._open and self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    def _holds(self, opened: OpenWrite) -> bool:
        return self._open.get(opened.keys[0]) is opened

    async def _watch(self) -> None:
        """Let go of what a person ended: its end is on record already, and only this process does not know."""
        while True:
            await self.sleep(WATCH_PAUSE)
            held = {opened.task.id: opened for opened in self._open.values()}
            for task in await self._ended_among(held):
                if self._holds(held[task.id]):
                    await self._let_go(held[task.id], task)

    async def _ended_among(self, tasks: Iterable[str]) -> Sequence[Task]:
        try:
            return await self.tasks.ended(tasks)
        except StateUnavailable:
            return ()
        except Exception as fault:  # noqa: BLE001 - the next look may do better
            report("a look for writes that a person ended broke off", fault)
            return ()
