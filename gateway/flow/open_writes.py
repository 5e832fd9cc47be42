"""Writes whose end is still to come: they are looked after until they end, and each end is recorded once."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.domain.appointment import Appointment, Write
from gateway.domain.grant import Customer, RouteKind
from gateway.domain.outcome import (
    Accepted,
    Applied,
    Outcome,
    TaskStatus,
    Unknown,
    collateral,
    is_final,
    read_back,
    repeatable,
)
from gateway.flow import records
from gateway.flow.arrears import Arrears
from gateway.flow.faults import report
from gateway.flow.orders import OpenWrite
from gateway.flow.ports import Journal, JournalUnavailable, Sighting, StateUnavailable, Upstream, UpstreamFault
from gateway.flow.store import Filed, Phase, Store
from gateway.flow.tasks import Task
from gateway.flow.traces import recall

FIRST_LOOK: Final = 0.5
LONGEST_PAUSE: Final = 60.0
"""Seconds before the first look at PKB after a write in doubt, and at most between two."""

LOOK_TIME: Final = 10.0
"""Seconds one look may take."""

PAY_PAUSE: Final = 1.0
"""Seconds between two tries to record an outcome that is owed."""

Told = dict[str, Any]
"""What a read adds to the record of the upstream."""


@dataclass(slots=True)
class OpenWrites:
    """The open writes that this process looks after. `clock` gives UTC, `sleep` waits for seconds.

    `ticks` gives seconds that only go forward, and at the same pace whatever the clock is set to.
    """

    upstream: Upstream
    journal: Journal
    store: Store
    arrears: Arrears
    customers: Callable[[], Mapping[str, Customer]]
    clock: Callable[[], datetime]
    settles_after: timedelta
    unresolved_after: timedelta
    accepted_after: timedelta
    """The same for what PKB accepted."""
    alarm: Callable[[str, records.Record], None]
    """Told of what PKB changed though nobody asked, with the outcome's record."""
    veil: records.Veil
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ticks: Callable[[], float] = time.monotonic
    _open: dict[str, OpenWrite] = field(default_factory=dict)
    _owed: Counter[str] = field(default_factory=Counter)
    _later: set[str] = field(default_factory=set)
    """Writes whose end the store is asked about again and again."""
    _asking: Counter[str] = field(default_factory=Counter)
    """How many ask the store at this moment whether they may record the end of a write."""
    _unsure: set[str] = field(default_factory=set)
    """Ends of which the store did not say whether it consented; whoever asked asks again."""
    _ours: set[str] = field(default_factory=set)
    """Ends that this process records, until the store knows that they are on record."""
    _on_record: set[str] = field(default_factory=set)
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    def __len__(self) -> int:
        """How many writes this process follows."""
        return len(self._open)

    @property
    def owed(self) -> int:
        """How many outcomes still wait for the audit stream."""
        return self._owed.total()

    def ages(self) -> Iterator[tuple[TaskStatus, float]]:
        """Tell of each write that this process follows how far it is, and how many seconds old."""
        for opened in self._open.values():
            yield opened.task.status, (opened.age + self._past(opened.since)).total_seconds()

    def minds(self, task: str) -> bool:
        """Whether this process is about to record the end of a write, or has and did not tell the store yet."""
        return self._asking[task] > 0 or task in self._unsure or task in self._ours

    @property
    def on_record(self) -> Collection[str]:
        """Give the ends that are on record, of which the store has still to be told."""
        return tuple(self._on_record)

    def confirmed(self, tasks: Collection[str]) -> None:
        """Take note that the store was told."""
        self._on_record.difference_update(tasks)
        self._ours.difference_update(tasks)

    async def settle(self, opened: OpenWrite, outcome: Outcome) -> Task:
        """Record the first outcome of a write; one that is not final is followed. Never raises."""
        opened = opened.told(outcome, self.clock())
        record = opened.outcome_record(outcome, recovered=False)
        self._warn(opened.upstream, record)
        if is_final(outcome):
            await self._end(opened.task, outcome, record)
            return opened.task
        trace = {**opened.task.trace, "sent_at": opened.sent_at.isoformat(), "accepted": opened.accepted}
        task = replace(opened.task, trace=trace | {"upstream": opened.upstream.as_record()})
        opened = replace(opened, task=task)
        self._open[task.id] = opened
        paying = await self._record(record, task.id, final=False)
        await self.arrears.tell(lambda: self.store.open(task))
        self._start(self._follow(opened, paying))
        return task

    async def follow(self, filed: Filed) -> None:
        """Look after a write that another process began and did not see end."""
        # A Task of the first releases tells too little to be followed; it waits for a person.
        if filed.task.id not in self._open and _can_be_recalled(filed.task):
            opened = self.recalled(filed.task)
            self._open[opened.task.id] = opened
            await self.arrears.tell(lambda: self.store.open(opened.task))
            self._start(self._follow(opened, None))

    async def conclude(self, task: Task, outcome: Outcome) -> None:
        """End a write of which a dead process left no end. Never raises."""
        ended, record = self.concluded(task, outcome)
        await self._end(ended, outcome, record)

    def concluded(self, task: Task, outcome: Outcome) -> tuple[Task, records.Record]:
        """Give the Task with that end, and the record of it."""
        opened = self.recalled(task).told(outcome, self.clock())
        return opened.task, opened.outcome_record(outcome, recovered=True)

    async def find_out(self, task: Task, deadline: float) -> Task:
        """Look at PKB now, and give the Task as it then is. Raises StateUnavailable."""
        if task.id not in self._open and not _can_be_recalled(task):
            return task
        opened = self._open.get(task.id) or self.recalled(task)
        outcome, seen = await self._look(opened, deadline)
        if not is_final(outcome):
            return task
        opened = replace(opened, upstream=replace(opened.upstream, **seen)).told(outcome, self.clock())
        record = opened.outcome_record(outcome, recovered=True)
        try:
            mine = await self._finish(opened.task, outcome, record)
        except StateUnavailable:
            self._owe(opened.task, outcome, record)
            raise
        if mine:
            self._warn(opened.upstream, record)
            self._open.pop(task.id, None)
            return opened.task
        filed = await self.store.find(task.id)
        return filed.task if filed else task

    def recalled(self, task: Task) -> OpenWrite:
        """Make a write out of what its Task remembers; one whose sending was never noted may be under way still."""
        trace = task.trace
        base = trace["record"]
        now = self.clock()
        sent_at = trace["sent_at"] or now.isoformat()
        command, before = recall(trace["sought"], self.veil, None)
        status = TaskStatus.IN_PROGRESS if task.status is TaskStatus.REQUESTED else task.status
        return OpenWrite(
            task=replace(task, status=status, trace={**trace, "sent_at": sent_at}),
            command=command,
            before=before,
            # Tasks of the first releases have both in the record only.
            intent=trace["intent"] if "intent" in trace else base["intent"],
            upstream=records.Upstream(**{**(trace.get("upstream") or base["upstream"]), "collateral": ()}),
            sent_at=datetime.fromisoformat(sent_at),
            accepted=trace["accepted"],
            record=dict(base),
            resumed=True,
            since=self.ticks(),
            age=max(timedelta(0), now - datetime.fromisoformat(sent_at)),
        )

    async def pay(self, record: records.Record, task: str) -> None:
        """Record an end that the store has told this process to record."""
        self._ours.add(task)
        await self._record({**record, "recovered": True}, task, final=True)

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

    async def _end(self, task: Task, outcome: Outcome, record: records.Record) -> None:
        """Record an end, or owe it where the store is silent."""
        try:
            await self._finish(task, outcome, record)
        except StateUnavailable:
            self._owe(task, outcome, record)

    def _owe(self, task: Task, outcome: Outcome, record: records.Record) -> None:
        if task.id in self._later:
            return
        self._later.add(task.id)
        self._owed[task.id] += 1
        self._start(self._end_later(task, outcome, {**record, "recovered": True}))

    async def _end_later(self, task: Task, outcome: Outcome, record: records.Record) -> None:
        while True:
            await self.sleep(PAY_PAUSE)
            with contextlib.suppress(StateUnavailable):
                await self._finish(task, outcome, record, owed=True)
                return

    async def _finish(self, task: Task, outcome: Outcome, record: records.Record, *, owed: bool = False) -> bool:
        """Record an end once the store has consented; False where it ended by somebody else.

        Raises StateUnavailable: then the store may have consented all the same, and whoever asked must ask again.
        """
        self._asking[task.id] += 1
        try:
            mine = await self._consent(task, outcome, record)
            self._unsure.discard(task.id)
            if mine:
                self._ours.add(task.id)
        except StateUnavailable:
            self._unsure.add(task.id)
            raise
        finally:
            # Before this one lets go of it another one of this process may have it: they are counted.
            _one_less(self._asking, task.id)
        if owed:
            self._later.discard(task.id)
            _one_less(self._owed, task.id)
        if mine:
            await self._record(record, task.id, final=True)
        return mine

    async def _consent(self, task: Task, outcome: Outcome, record: records.Record) -> bool:
        """Ask the store whether it is this process that records the end. Raises StateUnavailable."""
        try:
            return await self.store.end(task, record, self.journal.chain, free_key=repeatable(outcome))
        except StateUnavailable:
            raise
        except Exception as fault:
            report("the end of a write could not be claimed", fault)
            # Whoever cannot know that he is the only one must not record it.
            raise StateUnavailable("the store broke off") from fault

    async def _record(self, record: records.Record, task: str, *, final: bool) -> asyncio.Task[None] | None:
        """Record an outcome, or owe it; the answer is who pays."""
        if not await self._recorded(record):
            # What happened has happened. The partner is told the truth and the record is owed; until it is paid
            # no new write begins.
            self._owed[task] += 1
            await self.arrears.tell(self.store.secure)
            return self._start(self._pay({**record, "recovered": True}, task, final=final))
        if final:
            self._on_record.add(task)
        return None

    async def _recorded(self, record: records.Record) -> bool:
        try:
            await self.journal.write(record, essential=True)
        except JournalUnavailable:
            return False
        except Exception as fault:  # noqa: BLE001 - an outcome that no chain can hold is owed for good, and heard of
            report("an outcome could not be recorded", fault)
            return False
        return True

    async def _pay(self, record: records.Record, task: str, *, final: bool) -> None:
        await self.sleep(PAY_PAUSE)
        # The end of a write makes an earlier word of it needless.
        while (final or task not in self._ours) and not await self._recorded(record):
            await self.sleep(PAY_PAUSE)
        _one_less(self._owed, task)
        if final:
            self._on_record.add(task)

    async def _follow(self, opened: OpenWrite, paying: asyncio.Task[None] | None) -> None:
        if paying is not None:
            # The end of a write is not recorded before its beginning.
            await paying
        pause = FIRST_LOOK
        while True:
            await self.sleep(pause)
            if opened.task.id not in self._open:
                return
            pause = min(2 * pause, LONGEST_PAUSE)
            if await self._try_to_end(opened):
                self._open.pop(opened.task.id, None)
                return

    async def _try_to_end(self, opened: OpenWrite) -> bool:
        """Look once; True when the write has ended, by this look or by somebody else."""
        outcome, seen = await self._look(opened, asyncio.get_running_loop().time() + LOOK_TIME)
        limit = self.accepted_after if opened.accepted else self.unresolved_after
        closed = opened.age + self._past(opened.since) >= limit and not is_final(outcome)
        if closed:
            # What PKB took and no read ever showed is closed as unknown: to call it done would be a guess.
            outcome = Unknown()
        try:
            if not (is_final(outcome) or closed):
                return await self._ended_elsewhere(opened.task.id)
            opened = replace(opened, upstream=replace(opened.upstream, **seen))
            opened = opened.told(outcome, self.clock(), closed=closed)
            record = opened.outcome_record(outcome, recovered=True, closed=closed)
            if await self._finish(opened.task, outcome, record):
                self._warn(opened.upstream, record)
        except StateUnavailable:
            return False
        return True

    async def _ended_elsewhere(self, task: str) -> bool:
        try:
            filed = await self.store.find(task)
        except StateUnavailable:
            raise
        except Exception as fault:  # noqa: BLE001 - the next look may do better
            report("a look for writes that ended elsewhere broke off", fault)
            return False
        return filed is not None and filed.phase is Phase.ENDED

    async def _look(self, opened: OpenWrite, deadline: float) -> tuple[Outcome, Told]:
        still: Outcome = Accepted() if opened.accepted else Unknown()
        customer = self.customers().get(opened.task.customer)
        # Where a customer is reached by another route by now, nothing there proves anything.
        if customer is None or customer.route.name != opened.upstream.route:
            return still, {}
        try:
            sighting = await self.upstream.read(customer, opened.before.id, deadline, fresh=True)
        except UpstreamFault:
            return still, {}
        except Exception as fault:  # noqa: BLE001 - a look that broke shows nothing; the next one may
            report("a look at an open write broke off", fault)
            return still, {}
        command, before = opened.command, opened.before
        if opened.resumed and sighting is not None:
            command, before = recall(opened.task.trace["sought"], self.veil, sighting.appointment)
        outcome, told = self.judge(customer, command, before, sighting, opened.since)
        return (still if isinstance(outcome, Unknown) else outcome), told

    def judge(
        self, customer: Customer, command: Write, before: Appointment, after: Sighting | None, since: float
    ) -> tuple[Outcome, Told]:
        """Say what a read after a write proves, and what of it belongs on record.

        `since`, in ticks: when this process sent it or took it up.
        """
        seen = after.appointment if after else None
        # An HL7 message may wait in PKB's review queue for days: that nothing happened yet proves nothing.
        is_message = customer.route.kind is RouteKind.HL7
        now = self.clock()
        settled_at = None if is_message else now + self.settles_after - self._past(since)
        outcome = read_back(command, before, seen, now, settled_at)
        told: Told = {"version_after": seen.version if seen else None}
        if is_message and seen is not None and isinstance(outcome, Applied):
            told["collateral"] = collateral(before, seen)
        return outcome, told

    def _past(self, since: float) -> timedelta:
        return timedelta(seconds=self.ticks() - since)

    def _warn(self, upstream: records.Upstream, record: records.Record) -> None:
        if not upstream.collateral:
            return
        try:
            self.alarm("collateral", record)
        except Exception as fault:  # noqa: BLE001 - whatever it is, the outcome is recorded
            report("an alarm failed", fault)


def _can_be_recalled(task: Task) -> bool:
    return {"record", "sought"} <= task.trace.keys()


def _one_less(counted: Counter[str], name: str) -> None:
    counted[name] -= 1
    if counted[name] <= 0:
        del counted[name]
