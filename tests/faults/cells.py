"""One cell of the table: played on real processes, then judged by what PKB, the audit streams and the store say."""

import asyncio
import contextlib
import signal
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp

from gateway.storage.blocks import Blocks
from gateway.storage.store import visit_store
from gateway.storage.verification import verify
from tests.faults.stage import Node, Stage, Subject, final_of, of, subject
from tests.faults.table import TAKES_LONG, Cell
from tests.journeys.partner import Reply, until
from tests.journeys.processes import Json

PATIENCE: Final = 25.0
"""Seconds in which everything must have come to its end."""


@dataclass
class Verdict:
    """What became of a cell."""

    cell: Cell
    messages: int = -1
    finals: list[str] = field(default_factory=list)
    first: str = ""
    retry: str = ""
    recovery: float = 0.0
    violations: list[str] = field(default_factory=list)
    log: str = ""


@dataclass
class Run:
    """One cell under way."""

    cell: Cell
    stage: Stage
    subject: Subject
    verdict: Verdict
    guard: str
    database: Any
    begun: float = 0.0

    async def play(self) -> None:
        match self.cell.fault:
            case "kill" | "stall" | "store" | "disk" | "database":
                await self._struck()
            case "revoked" if self.cell.step == "held":
                await self._revoked_when_held()
            case "revoked" | "relabelled":
                await self._changed_after()
            case "two nodes at once":
                await self._two_at_once()
            case _:
                await self._pkb_fails()

    def _environment(self, **more: str) -> dict[str, str]:
        return {**({"GUARD_OUT": self.guard} if self.guard else {}), **more}

    async def _ask(self, node: Node, **how: Any) -> str:
        """Send the cancel; gives `status code`, or what became of the connection."""
        try:
            reply = await self.subject.cancel(self.stage.at(node), **how)
        except (aiohttp.ClientError, OSError) as error:
            return type(error).__name__
        self._check_answer(reply)
        return f"{reply.status} {reply.code}".strip()

    def _check_answer(self, reply: Reply) -> None:
        if reply.status in {401, 500}:
            self.verdict.violations.append(f"answered {reply.status} {reply.code}")

    async def _struck(self) -> None:
        cell = self.cell
        signal_file = self.stage.folder / "crash-database"
        peer = await self.stage.start("b", **self._environment()) if self._has_peer() else None
        struck = await self.stage.start(
            "a",
            **self._environment(FAULT_STEP=cell.step, FAULT_KIND=cell.fault, FAULT_SIGNAL=str(signal_file)),
        )
        if cell.pkb:
            await self.stage.client.fault(**dict(cell.pkb))
        self.begun = time.monotonic()
        first = asyncio.create_task(self._ask(struck))
        if cell.fault == "database":
            await self._crash_database(signal_file)
        if cell.fault == "kill":
            self.verdict.first = await first
            await struck.gone(PATIENCE)
            await self._recover(peer or await self.stage.start("c", **self._environment()))
        elif cell.fault == "stall":
            assert peer is not None, "who is stalled has a peer that takes over"
            await self._stalled(struck)
            await self._recover(peer)
            struck.send(signal.SIGCONT)
            self.verdict.first = await first
            await asyncio.sleep(1.0)
        else:
            self.verdict.first = await first
            await self._recover(struck)
        if cell.fault in {"kill", "stall"} and self.stage.apart:
            # What only the chain of the dead process can tell is told when its machine is back.
            await struck.stop()
            await self.stage.start("a", **self._environment())

    def _has_peer(self) -> bool:
        return self.cell.store == "postgresql" or self.cell.fault == "stall"

    async def _stalled(self, node: Node) -> None:
        await until(lambda: _state(node.place.pid), lambda state: state == "T", PATIENCE)

    async def _crash_database(self, asked: Path) -> None:
        await until(lambda: asyncio.to_thread(asked.exists), bool, PATIENCE)
        await asyncio.to_thread(self.database.kill)
        await asyncio.to_thread(self.database.start)

    async def _recover(self, node: Node) -> None:
        """Repeat the request until it has an answer that stays."""
        last = time.monotonic() + PATIENCE
        waits = ("409 request-in-progress", "409 appointment-busy", "503", "504", "202", "Client", "Server")
        while True:
            self.verdict.retry = await self._ask(node)
            if not self.verdict.retry.startswith(waits) or time.monotonic() > last:
                break
            # On the HL7 route a write whose end nobody can find out is closed as unknown, and stays that.
            if self.verdict.retry.startswith("504") and await self._has_ended():
                break
            await asyncio.sleep(0.1)
        self.verdict.recovery = time.monotonic() - self.begun

    async def _has_ended(self) -> bool:
        records = await asyncio.to_thread(self.stage.records)
        intents = of(records, "intent", self.subject.id)
        return all(final_of(records, each["task"]) for each in intents)

    async def _all_ended(self) -> None:
        """Wait until every intent has its end."""
        with contextlib.suppress(AssertionError):
            await until(self._has_ended, bool, PATIENCE)

    async def _pkb_fails(self) -> None:
        node = await self.stage.start("a", **self._environment())
        await self.stage.client.fault(**dict(self.cell.pkb))
        self.begun = time.monotonic()
        self.verdict.first = await self._ask(node)
        await self._recover(node)

    async def _revoked_when_held(self) -> None:
        """The process is stopped once it has the appointment; meanwhile the partner is blocked."""
        struck = self._environment(FAULT_STEP="held", FAULT_KIND="stall", FAULT_LEASE="30")
        node = await self.stage.start("a", **struck)
        self.begun = time.monotonic()
        first = asyncio.create_task(self._ask(node))
        await self._stalled(node)
        await _block(self.stage.store, "swiftbook")
        # From then on no node may honour what it remembers.
        await asyncio.sleep(1.0)
        node.send(signal.SIGCONT)
        self.verdict.first = await first
        self.verdict.retry = await self._ask(node)
        if self.verdict.retry != "403 partner-suspended":
            self.verdict.violations.append(f"a blocked partner was answered {self.verdict.retry}")
        if await self.subject.seen(self.stage.client):
            self.verdict.violations.append("a blocked partner's write was sent")

    async def _changed_after(self) -> None:
        node = await self.stage.start("a", **self._environment())
        self.begun = time.monotonic()
        self.verdict.first = await self._ask(node)
        if self.cell.fault == "revoked":
            await _block(self.stage.store, "swiftbook")
            await asyncio.sleep(1.0)
            self.verdict.retry = await self._ask(node)
            if self.verdict.retry != "403 partner-suspended":
                self.verdict.violations.append(f"a blocked partner was answered {self.verdict.retry}")
            return
        await self._relabel()
        reply = await self.subject.cancel(self.stage.at(node))
        self.verdict.retry = f"{reply.status} {reply.code}".strip()
        if reply.status != 200 or reply.raw:
            self.verdict.violations.append(
                f"what must not be read now was shown: {reply.status}, {len(reply.raw)} bytes"
            )

    async def _relabel(self) -> None:
        client, subject_ = self.stage.client, self.subject
        copy = await client.copy(subject_.id, subject_.customer)
        label = {"system": "http://fhir.patientsknowbest.com/codesystem/privacy-label", "code": "SEXUAL_HEALTH"}
        told = copy.setdefault("meta", {})
        told["security"] = [each for each in told.get("security", []) if each.get("code") != "GENERAL_HEALTH"] + [
            _label_like(told.get("security", []), label)
        ]
        await client.put(subject_.id, copy, customer=subject_.customer)

    async def _two_at_once(self) -> None:
        nodes = [await self.stage.start(name, **self._environment()) for name in ("a", "b")]
        self.begun = time.monotonic()
        other = {} if self.cell.step == "same key" else {"headers": {"Idempotency-Key": f"{self.subject.key}-2"}}
        await self.stage.client.fault(**dict(TAKES_LONG[self.cell.route]))
        both = await asyncio.gather(self._ask(nodes[0]), self._ask(nodes[1], **other))
        self.verdict.first = " / ".join(both)
        await self._recover(nodes[1])

    async def judge(self) -> None:
        """Look at what PKB, the audit streams and the store say in the end."""
        verdict, client = self.verdict, self.stage.client
        await self._all_ended()
        await self._settled()
        await self.stage.close()
        records = self.stage.records()
        seen = await self.subject.seen(client)
        verdict.messages = len(seen)
        intents = of(records, "intent", self.subject.id)
        ends = {each["task"]: final_of(records, each["task"]) for each in intents}
        verdict.finals = [
            f"{end['outcome']}{' recovered' if end['recovered'] else ''}" for told in ends.values() for end in told
        ]
        self._violations(records, intents, ends, len(seen))
        await self._truth(ends)
        await self._chains()

    def _violations(self, records: list[Json], intents: list[Json], ends: dict[str, list[Json]], seen: int) -> None:
        found = self.verdict.violations
        if seen > 1:
            found.append(f"PKB saw {seen} messages")
        for each in intents:
            if len(ends[each["task"]]) != 1:
                found.append(f"an intent has {len(ends[each['task']])} final records")
        stray = [each for each in of(records, "outcome", self.subject.id) if each["task"] not in ends]
        if stray:
            found.append(f"{len(stray)} outcomes without an intent")
        if seen > len(intents):
            found.append("a message without an intent")
        repeated = ("request_id", "correlation_id", "partner", "customer", "appointment", "task", "intent")
        for each in intents:
            for end in ends[each["task"]]:
                wrong = [name for name in repeated if end[name] != (each["seq"] if name == "intent" else each[name])]
                if wrong:
                    found.append(f"an end does not repeat {wrong}")

    async def _truth(self, ends: dict[str, list[Json]]) -> None:
        """The records and the last answer must say what PKB shows."""
        words = {end["outcome"] for told in ends.values() for end in told}
        done = await self.subject.cancelled(self.stage.client)
        found, retry = self.verdict.violations, self.verdict.retry
        if done and "applied" not in words and not (self.cell.route == "hl7" and words & {"unknown", "accepted"}):
            found.append(f"PKB shows it, the records say {sorted(words)}")
        if not done and "applied" in words:
            found.append("the records say applied, PKB does not show it")
        if self.cell.fault in {"revoked", "relabelled"}:
            return
        if self.cell.step == "other key" and done and retry == "409 already-cancelled":
            # Refused before any intent, its key was free again.
            return
        if done and not retry.startswith(("200", "202")) and not (self.cell.route == "hl7" and retry.startswith("504")):
            found.append(f"PKB shows it, the partner's retry got {retry}")
        if not done and retry.startswith("200"):
            found.append("the partner's retry got 200, PKB does not show it")

    async def _settled(self) -> None:
        """Nothing may be left in the store: no open write, no held appointment, no owed record."""
        last = time.monotonic() + PATIENCE
        while True:
            left = await self._left()
            if not left:
                return
            if time.monotonic() > last:
                self.verdict.violations.append(f"left in the store: {left}")
                return
            await asyncio.sleep(0.1)

    async def _left(self) -> list[str]:
        store = await visit_store(self.stage.store, "visitor", timedelta(days=1))
        try:
            unended = [f"{filed.phase.value} {filed.task.id}" for filed in await store.open_writes()]
            return unended + [f"owed {filed.task.id}" for filed in await store.owing()]
        finally:
            await store.close()

    async def _chains(self) -> None:
        folders = sorted(self.stage.folder.glob("audit*"))
        for folder in folders:
            report = await asyncio.to_thread(verify, [folder])
            if report.bad:
                self.verdict.violations.append(f"a chain does not verify: {report.bad[0]}")


