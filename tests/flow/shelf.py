"""A request store in memory, as the port describes it; several nodes may share what it holds."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.flow.ports import StateUnavailable
from gateway.flow.store import Filed, Key, KeyClaim, KeyIsKnown, KeyIsNew, KeyIsOthers, Phase, Turn
from gateway.flow.tasks import Task


@dataclass
class Cupboard:
    """What all nodes see."""

    filed: dict[str, Filed] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    """Task to node."""
    holders: dict[Key, str | None] = field(default_factory=dict)
    epochs: dict[Key, int] = field(default_factory=dict)
    keys: dict[tuple[str, str], tuple[str, str, str]] = field(default_factory=dict)
    """Partner and key to fingerprint, Task and node."""
    nodes: dict[str, bool] = field(default_factory=dict)
    """Node to whether its lease runs."""


@dataclass
class Shelf:
    """The store as one node sees it. `down` makes it silent; `deaf_to` only some of its methods."""

    cupboard: Cupboard = field(default_factory=Cupboard)
    chain: str = "chain-1"
    down: bool = False
    deaf_to: set[str] = field(default_factory=set)
    torn: Exception | None = None
    """What `end`, `send` and `find` raise."""
    calls: list[str] = field(default_factory=list)
    kept: list[Task] = field(default_factory=list)
    """Every Task as it was filed, changed or ended."""
    node: str = ""
    unheard: set[str] = field(default_factory=set)
    """Tasks that this node ended without being told so; it will ask again."""

    def __post_init__(self) -> None:
        self.node = self.node or self.chain
        self.cupboard.nodes[self.node] = True

    async def claim_key(self, partner: str, key: str, fingerprint: str, task: str) -> KeyClaim:
        await self._asked("claim_key")
        known = self.cupboard.keys.get((partner, key))
        if known is None:
            self._must_live()
            self.cupboard.keys[partner, key] = (fingerprint, task, self.node)
            return KeyIsNew()
        if known[1] == task:
            return KeyIsNew()
        if known[0] != fingerprint:
            return KeyIsOthers()
        return KeyIsKnown(self.cupboard.filed.get(known[1]))

    async def free_key(self, task: str) -> None:
        await self._asked("free_key")
        filed = self.cupboard.filed.get(task)
        if filed is None or filed.phase is Phase.HELD:
            self._free_key(task)

    async def look(self, keys: Sequence[Key]) -> Sequence[Turn]:
        await self._asked("look")
        return [self._turn(key) for key in keys]

    async def hold(self, task: Task, turns: Mapping[Key, int], chain: str) -> bool:
        await self._asked("hold")
        self._must_live()
        seen = {key: self._turn(key) for key in turns}
        if any(turn.holder is not None or turn.epoch != turns[key] for key, turn in seen.items()):
            return False
        self._file(Filed(task, Phase.HELD, chain), turns)
        return True

    async def send(self, task: Task) -> bool:
        await self._asked("send")
        self._torn()
        filed = self.cupboard.filed.get(task.id)
        mine = self.cupboard.owners.get(task.id) == self.node in self.cupboard.nodes
        if filed is None or filed.phase is not Phase.HELD or not mine:
            return False
        self._put(replace(filed, task=task, phase=Phase.SENT))
        return True

    async def open(self, task: Task) -> None:
        await self._asked("open")
        filed = self.cupboard.filed[task.id]
        if filed.phase is not Phase.ENDED:
            self._put(replace(filed, task=task, phase=Phase.OPEN))

    async def end(self, task: Task, record: Mapping[str, Any], chain: str, *, free_key: bool = False) -> bool:
        await self._asked("end")
        self._torn()
        filed = self.cupboard.filed.get(task.id) or Filed(task, Phase.OPEN, chain)
        if filed.phase is Phase.ENDED:
            mine = task.id in self.unheard
            self.unheard.discard(task.id)
            return mine
        self._put(replace(filed, task=task, phase=Phase.ENDED, owed=chain, record=record))
        self._let_go(task.id)
        if free_key:
            self._free_key(task.id)
        return True

    async def recorded(self, tasks: Collection[str]) -> None:
        await self._asked("recorded")
        for task in set(tasks) & self.cupboard.filed.keys():
            filed = self.cupboard.filed[task]
            if filed.phase is Phase.ENDED:
                self.cupboard.filed[task] = replace(filed, owed=None, record=None)

    async def drop(self, task: str) -> None:
        await self._asked("drop")
        filed = self.cupboard.filed.get(task)
        if filed is not None and filed.phase is Phase.HELD:
            del self.cupboard.filed[task]
            del self.cupboard.owners[task]
            self._let_go(task)
            self._free_key(task)

    async def secure(self) -> None:
        await self._asked("secure")

    async def find(self, task: str) -> Filed | None:
        await self._asked("find")
        self._torn()
        return self.cupboard.filed.get(task)

    async def renew(self, chain: str | None = None) -> bool:
        await self._asked("renew")
        self.chain = chain or self.chain
        if self.node in self.cupboard.nodes:
            self.cupboard.nodes[self.node] = True
            return True
        self.node += "/again"
        self.cupboard.nodes[self.node] = True
        return False

    async def peers(self) -> Sequence[str]:
        await self._asked("peers")
        return [node.partition("/")[0] for node in self.cupboard.nodes if node != self.node]

    async def adopt(self, died: Iterable[str]) -> Sequence[Filed]:
        await self._asked("adopt")
        dead = set(died)
        gone = {
            node
            for node, leased in self.cupboard.nodes.items()
            if node != self.node and (not leased or node.partition("/")[0] in dead)
        }
        if self.node not in self.cupboard.nodes:
            return []
        for node in gone:
            del self.cupboard.nodes[node]
        for name, (print_, task, node) in [*self.cupboard.keys.items()]:
            if node in gone and task not in self.cupboard.filed:
                del self.cupboard.keys[name]
            elif node in gone:
                self.cupboard.keys[name] = (print_, task, self.node)
        found = [
            task
            for task, node in self.cupboard.owners.items()
            if node in gone and self.cupboard.filed[task].phase is not Phase.ENDED
        ]
        self.cupboard.owners |= dict.fromkeys(found, self.node)
        return [self.cupboard.filed[task] for task in found]

    async def restore(self, filed: Filed, keys: Sequence[Key]) -> bool:
        await self._asked("restore")
        if filed.task.id in self.cupboard.filed:
            return False
        self._must_live()
        self._file(filed, [key for key in keys if self._turn(key).holder is None])
        return True

    async def owing(self, but: Collection[str] = ()) -> Sequence[Filed]:
        await self._asked("owing")
        return [filed for filed in self.cupboard.filed.values() if filed.owed not in {None, *but}]

    async def inherit(self, task: str, owed: str, chain: str) -> bool:
        await self._asked("inherit")
        filed = self.cupboard.filed[task]
        if filed.owed != owed:
            return False
        self.cupboard.filed[task] = replace(filed, owed=chain)
        return True

    def phase(self, task: str = "t-1") -> str | None:
        filed = self.cupboard.filed.get(task)
        return filed.phase.value if filed else None

    @property
    def statuses(self) -> list[str]:
        return [task.status.value for task in self.kept]

    @property
    def held(self) -> set[str]:
        """The Tasks that hold an appointment."""
        return {task for task in self.cupboard.holders.values() if task is not None}

    async def _asked(self, method: str) -> None:
        self.calls.append(method)
        await asyncio.sleep(0)
        if self.down or method in self.deaf_to:
            raise StateUnavailable("down")

    def _must_live(self) -> None:
        if self.node not in self.cupboard.nodes:
            raise StateUnavailable("this node was taken for dead")

    def _torn(self) -> None:
        if self.torn is not None:
            raise self.torn

    def _turn(self, key: Key) -> Turn:
        holder = self.cupboard.holders.get(key)
        return Turn(self.cupboard.epochs.get(key, 0), self.cupboard.filed.get(holder) if holder else None)

    def _file(self, filed: Filed, keys: Iterable[Key]) -> None:
        self._put(filed)
        self.cupboard.owners[filed.task.id] = self.node
        for key in keys:
            self.cupboard.holders[key] = filed.task.id
            self.cupboard.epochs[key] = self.cupboard.epochs.get(key, 0) + 1

    def _put(self, filed: Filed) -> None:
        self.cupboard.filed[filed.task.id] = filed
        self.kept.append(filed.task)

    def _let_go(self, task: str) -> None:
        for key, holder in self.cupboard.holders.items():
            if holder == task:
                self.cupboard.holders[key] = None

    def _free_key(self, task: str) -> None:
        for name, (_, owner, _node) in [*self.cupboard.keys.items()]:
            if owner == task:
                del self.cupboard.keys[name]
