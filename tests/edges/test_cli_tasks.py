"""The verbs `tasks list` and `tasks resolve`, on a state file and an audit folder of their own."""

import json
import os
from pathlib import Path

import pytest

from gateway.cli import tasks as verb
from gateway.domain.outcome import TaskStatus
from gateway.storage.verification import verify
from tests.edges.settings_files import GOOD
from tests.edges.task_place import AUDIT_KEY, ENDED, REPEATED, UNKNOWN, Place, make_place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


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
    assert (told["t-1"]["phase"], told["t-2"]["phase"]) == ("open", "ended")
    assert told["t-1"]["age_seconds"] == pytest.approx(26 * 3600 + 300, abs=1800)


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


def test_a_server_that_cannot_be_reached_is_told_without_its_password(place: Place) -> None:
    address = "postgresql://gateway:s3cret@127.0.0.1:1/store"
    text = GOOD.replace('"sqlite:///../var/state.db"', '"file:state-url"')
    (place.folder / "config" / "gateway.toml").write_text(text, encoding="utf-8")
    (place.folder / "config" / "state-url").write_text(address, encoding="utf-8")
    (place.folder / "config" / "state-url").chmod(0o600)

    for told in (place.run("list"), place.resolve()):
        assert told.exit_code == 1
        assert "PostgreSQL" in told.output
        assert "s3cret" not in told.output


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
        assert "the state file cannot" in told.output


def test_another_user_leaves_no_files_that_the_gateway_could_not_open(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)

    refused = place.resolve()

    assert refused.exit_code == 1
    assert "run this as the user that runs the gateway" in refused.output
    assert place.records == []


def test_an_audit_folder_that_cannot_be_used_leaves_the_task_open(place: Place) -> None:
    place.audit.parent.mkdir(exist_ok=True)
    place.audit.write_text("a file", encoding="utf-8")

    refused = place.resolve()

    assert refused.exit_code == 1
    assert "cannot resolve" in refused.output
    place.audit.unlink()
    assert place.resolve().exit_code == 0
