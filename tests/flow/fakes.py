"""Hand-written stand-ins for everything the flow speaks to, and a bench on which all of them lie within reach."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from gateway.domain.appointment import Appointment, Cancel, Status, Write
from gateway.domain.codes import Code
from gateway.domain.grant import Customer, Policy
from gateway.domain.pseudonym import Pseudonyms
from gateway.flow.arrears import Arrears
from gateway.flow.caretaker import Caretaker
from gateway.flow.chains import Told
from gateway.flow.look import Looks
from gateway.flow.open_writes import OpenWrites
from gateway.flow.orders import Order
from gateway.flow.places import Places
from gateway.flow.ports import (
    Doubt,
    JournalUnavailable,
    Sender,
    Sighting,
    UpstreamFault,
    WriteAnswer,
    Written,
)
from gateway.flow.replays import Replays
from gateway.flow.request import Answer, Caller, TokenFacts
from gateway.flow.store import Key
from gateway.flow.write import Writes
from tests import makers
from tests.flow.shelf import Shelf

ROUTE = makers.BOX.name
BROKEN = Doubt("broken off")
SILENCE = UpstreamFault(Code.UPSTREAM_TIMEOUT, "no answer", 504)
SETTLES = timedelta(seconds=30)
UNRESOLVED = timedelta(hours=24)
HELD = timedelta(days=14)
"""How long a message that PKB took may wait for a person there."""


async def spin() -> None:
    """Let every story go as far as it gets without time passing."""
    for _ in range(50):
        await asyncio.sleep(0)


@dataclass
class Clock:
    """The time of day, which may be set, and ticks, which only pass."""

    now: datetime = makers.NOW
    ticks: float = 1000.0

    def __call__(self) -> datetime:
        return self.now

    def elapsed(self) -> float:
        return self.ticks

    def passes(self, time: timedelta) -> None:
        """Let time pass, without anybody waking up."""
        self.now += time
        self.ticks += time.total_seconds()


@dataclass
class Nap:
    """Sleeps until the test wakes the sleepers; `asked` keeps the seconds they wanted."""

    asked: list[float] = field(default_factory=list)
    _sleepers: list[asyncio.Future[None]] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append(sleeper)
        await sleeper

    async def over(self) -> None:
        """End every sleep there is."""
        await spin()
        sleepers, self._sleepers = self._sleepers, []
        for sleeper in sleepers:
            if not sleeper.done():
                sleeper.set_result(None)
        await spin()


@dataclass
class Paper:
    """An audit stream. `full` takes no record; `torn` is raised for outcomes."""

    written: list[dict[str, Any]] = field(default_factory=list)
    essential: list[bool] = field(default_factory=list)
    full: bool = False
    full_for: frozenset[str] = frozenset()
    torn: Exception | None = None
    chain: str = "chain-1"

    async def write(self, record: Mapping[str, object], *, essential: bool = False) -> int:
        await asyncio.sleep(0)
        if self.full or record["event"] in self.full_for:
            raise JournalUnavailable("full")
        if self.torn is not None and record["event"] == "outcome":
            raise self.torn
        place = {"chain": self.chain, "seq": len(self.written) + 1}
        self.written.append({**json.loads(json.dumps(record)), **place})
        self.essential.append(essential)
        return len(self.written)

    @property
    def events(self) -> list[str]:
        return [record["event"] for record in self.written]

    def of(self, event: str) -> list[dict[str, Any]]:
        return [record for record in self.written if record["event"] == event]

    @property
    def outcomes(self) -> list[tuple[str, bool, bool]]:
        """Every outcome: the word, whether final, whether recovered."""
        return [(record["outcome"], record["final"], record["recovered"]) for record in self.of("outcome")]


@dataclass
class Folder:
    """The chains in the audit folder."""

    papers: dict[str, Paper] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    looks: list[str] = field(default_factory=list)
    """The chains that were looked at to see whether their writer lives."""

    def is_dead(self, chain: str) -> bool:
        self.looks.append(chain)
        return chain in self.dead

    async def told(self, chain: str, task: str) -> Told | None:
        await asyncio.sleep(0)
        if chain not in self.papers:
            return None
        records = [record for record in self.papers[chain].written if record.get("task") == task]
        intents = [record["seq"] for record in records if record["event"] == "intent"]
        outcomes = [record for record in records if record["event"] == "outcome"]
        ended = any(record["final"] for record in outcomes)
        if not outcomes:
            return Told(intents[0] if intents else None, None, ended)
        last = outcomes[-1]
        version = (last.get("upstream") or {}).get("version_after")
        return Told(intents[0] if intents else None, last["outcome"], ended, last.get("code"), version)

    async def open_intents(self) -> Sequence[Mapping[str, Any]]:
        await asyncio.sleep(0)
        ended = {record["task"] for paper in self.papers.values() for record in paper.of("outcome") if record["final"]}
        return [
            record
            for chain, paper in self.papers.items()
            for record in paper.of("intent")
            if chain in self.dead and record["task"] not in ended
        ]


def done(command: Write, before: Appointment) -> Appointment:
    """Do to an appointment what a command says, as PKB would."""
    version = str(int(before.version) + 1)
    if isinstance(command, Cancel):
        comment = before.comment if command.comment is None else command.comment
        return replace(before, version=version, status=Status.CANCELLED, cancel_reason=command.reason, comment=comment)
    return replace(
        before,
        version=version,
        start=command.start.at if command.start else before.start,
        end=command.end.at if command.end else before.end,
        comment=before.comment if command.comment is None else command.comment,
    )


def sighted(appointment: Appointment) -> Sighting:
    return Sighting(appointment, b"{}", None)


@dataclass
class Hospital:
    """PKB. Does what it is told and shows it; `answer` is given in place of that, `applies` says whether it is done."""

    copies: dict[str, Appointment] = field(default_factory=lambda: {"a-1": makers.appointment()})
    answer: WriteAnswer | BaseException | None = None
    applies: bool = True
    faults: list[BaseException | None] = field(default_factory=list)
    """What the next reads raise, first come first served; None lets one through."""
    down: BaseException | None = None
    """What every read raises."""
    on_read: Callable[[], None] = lambda: None
    hold: asyncio.Event | None = None
    """Every write waits for it, once sent."""
    reads: list[str] = field(default_factory=list)
    fresh: list[bool] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)
    sent: list[Write] = field(default_factory=list)
    senders: list[Sender] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    async def read(self, customer: Customer, appointment: str, deadline: float, *, fresh: bool) -> Sighting | None:
        self.reads.append(appointment)
        self.fresh.append(fresh)
        await asyncio.sleep(0)
        fault = self.faults.pop(0) if self.faults else self.down
        if fault is not None:
            raise fault
        copy = self.copies.get(appointment)
        self.on_read()
        return sighted(copy) if copy else None

    async def write(
        self, customer: Customer, command: Write, sighting: Sighting, deadline: float, *, sender: Sender
    ) -> WriteAnswer:
        self.sent.append(command)
        self.senders.append(sender)
        self.deadlines.append(deadline)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0)
            if self.hold is not None:
                await self.hold.wait()
        finally:
            self.under_way -= 1
        if self.applies:
            self.copies[sighting.appointment.id] = done(command, sighting.appointment)
        match self.answer:
            case None:
                return Written(sighted(self.copies[sighting.appointment.id]), 200)
            case BaseException():
                raise self.answer
            case _:
                return self.answer


@dataclass
class Bench:
    """The flow on fakes. A Bench is made inside a running event loop."""

    hospital: Hospital = field(default_factory=Hospital)
    paper: Paper = field(default_factory=Paper)
    shelf: Shelf = field(default_factory=Shelf)
    folder: Folder = field(default_factory=Folder)
    clock: Clock = field(default_factory=Clock)
    nap: Nap = field(default_factory=Nap)
    policy: Policy = field(default_factory=makers.policy)
    patience: float = 2.0
    faults: list[BaseException] = field(default_factory=list)
    """What was reported to the event loop."""
    alarms: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    deaf: Exception | None = None
    """What every alarm raises."""
    veil: Pseudonyms = field(default_factory=lambda: Pseudonyms("k1", b"sixteen bytes of key"))
    passes: bool = True
    """Whether a pass to write is good when a byte would leave."""
    notices: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    arrears: Arrears = field(init=False)
    open_writes: OpenWrites = field(init=False)
    writes: Writes = field(init=False)
    looks: Looks = field(init=False)
    caretaker: Caretaker = field(init=False)

    def __post_init__(self) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: self.faults.append(told["exception"]))
        self.folder.papers[self.paper.chain] = self.paper
        self.arrears = Arrears(self.nap)
        self.open_writes = OpenWrites(
            self.hospital,
            self.paper,
            self.shelf,
            self.arrears,
            lambda: self.policy.customers,
            self.clock,
            SETTLES,
            UNRESOLVED,
            HELD,
            self._alarm,
            self.veil,
            self.nap,
            self.clock.elapsed,
        )
        self.writes = Writes(
            lambda: self.policy,
            self.hospital,
            self.paper,
            self.shelf,
            self.arrears,
            self.veil,
            self.clock,
            self.open_writes,
            Replays(lambda: self.policy, self.hospital, self.paper, self.open_writes, self.veil, self.clock),
            Places(self.shelf, self.patience),
            lambda: lambda: self.passes,
        )
        self.looks = Looks(lambda: self.policy, self.hospital, self.paper, self.shelf, self.veil, self.clock)
        notice = lambda event, told: self.notices.append((event, dict(told)))  # noqa: E731 - one line of a bench
        self.caretaker = Caretaker(self.shelf, self.paper, self.folder, self.open_writes, notice, self.nap)

    def beside(self, chain: str = "chain-2") -> "Bench":
        """Give another node on the same store, the same PKB and the same audit folder, at the same time of day."""
        other = Bench(
            hospital=self.hospital,
            paper=Paper(chain=chain),
            shelf=Shelf(self.shelf.cupboard, chain),
            folder=self.folder,
            clock=self.clock,
            policy=self.policy,
            patience=self.patience,
        )
        asyncio.get_running_loop().set_exception_handler(lambda _, told: self.faults.append(told["exception"]))
        return other

    async def die(self) -> None:
        """Stop everything at once, as kill -9 does; nothing is told to anybody."""
        self.shelf.down = self.paper.full = True
        for task in (*self.writes.running, *self.open_writes._running):
            task.cancel()
        await spin()
        await self.arrears.close()
        self.folder.dead.add(self.paper.chain)

    def _alarm(self, event: str, record: dict[str, object]) -> None:
        if self.deaf is not None:
            raise self.deaf
        self.alarms.append((event, record))

    def holds(self, *keys: Key) -> bool:
        """Whether an appointment is held under any of these names."""
        return any(self.shelf.cupboard.holders.get(key) is not None for key in keys)

    def doubt(self, *, applies: bool, readable: bool = True) -> None:
        """Let the next write end in doubt; unless `readable` the read-back fails, too."""
        self.hospital.answer, self.hospital.applies = BROKEN, applies
        if not readable:
            self.hospital.faults = [None, SILENCE]

    async def run(self, **changes: Any) -> Answer:
        return await self.writes.run(order(**changes))

    async def later(self, **time: float) -> None:
        """Let time pass and whoever sleeps wake up."""
        self.clock.passes(timedelta(**time))
        await self.nap.over()


def caller(**changes: Any) -> Caller:
    """Make Swiftbook asking for Airedale, with ten seconds to go."""
    now = asyncio.get_running_loop().time()
    values: dict[str, Any] = {
        "partner": "swiftbook",
        "customer": "airedale",
        "scope": frozenset("ru"),
        "token": TokenFacts("https://gateway.example", "j-1", "key-1"),
        "client": "192.0.2.7",
        "request_id": "r-1",
        "correlation_id": "c-1",
        "received": now,
        "deadline": now + 10.0,
    }
    return Caller(**(values | changes))


def order(**changes: Any) -> Order:
    """Make a cancel of a-1 at Airedale; what is not of the Order is of its Caller."""
    values: dict[str, Any] = {
        "customer": makers.customer(),
        "appointment": "a-1",
        "command": makers.cancel(),
        "expected_version": None,
        "task": "t-1",
        "control_id": "m-1",
        "once": None,
    }
    own = {name: value for name, value in changes.items() if name in values}
    others = {name: value for name, value in changes.items() if name not in values}
    return Order(caller=caller(**others), **(values | own))
