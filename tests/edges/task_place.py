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
from gateway.flow.store import Filed, Phase
from gateway.flow.tasks import Task
from gateway.storage.journal import Journal, JournalSettings
from gateway.storage.journal_chain import ChainSettings
from gateway.storage.store import Store, open_store
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

    @property
    def url(self) -> str:
        return f"sqlite:///{self.state}"

    def ask(self, question: Callable[[Store], Awaitable[Found]]) -> Found:
        """Do something with the request store, as a gateway that ran and was stopped."""

        async def asked() -> Found:
            store = await open_store(self.url, "gateway", timedelta(days=30))
            try:
                return await question(store)
            finally:
                await store.close()

        return asyncio.run(asked())

    def keep(self, *tasks: Task) -> None:
        async def kept(store: Store) -> None:
            for task in tasks:
                if task.open:
                    await store.restore(Filed(task, Phase.OPEN, "gateway"), [("box", task.appointment)])
                else:
                    await store.end_on_record(task)

        self.ask(kept)

    def filed(self, task: str = "t-1") -> Filed:
        filed = self.ask(lambda store: store.find(task))
        assert filed is not None
        return filed

    def task(self, task: str = "t-1") -> Task:
        return self.filed(task).task

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
