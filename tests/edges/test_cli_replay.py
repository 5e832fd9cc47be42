"""`pkb-gateway grants replay` on audit files."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import replay
from gateway.cli.main import main
from gateway.configuration.grants import GrantsReader
from tests.domain.test_replay import decided
from tests.edges.grants_files import GOOD
from tests.makers import cancel


@pytest.fixture
def place(tmp_path: Path) -> Path:
    same = GOOD.replace('patient = "required"', 'patient = "optional"')
    (tmp_path / "same.toml").write_text(same)
    (tmp_path / "new.toml").write_text(same.replace('specialties = ["394579002"', 'specialties = ["394582007"'))
    return tmp_path


def stream(place: Path, *records: dict[str, Any] | str, name: str = "chain-1.jsonl") -> None:
    lines = [each if isinstance(each, str) else json.dumps({"chain": "c", "seq": 1, **each}) for each in records]
    (place / name).write_text("".join(f"{line}\n" for line in lines))


def run(place: Path, against: str, *options: str) -> Result:
    return CliRunner().invoke(main, ["grants", "replay", "--against", str(place / against), *options, str(place)])


def test_every_decision_that_would_flip_is_told(place: Path) -> None:
    stream(place, decided(cancel()), decided(cancel(), event="outcome"), {"event": "start", "partner": None})
    result = run(place, "new.toml")
    assert result.exit_code == 0, result.output
    first, total = result.stdout.splitlines()
    assert first == (
        "2026-06-01T09:00:00.000000Z swiftbook cancel a-1 at airedale: was permitted, "
        "would be refused (not-found) [c 1]"
    )
    assert total == "1 requests: 1 would flip, 0 refused for another reason, 0 undecided, 0 as before"
    assert "decisions/s" in result.stderr


def test_without_a_flip_the_status_is_the_same(place: Path) -> None:
    stream(place, decided(cancel()), decided(cancel(), event="search", facts=None))
    result = run(place, "same.toml")
    assert result.exit_code == 0
    assert result.stdout == "2 requests: 0 would flip, 0 refused for another reason, 1 undecided, 1 as before\n"


@pytest.mark.parametrize(("against", "flips"), [("new.toml", 2), ("same.toml", 0)], ids=["some flips", "none"])
def test_programs_get_one_object(place: Path, against: str, flips: int) -> None:
    stream(place, decided(cancel()))
    stream(place, decided(cancel()), name="chain-2.jsonl")
    told = json.loads(run(place, against, "--json").stdout)
    assert (told["requests"], told["flipped"], len(told["flips"])) == (2, flips, flips)
    for flip in told["flips"]:
        assert flip["before"]["decision"] == "permit"
        assert flip["after"] == {"decision": "refuse", "code": "not-found", "grant": "airedale-swiftbook"}


def test_lines_that_are_no_records_are_counted_and_left_out(place: Path) -> None:
    stream(place, '{"event":"read"', '{"event":"read","partner":"p","customer":"c"}', "[]", decided(cancel()))
    result = run(place, "same.toml")
    assert "1 requests:" in result.stdout
    assert "3 lines are no records" in result.stderr


def test_who_was_never_known_is_no_request_to_decide(place: Path) -> None:
    stream(place, decided(cancel(), event="refused", partner=None))
    assert run(place, "same.toml").stdout.startswith("0 requests")


@pytest.mark.parametrize("missing", ["audit", "grants"])
def test_what_is_not_there_is_said(place: Path, missing: str) -> None:
    if missing == "grants":
        stream(place, decided(cancel()))
    result = run(place, "none.toml" if missing == "grants" else "new.toml")
    assert result.exit_code == 1


def test_several_processes_tell_what_one_tells_in_the_same_order(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every few lines are a part of their own, and most parts begin in the middle of one.
    monkeypatch.setattr(replay, "_STEP", 3_000)
    for name in "ab":
        records = [decided(cancel()) | {"request_id": f"{name}-{n}", "seq": n} for n in range(40)]
        stream(place, *records, "half a li", name=f"{name}.jsonl")
    policy = GrantsReader(place / "new.toml", secrets=False, key_files=False).load().policy
    files = sorted(place.glob("*.jsonl"))
    told: list[list[Any]] = [[], []]
    done: list[int] = []
    alone = replay.replay_files(files, policy, told[0].append, done.append, processes=1)
    shared = replay.replay_files(files, policy, told[1].append, processes=2)
    assert alone == shared
    assert (alone.requests, alone.unreadable, len(told[0])) == (80, 2, 80)
    assert told[0] == told[1]
    assert [each["request_id"] for each in told[0]] == [f"{name}-{n}" for name in "ab" for n in range(40)]
    assert sum(done) == sum(path.stat().st_size for path in files)


def test_a_record_that_only_python_reads_is_read(place: Path) -> None:
    stream(place, json.dumps({"chain": "c", "seq": 1, **decided(cancel()), "later": float("nan")}))
    assert "1 requests: 1 would flip" in run(place, "new.toml").stdout