def _label_like(security: list[Json], label: Json) -> Json:
    """Give the label in the code system that PKB's copy uses."""
    systems = [each["system"] for each in security if each.get("code") == "GENERAL_HEALTH"]
    return {**label, "system": systems[0]} if systems else label


async def _block(url: str, partner: str) -> None:
    store = await visit_store(url, "visitor", timedelta(days=1))
    try:
        await Blocks(store.database).block(partner, None, "a test", datetime.now(UTC))
    finally:
        await store.close()


async def _state(pid: int) -> str:
    with contextlib.suppress(OSError):
        stat = await asyncio.to_thread(Path(f"/proc/{pid}/stat").read_text, "ascii")
        return stat.rpartition(") ")[2][0]
    return ""


async def run_cell(cell: Cell, stage: Stage, database: Any, guard: str = "") -> Verdict:
    """Play one cell and judge it."""
    verdict = Verdict(cell)
    await stage.client.clear()
    run = Run(cell, stage, await subject(cell.route, stage.client), verdict, guard, database)
    try:
        async with asyncio.timeout(120):
            await run.play()
            await run.judge()
    except Exception as error:  # noqa: BLE001 - a cell that breaks is a violation, whatever broke
        verdict.violations.append(f"{type(error).__name__}: {error}"[:300])
    finally:
        await stage.close()
        await stage.client.clear()
    if verdict.violations:
        logs = [node.log.read_text(encoding="utf-8", errors="replace")[-1500:] for node in stage.nodes]
        verdict.log = "\n".join(logs)
    return verdict
