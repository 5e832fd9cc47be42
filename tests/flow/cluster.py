"""Several nodes on one store in front of one PKB, for stories in which anything may happen at any moment."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from gateway.domain.appointment import Appointment, Write
from gateway.domain.codes import Code
from gateway.domain.grant import Customer, Policy
from gateway.flow.orders import Once
from gateway.flow.ports import NotSent, Sender, Sighting, StateUnavailable, Turned, WriteAnswer, Written
from gateway.flow.request import Answer, Refused, Replayed, Shown, Unshown
from gateway.flow.store import Key, KeyClaim, Phase
from gateway.flow.tasks import Task
from tests.flow.fakes import BROKEN, Bench, Folder, Hospital, Paper, done, order, sighted
from tests.flow.shelf import Cupboard, Shelf
from tests.flow.virtual_time import LoopClock, Sleep
from tests.makers import DAY, NOW, SECOND, appointment, grant, move, policy

T = TypeVar("T")
APPOINTMENTS: Final = ("a-1", "a-2")
PARTNERS: Final = ("swiftbook", "cardiolink")
LONGEST: Final = 20.0
"""Seconds in which PKB does what it was sent, or never; less than a write in doubt is given to settle."""
UNRESOLVED: Final = 180 * SECOND
GRANTED: Final = policy(grant(), grant(id="airedale-cardiolink", partner="cardiolink"))


@dataclass
class Message:
    """A write on its way into PKB."""

    task: str
    before: Appointment
    command: Write
    sent_at: float
    answer: "asyncio.Future[WriteAnswer]"
    over: bool = False

    def is_alive(self, now: float) -> bool:
        """Whether PKB may still do it."""
        return not self.over and now - self.sent_at < LONGEST


@dataclass
class Box(Hospital):
    """A PKB that decides only when it is told to, even after nobody listens any more."""

    messages: list[Message] = field(default_factory=list)
    applied: list[str] = field(default_factory=list)

    async def write(
        self, customer: Customer, command: Write, sighting: Sighting, deadline: float, *, sender: Sender
    ) -> WriteAnswer:
        await asyncio.sleep(0)
        if not sender.fence():
            return NotSent("this process may no longer write")
        loop = asyncio.get_running_loop()
        message = Message(sender.control_id, sighting.appointment, command, loop.time(), loop.create_future())
        self.messages.append(message)
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(message.answer)
        except TimeoutError:
            return BROKEN

    def alive(self, now: float) -> list[Message]:
        return [message for message in self.messages if message.is_alive(now)]

    def decide(self, number: int, deed: str) -> None:
        """Do something with one of the messages that PKB may still do, if there is any."""
        alive = self.alive(asyncio.get_running_loop().time())
        if not alive:
            return
        message = alive[number % len(alive)]
        answer: WriteAnswer = BROKEN
        match deed:
            case "answer":
                answer = self.apply(message)
            case "mute":
                self.apply(message)
            case "refuse":
                answer, message.over = Turned(Code.UPSTREAM_REFUSED, 403), True
            case "lose":
                message.over = True
            case other:
                assert other == "later", "it only does not answer"
        if message.answer.done():
            return
        message.answer.set_result(answer)

    def apply(self, message: Message) -> WriteAnswer:
        """Do it, if PKB still has the version that it was meant for."""
        message.over = True
        if self.copies[message.before.id].version != message.before.version:
            return Turned(Code.VERSION_CONFLICT, 412)
        self.copies[message.before.id] = done(message.command, message.before)
        self.applied.append(message.task)
        return Written(sighted(self.copies[message.before.id]), 200)


@dataclass
class Mumbling(Shelf):
    """A store that may do what it is asked and break off before it says so."""

    mute: bool = False

    async def claim_key(self, partner: str, key: str, fingerprint: str, task: str) -> KeyClaim:
        return self._said(await super().claim_key(partner, key, fingerprint, task))

    async def hold(self, task: Task, turns: Mapping[Key, int], chain: str) -> bool:
        return self._said(await super().hold(task, turns, chain))

    async def send(self, task: Task) -> bool:
        return self._said(await super().send(task))

    async def open(self, task: Task) -> None:
        await super().open(task)
        self._said(None)

    async def drop(self, task: str) -> None:
        await super().drop(task)
        self._said(None)

    async def inherit(self, task: str, owed: str, chain: str) -> bool:
        return self._said(await super().inherit(task, owed, chain))

    async def end(self, task: Task, record: Mapping[str, Any], chain: str, *, free_key: bool = False) -> bool:
        ended = await super().end(task, record, chain, free_key=free_key)
        if ended and self.mute:
            self.unheard.add(task.id)
        return self._said(ended)

    def _said(self, answer: T) -> T:
        if self.mute:
            raise StateUnavailable("broken off")
        return answer


@dataclass
class Asked:
    """One request, and what came of it."""

    task: str
    partner: str
    once: Once | None
    request: tuple[str, str, str | None, int]
    answer: "asyncio.Task[Answer]"

    @property
    def told(self) -> Answer | None:
        """The answer, where one was given."""
        if not self.answer.done() or self.answer.cancelled() or self.answer.exception() is not None:
            return None
        return self.answer.result()


@dataclass
class Node:
    """One process."""

    bench: Bench
    caring: "asyncio.Task[None]"

    def silence(self, what: str) -> None:
        """Let its store or its journal be silent, or neither."""
        shelf = self.bench.shelf
        assert isinstance(shelf, Mumbling)
        shelf.down, shelf.mute, self.bench.paper.full = what == "store", what == "mumble", what == "journal"

    async def die(self, *, seen: bool) -> None:
        """Stop at once; unless `seen`, nobody can tell but by its lease."""
        self.caring.cancel()
        await self.bench.die()
        await self.bench.open_writes.close()
        if not seen:
            self.bench.folder.dead.discard(self.bench.paper.chain)


@dataclass
class Cluster:
    """All of it. Made and used inside a running event loop of virtual time."""

    box: Box = field(default_factory=lambda: Box({id_: appointment(id=id_) for id_ in APPOINTMENTS}))
    cupboard: Cupboard = field(default_factory=Cupboard)
    folder: Folder = field(default_factory=Folder)
    clock: LoopClock = field(default_factory=LoopClock)
    policy: Policy = field(default_factory=lambda: GRANTED)
    nodes: list[Node] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)

    async def start(self) -> None:
        """Start a node, as far as the store and the folder let it begin."""
        number = len(self.folder.papers) + 1
        bench = Bench(
            hospital=self.box,
            paper=Paper(chain=f"chain-{number}"),
            shelf=Mumbling(self.cupboard, f"chain-{number}"),
            folder=self.folder,
            clock=self.clock,
            nap=Sleep(),
            policy=self.policy,
        )
        asyncio.get_running_loop().set_exception_handler(lambda _, told: self._faulted(told["exception"]))
        bench.open_writes.unresolved_after = UNRESOLVED
        bench.writes.leave = bench.caretaker.pass_for_now
        await bench.caretaker.begin()
        self.nodes.append(Node(bench, asyncio.create_task(bench.caretaker.run())))

    def _faulted(self, fault: BaseException) -> None:
        # A process that is killed here has its tasks cancelled.
        if not isinstance(fault, asyncio.CancelledError):
            self.faults.append(fault)

    def ask(self, node: Node, partner: str, id_: str, key: str | None, day: int) -> Asked:
        """Ask a node to move an appointment; the same day is the same body."""
        task = f"t-{len(self.asked) + 1}"
        once = None if key is None else Once(key, f"{id_} to {day}")
        wanted = order(
            partner=partner,
            appointment=id_,
            command=move(NOW + (40 + day) * DAY),
            task=task,
            control_id=task,
            once=once,
        )
        asked = Asked(task, partner, once, (partner, id_, key, day), asyncio.create_task(node.bench.writes.run(wanted)))
        self.asked.append(asked)
        return asked

    def govern(self, policy: Policy) -> None:
        """Put a policy into force on every node."""
        self.policy = policy
        for node in self.nodes:
            node.bench.policy = policy

    def heard_again(self, node: Node) -> None:
        """End the silence of a node that lives."""
        if node in self.nodes:
            node.silence("nothing")

    def relabel(self, id_: str) -> None:
        """Let the hospital take an appointment out of everybody's reach, or back."""
        held = self.box.copies[id_]
        labels = appointment().labels if held.labels != appointment().labels else frozenset({"SEXUAL_HEALTH"})
        self.box.copies[id_] = replace(held, version=str(int(held.version) + 1), labels=labels)

    async def heal(self) -> None:
        """End every trouble; only the dead stay dead."""
        self.govern(GRANTED)
        self.box.down = None
        living = {node.bench.paper.chain for node in self.nodes}
        self.folder.dead = set(self.folder.papers) - living
        for node in self.nodes:
            node.silence("nothing")
        if not self.nodes:
            await self.start()

    async def come_to_rest(self) -> None:
        """Wait until nothing is left to be done, much longer than anything may take."""
        for _ in range(60):
            await asyncio.sleep(10)
            if self._rests():
                return
        raise AssertionError(f"still not at rest: {self.cupboard}")

    def _rests(self) -> bool:
        benches = [node.bench for node in self.nodes]
        return (
            all(filed.phase is Phase.ENDED and filed.owed is None for filed in self.cupboard.filed.values())
            and not any(self.cupboard.holders.values())
            and not any(bench.writes.running or len(bench.arrears) for bench in benches)
            and not any(len(bench.open_writes) or bench.open_writes.owed for bench in benches)
        )

    # What must be true

    def check_messages(self) -> None:
        """PKB gets one message for each intent at most, one for an appointment at a time, one effect for a key."""
        sent = [message.task for message in self.box.messages]
        assert len(sent) == len(set(sent))
        now = asyncio.get_running_loop().time()
        busy = [message.before.id for message in self.box.alive(now)]
        assert len(busy) == len(set(busy))
        names = [(each.partner, each.once.key) for each in self._done() if each.once is not None]
        assert len(names) == len(set(names))

    def _done(self) -> Iterator[Asked]:
        return (each for each in self.asked if each.task in self.box.applied)

    def check_records(self) -> None:
        """Every intent has one end over all chains, and that end is true."""
        papers = self.folder.papers.values()
        intents = [record["task"] for paper in papers for record in paper.of("intent")]
        ends = {record["task"]: record for paper in papers for record in paper.of("outcome") if record["final"]}
        finals = [record["task"] for paper in papers for record in paper.of("outcome") if record["final"]]
        assert sorted(intents) == sorted(finals)
        assert {message.task for message in self.box.messages} <= set(intents)
        for task, record in ends.items():
            match record["outcome"]:
                case "applied":
                    assert task in self.box.applied, record
                case "rejected":
                    assert task not in self.box.applied, record
                case other:
                    assert other == "unknown", record

    def check_answers(self) -> None:
        """Nobody is told what is not so."""
        by_task = {each.task: each for each in self.asked}
        for each in self.asked:
            match each.told:
                case Shown(task=str(task)) | Replayed(Shown(task=str(task)) | Unshown(task=task)):
                    first = by_task[task]
                    assert task in self.box.applied
                    assert task == each.task or (first.partner, first.once) == (each.partner, each.once)
                case Refused(code=code) if code is not Code.OUTCOME_UNKNOWN:
                    assert each.task not in self.box.applied
                case _:
                    pass
        for paper in self.folder.papers.values():
            for record in paper.of("replayed"):
                if record["outcome"] in {"applied", "rejected"}:
                    assert (record["outcome"] == "applied") == (record["task"] in self.box.applied)

    def check_keys(self) -> None:
        """A key is kept with the write that it named, and only with one that was intended."""
        keys = {name: task for name, (_, task, _) in self.cupboard.keys.items()}
        assert set(keys.values()) <= self.cupboard.filed.keys()
        for each in self._done():
            if each.once is not None:
                assert keys[each.partner, each.once.key] == each.task

    async def check_retries(self) -> None:
        """Whoever asks again for what was done, or was not, is told that, and PKB hears nothing of it."""
        messages = len(self.box.messages)
        by_task = {each.task: each for each in self.asked}
        for _, task, _ in [*self.cupboard.keys.values()]:
            first = by_task[task]
            again = await self.nodes[-1].bench.writes.run(
                order(partner=first.partner, task=f"{task}-again", control_id=f"{task}-again", once=first.once)
            )
            assert isinstance(again, Replayed)
            assert isinstance(again.answer, Shown | Unshown) == (self.cupboard.filed[task].task.outcome == "applied"), (
                again
            )
        assert len(self.box.messages) == messages

    async def close(self) -> None:
        for node in self.nodes:
            await node.die(seen=True)
        await asyncio.gather(*(each.answer for each in self.asked), return_exceptions=True)
