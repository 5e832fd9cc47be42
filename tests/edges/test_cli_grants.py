"""`pkb-gateway grants list` and `grants diff`."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli.differences import tell_duration, tell_rate
from gateway.cli.main import main
from gateway.domain.grant import Rate
from tests.edges.grants_files import GOOD, grants_file
from tests.edges.settings_files import settings_file


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["grants", *map(str, arguments)], env={"PSEUDONYM_KEY": ""})


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.toml"
    path.write_text(GOOD)
    return path


def diff(old: Path, text: str, *options: str) -> str:
    new = old.with_name("new.toml")
    new.write_text(text)
    result = run("diff", old, new, *options)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_who_may_do_what_is_listed_with_its_state(tmp_path: Path) -> None:
    grants_file(tmp_path)
    settings_file(tmp_path)
    listed = run("list", "--config", tmp_path / "gateway.toml", "--json")
    assert listed.exit_code == 0, listed.output
    rows = {row["id"]: row for row in json.loads(listed.stdout)}
    assert rows["airedale-swiftbook"]["operations"] == ["read", "change", "cancel"]
    assert (rows["airedale-swiftbook"]["from"], rows["airedale-swiftbook"]["until"]) == ("2026-01-01", "2027-01-01")
    assert (rows["bradford-swiftbook"]["patient"], rows["bradford-swiftbook"]["notice"]) == ("required", "0s")
    assert rows["airedale-swiftbook-trial"]["shadow"] is True
    assert rows["cardiology-viewonly"]["state"] in {"suspended", "ended"}


def test_a_pipe_gets_plain_columns_and_no_settings_are_needed(old: Path) -> None:
    listed = run("list", "--grants", old).stdout.splitlines()
    assert listed[0].split()[:3] == ["customer", "partner", "operations"]
    assert any(line.split()[:2] == ["airedale", "swiftbook"] and "notice 48h" in line for line in listed)


def test_an_empty_file_lets_nobody_do_anything(tmp_path: Path) -> None:
    (tmp_path / "g.toml").write_text("version = 1\n")
    assert run("list", "--grants", tmp_path / "g.toml").stdout == "nobody may do anything\n"


def test_a_loss_is_told_in_words_and_dates(old: Path) -> None:
    swift = GOOD.replace('name = "Airedale NHS Foundation Trust"', 'name = "Airedale"')
    old.write_text(swift)
    whole = swift.replace("until = 2027-01-01\nprivacy", "until = 2026-12-01\nprivacy", 1)
    assert "swiftbook loses cancel at Airedale from 2026-12-01\n" in diff(old, whole)


def test_a_moment_that_is_no_midnight_is_told_with_its_time(old: Path) -> None:
    whole = GOOD.replace("until = 2027-01-01\nprivacy", "until = 2026-12-01T12:00:00Z\nprivacy", 1)
    assert "loses cancel at Airedale NHS Foundation Trust from 2026-12-01T12:00:00+00:00\n" in diff(old, whole)


@pytest.mark.parametrize(
    ("found", "put", "words"),
    [
        ('notice = "48h"', 'notice = "24h"', "must keep a notice of 24h instead of 48h at Airedale NHS"),
        ('within = "90d"', 'within = "30d"', "may move a start by 30d instead of 90d"),
        ('fields = ["start", "end"]', 'fields = ["start", "comment"]', "gains changing the field comment"),
        ('reasons = ["pat", "other"]', 'reasons = ["pat"]', "loses cancelling for the reason other"),
        ('rate = "60/min"\n', "", "may ask as often as its own rate allows instead of 60/min"),
        ('patient = "required"', 'patient = "optional"', "need no longer name the patient"),
        ('specialties = ["394579002", "https://codes.example/own|CARD"]\n', "", "reaches every specialty instead of "),
        ('status = "active"', 'status = "suspended"', "swiftbook is suspended\n"),
        ('"Organization/leeds"', '"Organization/l"', "Leeds is Organization/l to PKB instead of Organization/leeds"),
        ('rate = "600/min"', 'rate = "10/s"', "swiftbook may ask 10/s instead of 600/min\n"),
        ('["read", "change"]', '["read", "change", "cancel"]', "gains cancel at Airedale NHS Foundation Trust from"),
    ],
    ids=[
        "notice", "within", "field", "reason", "rate", "patient", "specialties", "suspended", "source", "own rate",
        "shadow",
    ],
)  # fmt: skip
def test_every_difference_has_its_sentence(old: Path, found: str, put: str, words: str) -> None:
    assert found in GOOD
    output = diff(old, GOOD.replace(found, put, 1))
    assert words in output
    if put == '["read", "change", "cancel"]':
        assert "until 2026-07-01 (shadow only)\n" in output


def test_programs_get_ids_and_dates(old: Path) -> None:
    whole = GOOD.replace('operations = ["read", "change", "cancel"]', 'operations = ["read", "change"]').replace(
        'cancel = { reasons = ["pat", "other"] }\n', ""
    )
    told = json.loads(diff(old, whole, "--json"))
    assert {(each["partner"], each["customer"], each["what"], each["name"]) for each in told} == {
        ("swiftbook", "airedale", "operation", "cancel"),
        ("swiftbook", "bradford", "operation", "cancel"),
    }
    assert {(each["before"], each["after"], each["from"]) for each in told} == {(True, None, "2026-01-01")}


def test_the_same_said_otherwise_is_no_difference(old: Path) -> None:
    head, *grants = GOOD.split("[[grants]]")
    turned = head + "".join(f"[[grants]]{each}\n" for each in reversed(grants))
    assert diff(old, turned.replace('notice = "48h"', 'notice = "2d"')) == "nobody gains or loses anything\n"
    assert json.loads(diff(old, turned, "--json")) == []


def test_a_file_with_a_mistake_is_told_by_its_line(old: Path) -> None:
    bad = old.with_name("bad.toml")
    bad.write_text(GOOD.replace('"cancel"', '"cancle"', 1))
    result = run("diff", old, bad)
    assert result.exit_code == 1
    assert f"{bad}:54: grants[0].operations[2]: " in result.stderr


def test_amounts_are_written_as_in_the_file() -> None:
    hours = [tell_duration(timedelta(hours=each)) for each in (0, 48, 90 * 24)]
    assert [*hours, tell_duration(timedelta(minutes=90)), tell_duration(timedelta(milliseconds=250))] == [
        "0s", "48h", "90d", "90m", "250ms",
    ]  # fmt: skip
    assert [tell_rate(Rate(5, each)) for each in (1, 60, 3600)] == ["5/s", "5/min", "5/h"]
