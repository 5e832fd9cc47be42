"""The verbs `tasks list` and `tasks resolve`, on a state file and an audit folder of their own."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.cli import tasks as verb
from gateway.cli.main import main
from gateway.domain.grant import Operation
from gateway.domain.outcome import TaskStatus
from gateway.flow.tasks import Task
from gateway.storage.journal import Journal, JournalSettings
from gateway.storage.journal_chain import ChainSettings
from gateway.storage.resolution import LEFT_AFTER, NotResolved, Resolution, alone, resolve
from gateway.storage.state import Claim, State
from gateway.storage.task_book import PROCESS, TaskBook, read_task, write_task
from gateway.storage.verification import verify
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


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "gateway.toml").write_text(GOOD, encoding="utf-8")
    made = Place(tmp_path)
    made.keep(UNKNOWN, ENDED)
    return made


def test_open_tasks_are_listed_with_what_a_person_needs_to_find_them(place: Place) -> None:
    listed = place.run("list")

    assert listed.exit_code == 0
    head, row = listed.output.splitlines()
    assert head.split() == [
        "id", "partner", "customer", "appointment", "operation", "status", "outcome", "age", "requested",
    ]  # fmt: skip
    requested = UNKNOWN.requested.isoformat().replace("+00:00", "Z")
    assert row.split() == [
        "t-1", "swiftbook", "airedale", "a-1", "cancel", "in-progress", "unknown", "1d", "2h", requested,
    ]  # fmt: skip


def test_ended_ones_are_listed_when_asked_for_and_as_json(place: Place) -> None:
    listed = place.run("list", "--all", "--json")

    told = {each["id"]: each for each in json.loads(listed.output)}
    assert list(told) == ["t-1", "t-2"]
    assert (told["t-2"]["status"], told["t-2"]["outcome"]) == ("completed", "applied")
    assert told["t-1"]["age_seconds"] == pytest.approx(26 * 3600 + 300, abs=60)


def test_nothing_open_is_said_so(place: Place) -> None:
    place.resolve()

    assert place.run("list").output == "no open tasks\n"
    assert json.loads(place.run("list", "--json").output) == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        pytest.param(-5, "0m 0s", id="a clock set back"),
        pytest.param(61, "1m 1s", id="minutes"),
        pytest.param(3 * 3600 + 119, "3h 1m", id="hours"),
        pytest.param(14 * 86400 + 3600, "14d 1h", id="days"),
    ],
)
def test_an_age_is_told_in_its_two_largest_units(seconds: int, words: str) -> None:
    assert verb._span(seconds) == words


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [("rejected", TaskStatus.REJECTED, "upstream-refused"), ("applied", TaskStatus.COMPLETED, None)],
)
def test_a_resolution_is_on_record_and_ends_the_task(
    place: Place, outcome: str, status: TaskStatus, code: str | None
) -> None:
    done = place.resolve(outcome=outcome)

    assert done.exit_code == 0, done.output
    events = [record["event"] for record in place.records]
    assert events == ["start", "task-resolved", "outcome", "stop"]
    said, end = place.of("task-resolved")[0], place.of("outcome")[0]
    for record in (said, end):
        assert {name: record[name] for name in REPEATED} == REPEATED
        names = ("partner", "customer", "appointment", "task", "operation", "operator", "outcome", "patient")
        assert [record[name] for name in names] == [
            "swiftbook", "airedale", "a-1", "t-1", "cancel", "A Operator", outcome, None,
        ]  # fmt: skip
    assert (end["final"], end["recovered"], end["code"]) == (True, True, code)
    assert said["final"] is None
    ended = place.task()
    assert (ended.status, ended.outcome, ended.code, ended.version) == (status, outcome, code, None)
    assert not verify([place.audit]).bad


BAD = [
    pytest.param({"task": "nobody"}, "no Task nobody", id="an unknown id"),
    pytest.param({"task": "t-2"}, "has ended: applied", id="one that has ended"),
    pytest.param({"outcome": "unknown"}, "applied or rejected", id="an outcome nobody can say"),
    pytest.param({"by": "  "}, "--by", id="nobody says so"),
    pytest.param({"by": "x" * 101}, "--by", id="a name too long"),
    pytest.param({"by": "A\nB"}, "--by", id="a name of two lines"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_what_cannot_be_resolved_writes_nothing(place: Place, words: dict[str, str], message: str) -> None:
    refused = place.resolve(**words)

    assert refused.exit_code == 1
    assert message in refused.output
    assert place.records == []
    assert [place.task(), place.task("t-2")] == [UNKNOWN, ENDED]


@pytest.mark.parametrize("signed", [pytest.param(True, id="with its key"), pytest.param(False, id="without")])
def test_the_chain_is_signed_where_the_key_can_be_read(place: Place, *, signed: bool) -> None:
    if signed:
        (place.folder / "config" / "audit.pem").write_text(AUDIT_KEY, encoding="ascii")

    done = place.resolve()

    assert done.exit_code == 0
    assert ("not signed" in done.output) is not signed
    assert bool(place.of("checkpoint")) is signed


def test_without_an_audit_key_in_the_settings_nobody_misses_it(place: Place) -> None:
    text = GOOD.replace('signing_key = "file:audit.pem"\n', "")
    (place.folder / "config" / "gateway.toml").write_text(text, encoding="utf-8")

    done = place.resolve()

    assert (done.exit_code, "not signed" in done.output) == (0, False)


def test_a_state_that_is_no_file_is_refused(place: Place) -> None:
    text = GOOD.replace("sqlite:///../var/state.db", "postgresql://host/database")
    (place.folder / "config" / "gateway.toml").write_text(text, encoding="utf-8")

    refused = place.resolve()

    assert (refused.exit_code, "state.url" in refused.output) == (1, True)


def test_a_name_is_recorded_without_the_spaces_around_it(place: Place) -> None:
    place.resolve(by=" Jo Bloggs ")

    assert place.of("outcome")[0]["operator"] == "Jo Bloggs"


def test_a_second_resolution_is_refused(place: Place) -> None:
    place.resolve()

    again = place.resolve(outcome="applied")

    assert again.exit_code == 1
    assert "Error: Task t-1 has ended: rejected\n" in again.output
    assert len(place.of("outcome")) == 1


def test_mistakes_in_the_settings_are_told(place: Place) -> None:
    (place.folder / "config" / "gateway.toml").write_text("grants = 7\n", encoding="utf-8")

    for told in (place.run("list"), place.resolve()):
        assert told.exit_code == 1
        assert "gateway.toml:1: grants" in told.output


def test_no_state_file_is_made(place: Place) -> None:
    place.state.unlink()

    for told in (place.run("list"), place.resolve()):
        assert told.exit_code == 1
        assert "there is no state file" in told.output
    assert not place.state.exists()


def test_a_file_that_is_no_state_file_is_told(place: Place) -> None:
    for path in place.state.parent.glob("state.db*"):
        path.unlink()
    place.state.write_bytes(b"not a database" * 100)

    for told in (place.run("list"), place.resolve()):
        assert told.exit_code == 1
        assert "the state file cannot be used" in told.output


def test_another_user_leaves_no_files_that_the_gateway_could_not_open(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)

    refused = place.resolve()

    assert refused.exit_code == 1
    assert "run this as the user that runs the gateway" in refused.output
    assert place.records == []


def test_an_audit_folder_that_cannot_be_used_leaves_the_task_unclaimed(place: Place) -> None:
    place.audit.parent.mkdir(exist_ok=True)
    place.audit.write_text("a file", encoding="utf-8")

    refused = place.resolve()

    assert refused.exit_code == 1
    assert "cannot resolve" in refused.output
    place.audit.unlink()
    assert place.resolve().exit_code == 0


def test_two_persons_take_turns(place: Place) -> None:
    with alone(place.state):
        refused = place.resolve()
    assert (refused.exit_code, "under way" in refused.output) == (1, True)
    assert place.resolve().exit_code == 0


# What a process left behind that died


def test_a_gateway_that_is_about_to_end_it_is_left_to_it(place: Place) -> None:
    place.claim(f"{PROCESS}7", timedelta(seconds=1))

    refused = place.resolve()

    assert refused.exit_code == 1
    assert "about to end" in refused.output
    assert place.records == []
    assert f"t-1: claimed by {PROCESS}7" in place.run("list").output


@pytest.mark.parametrize(
    ("by", "age"),
    [
        pytest.param(f"{PROCESS}7", LEFT_AFTER + timedelta(seconds=5), id="a gateway"),
        pytest.param("person B Operator", timedelta(seconds=1), id="a person"),
    ],
)
def test_what_somebody_claimed_and_never_recorded_is_finished(place: Place, by: str, age: timedelta) -> None:
    about = {"task": "t-1", "event": "outcome"}
    place.write({**about, "final": False, "outcome": "unknown"}, {**about, "task": "t-10", "final": True})
    place.claim(by, age)

    done = place.resolve()

    assert done.exit_code == 0, done.output
    assert [record["outcome"] for record in place.of("outcome") if record["final"] and record["task"] == "t-1"] == [
        "rejected"
    ]
    assert not place.task().open


@pytest.mark.parametrize(
    ("recorded", "status", "code"),
    [
        pytest.param("rejected", TaskStatus.REJECTED, 0, id="as it is said now"),
        pytest.param("applied", TaskStatus.COMPLETED, 1, id="as applied"),
        pytest.param("accepted", TaskStatus.COMPLETED, 1, id="as accepted"),
        pytest.param("unknown", TaskStatus.FAILED, 1, id="as unknown"),
    ],
)
def test_an_end_that_is_on_record_already_is_not_recorded_again(
    place: Place, recorded: str, status: TaskStatus, code: int
) -> None:
    place.write({"event": "outcome", "task": "t-1", "final": True, "outcome": recorded})
    place.claim("person B Operator", timedelta(0))

    done = place.resolve()

    assert done.exit_code == code
    assert ("on record already" in done.output) is bool(code)
    assert [record["outcome"] for record in place.of("outcome")] == [recorded]
    assert place.of("task-resolved") == []
    assert (place.task().status, place.task().outcome) == (status, recorded)


def test_of_gateways_and_persons_at_the_same_moment_one_ends_the_write(place: Place) -> None:
    url = f"sqlite:///{place.state}"

    async def open_journal() -> Journal:
        return await Journal.open(JournalSettings(ChainSettings(place.audit)), clock=lambda: datetime.now(UTC))

    async def person(task: str) -> bool:
        state = await State.open(url)
        try:
            await resolve(Resolution(task, "applied", "A Operator", NOW), state, place.audit, open_journal)
        except NotResolved:
            return False
        finally:
            await state.close()
        return True

    async def race() -> list[list[bool]]:
        states = [await State.open(url) for _ in range(2)]
        books = [TaskBook(state, timedelta(days=30), lambda _: None) for state in states]
        rounds = []
        for number in range(8):
            task = replace(UNKNOWN, id=f"r-{number}")
            await books[0].put(task)
            await books[0].close()
            seen = replace(ENDED, id=task.id, updated=NOW)
            tries = (books[0].claim(seen), person(task.id), books[1].claim(seen))
            # Each gets its chance to come first.
            order = [tries[(number + n) % 3] for n in range(3)]
            rounds.append(await asyncio.gather(*order))
        for state in states:
            await state.close()
        return rounds

    rounds = asyncio.run(race())

    assert [sum(won) for won in rounds] == [1] * 8
    by_persons = sum(won[(1 - number) % 3] for number, won in enumerate(rounds))
    assert len(place.of("outcome")) == len(place.of("task-resolved")) == by_persons


def test_a_gateway_that_claims_it_at_the_last_moment_is_left_to_it(place: Place) -> None:
    async def person(state: State) -> None:
        async def open_journal() -> Journal:
            await TaskBook(state, timedelta(days=30), lambda _: None).claim(replace(UNKNOWN, updated=NOW))
            return await Journal.open(JournalSettings(ChainSettings(place.audit)), clock=lambda: datetime.now(UTC))

        with pytest.raises(NotResolved, match="just ended it itself"):
            await resolve(Resolution("t-1", "applied", "A Operator", NOW), state, place.audit, open_journal)

    place.ask(person)

    assert [record["event"] for record in place.records] == ["start", "stop"]
    assert place.task() == UNKNOWN
