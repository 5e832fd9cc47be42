"""Whatever several nodes do to one store, in whatever order, it is as a few dictionaries would have it."""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test

from gateway.flow.store import Filed, Key, KeyClaim, KeyIsKnown, KeyIsNew, KeyIsOthers, Phase, Turn
from gateway.storage.store import Store, open_store
from tests.edges.conftest import EMPTY
from tests.edges.store_bench import KEEP, a_task
from tests.postgres import Server

NODES = st.integers(0, 2)
NAMES: tuple[Key, ...] = (("box", "a"), ("box", "b"), ("hl7", "a"))
SOME = st.sets(st.sampled_from(NAMES), min_size=1, max_size=2).map(sorted)
KEYS = st.sampled_from(["k", "l"])
FINGERPRINTS = st.sampled_from(["f", "g"])
T = TypeVar("T")


@dataclass
class _Write:
    """A write as the model has it."""

    filed: Filed
    node: int


@dataclass
class _Claim:
    fingerprint: str
    task: str
    node: int


class Stores(RuleBasedStateMachine):
    """Three nodes and a model. `address` is emptied before each run by `empty`."""

    empty: ClassVar[Any]
    address: ClassVar[str]
    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        type(self).empty()
        self.loop = asyncio.new_event_loop()
        self.numbers = itertools.count()
        self.writes: dict[str, _Write] = {}
        self.turns: dict[Key, tuple[int, str | None]] = dict.fromkeys(NAMES, (0, None))
        self.keys: dict[str, _Claim] = {}
        self.nodes: list[Store] = [self.now(self.opened(number)) for number in range(3)]

    def opened(self, number: int) -> Coroutine[Any, Any, Store]:
        return open_store(self.address, f"chain-{number}-{next(self.numbers)}", KEEP)

    def now(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        for node in self.nodes:
            self.now(node.close())
        self.loop.close()

    # Keys

    @rule(target=tasks, node=NODES, key=KEYS, fingerprint=FINGERPRINTS)
    def claim(self, node: int, key: str, fingerprint: str) -> str:
        task = f"t-{next(self.numbers)}"
        expected: KeyClaim = KeyIsNew()
        known = self.keys.get(key)
        if known is None:
            self.keys[key] = _Claim(fingerprint, task, node)
        elif known.fingerprint != fingerprint:
            expected = KeyIsOthers()
        else:
            write = self.writes.get(known.task)
            expected = KeyIsKnown(None if write is None or write.filed.phase is Phase.HELD else write.filed)
        assert self.now(self.nodes[node].claim_key("swiftbook", key, fingerprint, task)) == expected
        return task

    @rule(node=NODES, task=tasks)
    def free_key(self, node: int, task: str) -> None:
        write = self.writes.get(task)
        if write is None or write.filed.phase is Phase.HELD:
            self.forget_key(task)
        self.now(self.nodes[node].free_key(task))

    # Writes

    @rule(node=NODES, task=tasks, names=SOME, stale=st.sampled_from([0, 0, 0, -1, 1]))
    def hold(self, node: int, task: str, names: list[Key], stale: int) -> None:
        if task in self.writes:
            return
        seen = {name: max(0, self.turns[name][0] + stale) for name in names}
        free = all(self.turns[name] == (seen[name], None) for name in names)
        chain = self.nodes[node].nodes.name
        assert self.now(self.nodes[node].hold(a_task(task), seen, chain)) is free
        if free:
            self.writes[task] = _Write(Filed(a_task(task), Phase.HELD, chain), node)
            for name in names:
                self.turns[name] = (seen[name] + 1, task)

    @rule(names=SOME, first=tasks, second=tasks)
    def race(self, names: list[Key], first: str, second: str) -> None:
        """Two nodes want the same names at the same moment."""
        if first == second or {first, second} & self.writes.keys():
            return
        seen = {name: self.turns[name][0] for name in names}
        free = all(self.turns[name][1] is None for name in names)

        async def both() -> list[bool]:
            tries = [
                self.nodes[node].hold(a_task(task), seen, self.nodes[node].nodes.name)
                for node, task in ((0, first), (1, second))
            ]
            return await asyncio.gather(*tries)

        won = self.now(both())
        assert sum(won) == int(free)
        for node, task in ((0, first), (1, second)):
            if won[node]:
                filed = Filed(a_task(task), Phase.HELD, self.nodes[node].nodes.name)
                self.writes[task] = _Write(filed, node)
                for name in names:
                    self.turns[name] = (seen[name] + 1, task)

    @rule(node=NODES, task=tasks)
    def send(self, node: int, task: str) -> None:
        write = self.writes.get(task)
        may = write is not None and write.filed.phase is Phase.HELD and write.node == node
        assert self.now(self.nodes[node].send(a_task(task, outcome="sent"))) is may
        if write is not None and may:
            write.filed = replace(write.filed, task=a_task(task, outcome="sent"), phase=Phase.SENT)

    @rule(node=NODES, task=tasks, outcome=st.sampled_from(["unknown", "accepted"]))
    def open(self, node: int, task: str, outcome: str) -> None:
        write = self.writes.get(task)
        if write is not None and write.filed.phase in {Phase.SENT, Phase.OPEN}:
            write.filed = replace(write.filed, task=a_task(task, outcome=outcome), phase=Phase.OPEN)
        self.now(self.nodes[node].open(a_task(task, outcome=outcome)))

    @rule(node=NODES, task=tasks, frees=st.booleans(), together=st.booleans())
    def end(self, node: int, task: str, frees: bool, together: bool) -> None:
        if task not in self.writes:
            return
        chain = self.nodes[node].nodes.name
        ended, record = a_task(task, outcome="applied"), {"task": task}

        async def all_of_them() -> list[bool]:
            enders = [self.nodes[node]] * (3 if together else 1)
            return await asyncio.gather(*(each.end(ended, record, chain, free_key=frees) for each in enders))

        filed = self.writes[task].filed
        assert sum(self.now(all_of_them())) == int(filed.phase is not Phase.ENDED)
        if filed.phase is not Phase.ENDED:
            self.writes[task].filed = Filed(ended, Phase.ENDED, filed.chain, chain, record)
            self.let_go(task)
            if frees:
                self.forget_key(task)

    @rule(node=NODES, task=tasks)
    def drop(self, node: int, task: str) -> None:
        write = self.writes.get(task)
        if write is not None and write.filed.phase is Phase.HELD:
            del self.writes[task]
            self.let_go(task)
            self.forget_key(task)
        self.now(self.nodes[node].drop(task))

    @rule(node=NODES, task=tasks)
    def recorded(self, node: int, task: str) -> None:
        write = self.writes.get(task)
        if write is not None and write.filed.phase is Phase.ENDED:
            write.filed = replace(write.filed, owed=None, record=None)
        self.now(self.nodes[node].recorded([task]))

    @rule(node=NODES, task=tasks, right=st.booleans())
    def inherit(self, node: int, task: str, right: bool) -> None:
        write = self.writes.get(task)
        owed = write.filed.owed if write is not None else None
        asked = owed if right and owed is not None else "nobody"
        heir = self.nodes[node].nodes.name
        assert self.now(self.nodes[node].inherit(task, asked, heir)) is (owed == asked)
        if write is not None and owed == asked:
            write.filed = replace(write.filed, owed=heir)

    @rule(target=tasks, node=NODES, task=tasks, names=SOME, again=st.booleans())
    def restore(self, node: int, task: str, names: list[Key], again: bool) -> Any:
        task = task if again else f"t-{next(self.numbers)}"
        filed = Filed(a_task(task), Phase.SENT, "lost")
        assert self.now(self.nodes[node].restore(filed, names)) is (task not in self.writes)
        if task not in self.writes:
            self.writes[task] = _Write(replace(filed, phase=Phase.OPEN), node)
            for name in names:
                epoch, holder = self.turns[name]
                if holder is None:
                    self.turns[name] = (epoch + 1, task)
        return multiple() if again else task

    # Nodes

    @rule(node=NODES, heir=NODES, killed=st.booleans())
    def die(self, node: int, heir: int, killed: bool) -> None:
        """One is taken over: it was killed and another starts in its place, or it only stalled and learns of it."""
        if node == heir:
            return
        old, adopter = self.nodes[node], self.nodes[heir]
        chain = self.now(old.database.rows("SELECT chain FROM node WHERE name = $1", old.nodes.name))[0][0]
        left = self.now(adopter.adopt([chain]))
        theirs = {
            task: write
            for task, write in self.writes.items()
            if write.node == node and write.filed.phase is not Phase.ENDED
        }
        assert {filed.task.id: filed for filed in left} == {task: write.filed for task, write in theirs.items()}
        for write in theirs.values():
            write.node = heir
        for key, claim in tuple(self.keys.items()):
            if claim.node == node:
                claim.node = heir
                if claim.task not in self.writes:
                    del self.keys[key]
        if killed:
            self.now(old.close())
            self.nodes[node] = self.now(self.opened(node))
            return
        for task in theirs:
            assert not self.now(old.send(a_task(task)))
        assert not self.now(old.renew())

    @rule(node=NODES)
    def renew(self, node: int) -> None:
        assert self.now(self.nodes[node].renew())

    # What must be true at any time

    @invariant()
    def everything_is_as_the_model_has_it(self) -> None:
        node = self.nodes[0]
        filed = {each.task.id: each for each in self.now(node.all_writes())}
        assert filed == {task: write.filed for task, write in self.writes.items()}
        expected = [
            Turn(epoch, None if task is None else self.writes[task].filed) for epoch, task in self.turns.values()
        ]
        assert self.now(node.look(NAMES)) == expected
        owing = {each.task.id for each in self.now(node.owing())}
        assert owing == {task for task, write in self.writes.items() if write.filed.owed is not None}
        keys = self.now(node.database.rows("SELECT key, fingerprint, task FROM request_key"))
        assert {tuple(row) for row in keys} == {
            (key, claim.fingerprint, claim.task) for key, claim in self.keys.items()
        }

    def let_go(self, task: str) -> None:
        for name, (epoch, holder) in self.turns.items():
            if holder == task:
                self.turns[name] = (epoch, None)

    def forget_key(self, task: str) -> None:
        self.keys = {key: claim for key, claim in self.keys.items() if claim.task != task}


@pytest.fixture
def folder() -> Iterator[Path]:
    # In memory, where the machine has such a place: thousands of changes need not be on a disk.
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as made:
        yield Path(made)


def _run(machine: type[Stores], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


def test_a_file_is_as_the_model_has_it(made_file: Path, folder: Path) -> None:
    file = folder / "state.db"

    class OnFile(Stores):
        address = f"sqlite:///{file}"

        @staticmethod
        def empty() -> None:
            for path in folder.glob("state.db*"):
                path.unlink()
            shutil.copyfile(made_file, file)

    _run(OnFile, 40)


def test_a_server_is_as_the_model_has_it(postgres: Server, made_database: str) -> None:
    class OnServer(Stores):
        address = made_database

        @staticmethod
        def empty() -> None:
            postgres.sql(EMPTY, made_database)

    _run(OnServer, 8)
