"""A state file and an audit folder of their own, for tests of the verbs that end a write."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.cli.main import main
from gateway.domain.grant import Operation
from gateway.domain.outcome import TaskStatus
from gateway.flow.tasks import Task
from gateway.storage.journal import Journal, JournalSettings
from gateway.storage.journal_chain import ChainSettings
from gateway.storage.state import Claim, State
from gateway.storage.task_book import read_task, write_task
from tests.edges.settings_files import GOOD

NOW = datetime.now(UTC).replace(microsecond=0)
REPEATED = {
    "request_id": "r-1",
    "correlation_id": "c-1",
    "grant": "airedale-swiftbook",
    "grants_digest": "d",
    "intent": 7,
    "upstream": {"route": "box", "status": None, "collateral": []},
}
UNKNOWN = Task(
    "t-1",
    "swiftbook",
    "airedale",
    "a-1",
    Operation.CANCEL,
    TaskStatus.IN_PROGRESS,
    NOW - timedelta(hours=26, minutes=5),
    NOW - timedelta(hours=26),
    "outcome-unknown",
    "unknown",
    repeated=REPEATED,
)
ENDED = replace(UNKNOWN, id="t-2", status=TaskStatus.COMPLETED, code=None, outcome="applied", version="8")
AUDIT_KEY = (
    Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode()
)
Found = TypeVar("Found")


@dataclass(frozen=True)
class Place:
    """A gateway's files while it does not run."""

    folder: Path

    @property
    def audit(self) -> Path:
        return self.folder / "var" / "audit"

    @property
    def state(self) -> Path:
        return self.folder / "var" / "state.db"

    def run(self, *words: str) -> Result:
        config = str(self.folder / "config" / "gateway.toml")
        return CliRunner().invoke(main, ["tasks", *words, "--config", config])

    def resolve(self, task: str = "t-1", outcome: str = "rejected", by: str = "A Operator") -> Result:
        return self.run("resolve", task, "--outcome", outcome, "--by", by)

    def ask(self, question: Callable[[State], Awaitable[Found]]) -> Found:
        """Do something with the state file."""

        async def asked() -> Found:
            state = await State.open(f"sqlite:///{self.state}")
            try:
                return await question(state)
            finally:
                await state.close()

        return asyncio.run(asked())

    def keep(self, *tasks: Task) -> None:
        for task in tasks:
            self.ask(
                lambda state, task=task: state.keep_task(  # type: ignore[misc] # mypy infers no defaults of a lambda
                    task.id, write_task(task), task.updated, ended=not task.open
                )
            )

    def claim(self, by: str, age: timedelta) -> None:
        assert self.ask(lambda state: state.claim_task("t-1", "", Claim(by, NOW - age)))

    def task(self, task: str = "t-1") -> Task:
        kept = self.ask(lambda state: state.find_task(task))
        assert kept is not None
        return read_task(kept.body)

    def write(self, *records: dict[str, Any]) -> None:
        """Put records into the audit stream, as a process that died would have."""

        async def written() -> None:
            journal = await Journal.open(JournalSettings(ChainSettings(self.audit)), clock=lambda: datetime.now(UTC))
            for record in records:
                await journal.write(record)
            await journal.close()

        asyncio.run(written())

    @property
    def records(self) -> list[dict[str, Any]]:
        lines = [line for path in sorted(self.audit.glob("*.jsonl")) for line in path.read_bytes().splitlines()]
        return [json.loads(line) for line in lines]

    def of(self, event: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["event"] == event]


def make_place(folder: Path) -> Place:
    (folder / "config").mkdir()
    (folder / "config" / "gateway.toml").write_text(GOOD, encoding="utf-8")
    made = Place(folder)
    made.keep(UNKNOWN, ENDED)
    return made
