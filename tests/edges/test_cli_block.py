"""The verbs `block` and `unblock`, on a state file and an audit folder of their own, with no secret within reach."""

import asyncio
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import CliRunner, Result

from gateway.cli.main import main
from gateway.storage.blocks import Blocks
from gateway.storage.opening import open_database
from gateway.storage.verification import verify
from tests.edges.grants_files import grants_file
from tests.edges.settings_files import GOOD
from tests.edges.task_place import AUDIT_KEY

GRANTS = """\
[partners.swiftbook]
[customers.airedale]
[customers.airedale-cardiology]
organisation = "airedale"
[customers.bradford]
"""
"""Not good enough for a gateway, but its tables can be told."""
T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """A gateway's files while it does not run."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config" / "gateway.toml"

    @property
    def grants(self) -> Path:
        return self.folder / "config" / "grants.toml"

    @property
    def audit(self) -> Path:
        return self.folder / "var" / "audit"

    @property
    def state(self) -> Path:
        return self.folder / "var" / "state.db"

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(main, [*words, "--config", str(self.config)])

    def block(self, *words: str, by: str = "A Operator") -> Result:
        return self.run("block", *(words or ("swiftbook",)), "--by", by)

    def unblock(self, *words: str, by: str = "A Operator") -> Result:
        return self.run("unblock", *(words or ("swiftbook",)), "--by", by)

    def ask(self, question: Callable[[Blocks], Awaitable[T]]) -> T:
        async def asked() -> T:
            database = await open_database(f"sqlite:///{self.state}")
            try:
                return await question(Blocks(database))
            finally:
                await database.close()

        return asyncio.run(asked())

    @property
    def blocked(self) -> set[tuple[str, str | None]]:
        return set(self.ask(Blocks.blocks))

    @property
    def records(self) -> list[dict[str, Any]]:
        lines = [line for path in sorted(self.audit.glob("*.jsonl")) for line in path.read_bytes().splitlines()]
        return sorted(map(json.loads, lines), key=lambda record: str(record["time"]))

    @property
    def said(self) -> list[list[object]]:
        """What the records of blocks say."""
        names = ("partner", "customer", "decision", "code", "operator")
        return [[record[name] for name in names] for record in self.records if record["event"] == "blocked"]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Files as a gateway leaves them that nobody has used yet."""
    made = Place(tmp_path_factory.mktemp("fresh"))
    made.config.parent.mkdir()
    made.config.write_text(GOOD, encoding="utf-8")
    made.grants.write_text(GRANTS, encoding="utf-8")
    made.audit.mkdir(parents=True)
    assert made.blocked == set()
    return made


@pytest.fixture
def place(tmp_path: Path, fresh: Place) -> Place:
    return Place(shutil.copytree(fresh.folder, tmp_path / "place"))


def test_a_partner_is_blocked_and_that_is_on_record(place: Place) -> None:
    done = place.block()

    assert (done.exit_code, done.stderr) == (0, "note: " + UNSIGNED)
    assert place.blocked == {("swiftbook", None)}
    assert place.said == [["swiftbook", None, "refuse", "partner-suspended", "A Operator"]]
    assert [record["event"] for record in place.records] == ["start", "blocked", "stop"]
    assert not verify([place.audit]).bad
    first, head, row = done.stdout.splitlines()
    assert first == "swiftbook is blocked; every gateway refuses it within a second"
    assert head == "blocked now:"
    assert row.startswith("  swiftbook at every customer, since ")
    assert row.endswith("Z, by A Operator")


UNSIGNED = (
    "this chain of the audit stream is not signed: file:audit.pem cannot be resolved: No such file or directory\n"
)


def test_a_partner_is_blocked_at_one_customer_beside_others(place: Place) -> None:
    place.block("swiftbook", "--customer", "bradford")
    done = place.block("cardiolink", "--customer", "bradford", by=" Jo Bloggs ")

    assert place.blocked == {("swiftbook", "bradford"), ("cardiolink", "bradford")}
    assert place.said[-1] == ["cardiolink", "bradford", "refuse", "no-grant", "Jo Bloggs"]
    assert done.stdout.splitlines()[0].startswith("cardiolink at bradford is blocked; ")
    assert "  swiftbook at bradford, since " in done.stdout


