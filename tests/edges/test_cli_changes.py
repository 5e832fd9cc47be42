"""`pkb-gateway changes`, on an audit folder of its own."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli.main import main
from gateway.domain.pseudonym import Pseudonyms
from gateway.flow import records
from tests.domain.test_changes import ended, record
from tests.edges.grants_files import grants_file
from tests.edges.settings_files import GOOD, settings_file
from tests.makers import NOW, appointment, instant, move

VEIL = Pseudonyms("k1", b"0123456789abcdef")


def intent(**changes: Any) -> dict[str, Any]:
    """What the journal has of a move."""
    told = records._changes(move(NOW), appointment(comment="Ring the bell"), VEIL)
    return {
        **record("intent", customer="airedale"),
        "operation": "change",
        "appointment": "a-1",
        "partner": "swiftbook",
        "reason": None,
        "request_id": "r-1",
        "change": told,
        "facts": {"owner": ["airedale"], "start": "2026-07-01T09:00:00+00:00"},
        **changes,
    }


UPSTREAM = {"version_before": "7", "version_after": "8"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    grants_file(tmp_path)
    settings_file(tmp_path, GOOD.replace('directory = "../var/audit"', 'directory = "audit"'))
    (tmp_path / "audit").mkdir()
    return tmp_path


def stream(place: Path, *lines: dict[str, Any] | str) -> None:
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    (place / "audit" / "c.jsonl").write_text(text)


def run(place: Path, *options: str, customer: str = "airedale", since: str = "2026-06-01") -> Result:
    asked = ["changes", "--customer", customer, "--since", since, "--config", str(place / "gateway.toml")]
    return CliRunner().invoke(main, [*asked, *options], env={"PSEUDONYM_KEY": ""})


def test_a_move_is_listed_with_its_times_in_the_customers_zone(place: Path) -> None:
    stream(place, intent(), {**ended("applied"), "upstream": UPSTREAM})
    (told,) = json.loads(run(place, "--json").stdout)
    assert (told["appointment"], told["outcome"], told["version_after"]) == ("a-1", "applied", "8")
    assert (told["start_before"], told["start_after"]) == ("2026-07-01T10:00:00+01:00", "2026-06-01T10:00:00+01:00")
    assert told["changed"] == "start, end"


def test_texts_are_never_told(place: Path) -> None:
    said = records._changes(move(NOW, comment="=HYPERLINK(1)"), appointment(), VEIL)
    stream(place, intent(change=said), {**ended("applied"), "upstream": UPSTREAM})
    for options in ([], ["--csv"], ["--json"]):
        result = run(place, *options)
        assert result.exit_code == 0, result.output
        assert "HYPERLINK" not in result.output
    assert "comment (13 characters, k1:" in run(place, "--csv").stdout


def test_a_spreadsheet_gets_rows_and_no_formula(place: Path) -> None:
    stream(place, intent(appointment="-2+3"), {**ended("accepted", final=False), "upstream": None})
    (row,) = csv.DictReader(io.StringIO(run(place, "--csv").stdout))
    assert (row["appointment"], row["final"], row["outcome"], row["version_after"]) == (
        "'-2+3",
        "false",
        "accepted",
        "",
    )


def test_a_pipe_gets_plain_columns(place: Path) -> None:
    stream(place, intent(), {**ended("applied"), "upstream": UPSTREAM})
    head, row = run(place).stdout.splitlines()
    assert head.split()[:3] == ["time", "operation", "appointment"]
    assert row.split()[1:5] == ["change", "a-1", "swiftbook", "applied"]


def test_what_nobody_knows_is_named_beside(place: Path) -> None:
    stream(place, intent(), {**ended("unknown", final=False), "upstream": UPSTREAM}, '{"event":"intent"')
    result = run(place)
    assert result.stdout == "nothing was changed\n"
    assert "of 1 more nobody knows whether they happened: a-1" in result.stderr
    assert "1 lines are no records" in result.stderr


def test_a_customer_that_is_gone_can_still_be_asked_about(place: Path) -> None:
    stream(place, intent(facts={"owner": ["gone"], "start": instant(NOW).text}), ended("applied"))
    assert "knows no customer 'gone'" in run(place, customer="gone").stderr
    (place / "grants.toml").write_text("version = ")
    assert "the grants file has mistakes" in run(place, customer="gone").stderr


@pytest.mark.parametrize(
    ("options", "since"),
    [pytest.param(["--csv", "--json"], "2026-06-01", id="two forms"), pytest.param([], "yesterday", id="no date")],
)
def test_what_is_not_understood_ends_with_status_1(place: Path, options: list[str], since: str) -> None:
    assert run(place, *options, since=since).exit_code == 1


def test_a_folder_that_is_not_there_is_said(place: Path) -> None:
    (place / "audit").rmdir()
    assert "the audit stream cannot be read" in run(place).stderr
