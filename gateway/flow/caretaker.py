"""Writes that a dead process left behind, here or elsewhere, come to their end: one, and on record.

Before the ports open, and every few seconds after.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gateway.domain.codes import Code
from gateway.domain.grant import Operation
from gateway.domain.outcome import Accepted, Applied, Outcome, Rejected, TaskStatus, Unknown, repeatable, task_status
from gateway.flow import records
from gateway.flow.chains import Chains, Told
from gateway.flow.faults import report
from gateway.flow.open_writes import OpenWrites
from gateway.flow.ports import Journal, JournalUnavailable, StateUnavailable
from gateway.flow.store import LEASE_SECONDS, Filed, Phase, Store
from gateway.flow.tasks import Task
from gateway.flow.traces import trace_of_record

ROUND_SECONDS: Final = 2.0
"""Between two rounds: three of them fit into a lease."""
_CODES: Final = frozenset(Code)


@dataclass(slots=True)
class Caretaker:
    """Says that this node lives, and takes over from those that do not. `sleep` waits for seconds."""

    store: Store
    journal: Journal
    chains: Chains
    open_writes: OpenWrites
    notice: Callable[[str, Mapping[str, object]], None]
    """Told of what was taken over, in ids only."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _leased_until: float = 0.0
    _deaths: int = 0
    """How often this node was taken for dead."""
    _adopted: dict[str, Filed] = field(default_factory=dict)
    """Writes that are ours to look after, until that has begun."""

    def pass_for_now(self) -> Callable[[], bool]:
        """Give a pass for one write: good while no other node can have taken this one for dead since it was given.

        By the clock of this machine, which stands still while the machine is suspended.
        """
        given = self._deaths
        return lambda: self._deaths == given and asyncio.get_running_loop().time() < self._leased_until

    async def begin(self) -> None:
        """Take up what was left, before anything new can touch it. Raises StateUnavailable, JournalUnavailable."""
        await self._renew()
        living = asyncio.create_task(self._again_and_again(self._renew))
        try:
            for intent in await self.chains.open_intents():
                await self._take_up(intent)
            await self._round()
        finally:
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)

    async def run(self) -> None:
        """Go on until cancelled. While a long chain is read, this node goes on saying that it lives."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._again_and_again(self._renew))
            both.create_task(self._again_and_again(self._round))

    async def _again_and_again(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it every few seconds; what fails is tried again."""
        while True:
            await self.sleep(ROUND_SECONDS)
            try:
                await work()
            except (StateUnavailable, JournalUnavailable):
                continue
            except Exception as fault:  # noqa: BLE001 - whatever it is, this node must go on saying that it lives
                report("a round of the caretaker broke off", fault)

    async def _renew(self) -> None:
        asked_at = asyncio.get_running_loop().time()
        if not await self.store.renew(self.journal.chain):
            self._deaths += 1
            self.notice("taken for dead", {"chain": self.journal.chain})
        # Counted from before the question: the store may have answered it at once, and the answer come late.
        self._leased_until = asked_at + LEASE_SECONDS

    async def _round(self) -> None:
        await self.tell_ends()
        peers = await self.store.peers()
        died = [chain for chain in peers if self.chains.is_dead(chain)]
        for filed in await self.store.adopt(died):
            self.notice("open write", {"task": filed.task.id, "appointment": filed.task.appointment, "of": filed.chain})
            self._adopted[filed.task.id] = filed
        for filed in tuple(self._adopted.values()):
            await _by_itself(self._adopt(filed))
            del self._adopted[filed.task.id]
        # What the living owe is theirs to record. With a worker under load that is hundreds of writes at a time.
        living = set(peers).difference(died, [self.journal.chain])
        for filed in await self.store.owing(living):
            if not self.open_writes.minds(filed.task.id):
                await _by_itself(self._settle(filed))

    async def tell_ends(self) -> None:
        """Tell the store which ends are on record. Raises StateUnavailable."""
        known = self.open_writes.on_record
        if known:
            await self.store.recorded(known)
            self.open_writes.confirmed(known)

    async def _adopt(self, filed: Filed) -> None:
        """Bring a write of a dead node to its end. What its chain tells counts for more than what the store does."""
        task = filed.task
        told = await self.chains.told(filed.chain, task.id)
        if told is not None and told.ended:
            outcome = _end_told(told)
            ended = _ended(task, told, outcome)
            if await self.store.end(ended, {}, filed.chain, free_key=repeatable(outcome)):
                await self.store.recorded([task.id])
        elif filed.phase is not Phase.HELD:
            accepted = told is not None and told.outcome == "accepted"
            await self.open_writes.follow(_traced(filed, accepted=accepted) if accepted else filed)
        elif told is None:
            # Nothing was sent. Whether the intent is on record only that chain tells, to whoever gets to see it.
            ended, record = self.open_writes.concluded(task, Rejected(Code.STATE_UNAVAILABLE))
            await self.store.end(ended, record, filed.chain, free_key=True)
        elif told.intent is None:
            await self.store.drop(task.id)
        else:
            intended = replace(task, trace={**task.trace, "intent": told.intent})
            await self.open_writes.conclude(intended, Rejected(Code.STATE_UNAVAILABLE))

    async def _settle(self, filed: Filed) -> None:
        """See to it that the record of an end is on the chain of a dead process, or on ours."""
        assert filed.owed is not None, "only what is owed is settled"
        own = filed.owed == self.journal.chain
        if not own and not self.chains.is_dead(filed.owed):
            return
        told = await self.chains.told(filed.owed, filed.task.id)
        if told is None:
            return
        never_begun = filed.owed == filed.chain and told.intent is None
        if own and never_begun:
            # A write of ours that another node ended while we were stopped may come to its intent yet.
            return
        if told.ended or never_begun:
            await self.store.recorded([filed.task.id])
        elif own or await self.store.inherit(filed.task.id, filed.owed, self.journal.chain):
            assert filed.record is not None, "what is owed is kept"
            record = dict(filed.record)
            if filed.owed == filed.chain:
                record["intent"] = told.intent
            await self.open_writes.pay(record, filed.task.id)

    async def _take_up(self, intent: Mapping[str, Any]) -> None:
        """File a write that only the audit stream remembers: then its message may have been sent."""
        if await self.store.find(intent["task"]) is not None:
            return
        filed = Filed(_remembered(intent), Phase.OPEN, intent["chain"])
        route = intent["upstream"]["route"]
        if await self.store.restore(filed, [(route, intent["appointment"])]):
            self.notice("write only on record", {"task": filed.task.id, "appointment": filed.task.appointment})
            await self.open_writes.follow(filed)