def test_a_block_is_lifted_and_others_stay(place: Place) -> None:
    place.block()
    place.block("swiftbook", "--customer", "bradford")

    done = place.unblock(by="B Operator")

    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == "swiftbook is no longer blocked"
    assert "swiftbook at bradford, since" in done.stdout
    assert place.blocked == {("swiftbook", "bradford")}
    assert place.said[-1] == ["swiftbook", None, "permit", None, "B Operator"]


def test_both_may_be_said_twice(place: Place) -> None:
    place.block()
    again = place.block(by="B Operator")
    assert (again.exit_code, again.stdout.splitlines()[0]) == (
        0,
        "swiftbook is blocked, as before; every gateway refuses it within a second",
    )
    # Who blocked it first is who is asked about it.
    assert again.stdout.endswith("by A Operator\n")
    place.unblock()

    none = place.unblock()

    assert (none.exit_code, none.stdout) == (0, "swiftbook was not blocked\nnobody is blocked\n")
    assert [each[2] for each in place.said] == ["refuse", "refuse", "permit"]


def test_blocks_are_listed_for_people_and_for_programs(place: Place) -> None:
    assert place.run("block", "--list").output == "nobody is blocked\n"
    place.block()
    place.block("cardiolink", "--customer", "bradford")

    (line,) = [each for each in place.run("block", "--list").output.splitlines() if "cardiolink" in each]
    told = json.loads(place.run("block", "--list", "--json").output)

    assert line.startswith("  cardiolink at bradford, since ")
    assert [(each["partner"], each["customer"], each["by"]) for each in told] == [
        ("swiftbook", None, "A Operator"),
        ("cardiolink", "bradford", "A Operator"),
    ]
    assert datetime.now(UTC) - datetime.fromisoformat(told[0]["at"]) < timedelta(minutes=1)


def test_programs_are_told_what_is_so_now_and_whether_it_is_new(place: Place) -> None:
    first, again = (json.loads(place.run("block", "swiftbook", "--by", "A", "--json").stdout) for _ in range(2))
    assert first == {"partner": "swiftbook", "customer": None, "blocked": True, "changed": True}
    assert again == {**first, "changed": False}
    lifted = json.loads(place.run("unblock", "swiftbook", "--by", "A", "--json").stdout)
    assert lifted == {"partner": "swiftbook", "customer": None, "blocked": False, "changed": True}


def test_a_list_of_grants_says_who_is_blocked(place: Place) -> None:
    grants_file(place.config.parent)
    place.block()
    place.block("cardiolink", "--customer", "bradford")

    rows = json.loads(place.run("grants", "list", "--json").stdout)

    assert rows
    assert {row["partner"] for row in rows if row["blocked"]} == {"swiftbook"}
    assert {row["state"] for row in rows if row["partner"] == "swiftbook"} >= {"blocked"}


BROKEN = [
    pytest.param("[partners.swiftbook", "the grants file cannot be read", id="no TOML"),
    pytest.param("", "the grants file cannot be read", id="empty"),
    pytest.param(None, "the grants file cannot be read", id="gone"),
    pytest.param('partners = "none"\n', "knows no partner swiftbook", id="of another shape"),
    pytest.param("[partners.swiftbok]\n", "no partner swiftbook; did you mean swiftbok?", id="misspelt"),
    pytest.param("[partners.swiftbook]\n", "no customer bradford", id="without the customer"),
]


@pytest.mark.parametrize(("grants", "note"), BROKEN)
def test_a_block_is_put_whatever_the_grants_file_says(place: Place, grants: str | None, note: str) -> None:
    place.grants.unlink()
    if grants is not None:
        place.grants.write_text(grants, encoding="utf-8")

    done = place.block("swiftbook", "--customer", "bradford")

    assert done.exit_code == 0
    assert note in done.stderr
    assert place.blocked == {("swiftbook", "bradford")}


def test_teams_with_grants_of_their_own_are_named(place: Place) -> None:
    assert "airedale-cardiology are not blocked" in place.block("swiftbook", "--customer", "airedale").stderr
    assert "not blocked" not in place.block("swiftbook", "--customer", "bradford").stderr


def test_mistakes_in_settings_that_are_not_needed_are_not_in_the_way(place: Place) -> None:
    text = GOOD.replace("[limits]", "[limits]\nnonsense = 1") + "\n[nothing]\nlike = 'it'\n"
    place.config.write_text(text, encoding="utf-8")

    assert place.block().exit_code == 0
    assert place.blocked == {("swiftbook", None)}


WRONG = [
    pytest.param(("block",), "either block PARTNER", id="nothing said"),
    pytest.param(("block", "swiftbook"), "either block PARTNER", id="nobody says so"),
    pytest.param(("block", "--list", "swiftbook"), "either block PARTNER", id="list and block"),
    pytest.param(("block", "Swift Book", "--by", "A"), "cannot be an id", id="no id of a partner"),
    pytest.param(("block", "swiftbook", "--customer", "", "--by", "A"), "must not be empty", id="no id of a customer"),
    pytest.param(("block", "swiftbook", "--by", " "), "--by", id="a name of blanks"),
    pytest.param(("unblock", "swiftbook", "--by", "x" * 101), "--by", id="a name too long"),
    pytest.param(("unblock", "swiftbook", "--by", "A\nB"), "--by", id="a name of two lines"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_what_cannot_be_meant_changes_nothing(place: Place, words: tuple[str, ...], message: str) -> None:
    refused = place.run(*words)

    assert refused.exit_code == 1
    assert message in refused.output
    assert (place.blocked, place.records) == (set(), [])


@pytest.mark.parametrize("signed", [pytest.param(True, id="with its key"), pytest.param(False, id="without")])
def test_the_chain_is_signed_where_the_key_can_be_read(place: Place, *, signed: bool) -> None:
    if signed:
        (place.folder / "config" / "audit.pem").write_text(AUDIT_KEY, encoding="ascii")

    done = place.block()

    assert ("not signed" in done.stderr) is not signed
    assert ("checkpoint" in {record["event"] for record in place.records}) is signed


def test_settings_that_cannot_be_read_are_told_with_the_line(place: Place) -> None:
    place.config.write_text("state = {", encoding="utf-8")

    refused = place.block()

    assert refused.exit_code == 1
    assert f"{place.config}:1" in refused.stderr


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("state.db", "other.db", "there is no state file"),
        ("sqlite:///../var/state.db", "sqlite:", "state.url"),
        ("sqlite:///../var/state.db", "env:NOT_SET_HERE", "there is no such environment variable"),
        ('directory = "../var/audit"', "directory = 7", "audit.directory"),
    ],
    ids=["no state file", "a state that is none", "a state in a secret", "an audit folder that is none"],
)
def test_without_its_places_nothing_is_done(place: Place, old: str, new: str, message: str) -> None:
    assert old in GOOD
    place.config.write_text(GOOD.replace(old, new), encoding="utf-8")

    refused = place.block()

    assert (refused.exit_code, message in refused.output) == (1, True)
    assert (place.blocked, place.records) == (set(), [])


def test_files_of_another_user_are_left_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    refused = place.block()

    assert (refused.exit_code, "belongs to another user" in refused.output) == (1, True)
    assert (place.blocked, place.records) == (set(), [])


def test_a_block_without_an_audit_folder_is_in_force_and_says_that_it_is_not_on_record(place: Place) -> None:
    place.audit.rmdir()

    half = place.block()

    assert half.exit_code == 1
    assert "the block is in force, but it is not on record: the audit folder" in half.stderr
    assert place.blocked == {("swiftbook", None)}
    assert not place.audit.exists()
    nothing = place.unblock()
    assert (nothing.exit_code, place.blocked) == (1, {("swiftbook", None)})
    assert "nothing was changed" in nothing.stderr


def test_a_state_that_is_no_database_is_told(place: Place) -> None:
    for each in place.state.parent.glob("state.db*"):
        each.unlink()
    place.state.write_bytes(b"no database at all, but long enough to be looked at" * 100)

    for refused in (place.block(), place.unblock(), place.run("block", "--list")):
        assert refused.exit_code == 1
        assert refused.stderr.startswith("Error: ")
        assert "state file" in refused.stderr
    assert place.records == []