async def _by_itself(work: Coroutine[Any, Any, None]) -> None:
    """See to one write; one of which nothing can be made must not keep the others waiting."""
    try:
        await work
    except (StateUnavailable, JournalUnavailable):
        raise
    except Exception as fault:  # noqa: BLE001 - a person finds it among the open ones
        report("a write that a dead process left could not be taken up", fault)


def _traced(filed: Filed, *, accepted: bool) -> Filed:
    trace = {**filed.task.trace, "accepted": accepted}
    return replace(filed, task=replace(filed.task, trace=trace, status=task_status(Accepted())))


def _end_told(told: Told) -> Outcome:
    """Read the end that is on record."""
    match told.outcome:
        case "applied":
            return Applied(told.version or "")
        case "accepted":
            return Accepted(final=True)
        case "rejected":
            return Rejected(Code(told.code) if told.code in _CODES else Code.UPSTREAM_REFUSED)
        case _:
            return Unknown()


def _ended(task: Task, told: Told, outcome: Outcome) -> Task:
    """Give a Task that end."""
    version = outcome.version or None if isinstance(outcome, Applied) else None
    status = task_status(outcome, closed=True)
    return replace(task, status=status, outcome=told.outcome, code=records.outcome_code(outcome), version=version)


def _remembered(intent: Mapping[str, Any]) -> Task:
    at = records.read_moment(intent["now"])
    repeated = {
        name: intent[name]
        for name in (
            "request_id", "correlation_id", "partner", "customer", "grants_digest", "operation", "appointment", "token",
            "client", "decision", "code", "grant", "checks", "facts", "now", "reason", "patient",
        )
    }  # fmt: skip
    trace = {
        "route": intent["upstream"]["route"],
        "names": [intent["appointment"]],
        "intent": intent["seq"],
        "sent_at": None,
        "accepted": False,
        "record": repeated,
        "upstream": intent["upstream"],
        "sought": trace_of_record(intent),
    }
    return Task(
        intent["task"],
        intent["partner"],
        intent["customer"],
        intent["appointment"],
        Operation(intent["operation"]),
        TaskStatus.IN_PROGRESS,
        at,
        at,
        trace=trace,
    )
