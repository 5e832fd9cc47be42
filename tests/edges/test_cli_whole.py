"""The command line as a whole: grouped help, JSON of every verb, completion, and one sentence for what goes wrong."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import BashComplete, CompletionItem
from click.testing import CliRunner

from gateway.cli.main import main
from gateway.cli.verbs import SECTIONS
from tests.edges.grants_files import GOOD, grants_file
from tests.edges.settings_files import settings_file

WITHOUT_JSON = {
    "serve": "its log is JSON",
    "sandbox": "it writes sandbox.json",
    "audit tail": "records are JSON",
    "audit export": "its formats are for programs",
}


def verbs(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            below = command.get_command(context, word)
            assert below is not None
            yield from verbs(below, f"{name} {word}".strip())
    else:
        yield name, command


VERBS = dict(verbs(main))


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "gateway", *map(str, words)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False, timeout=60)


def completed(*words: str, incomplete: str = "") -> list[str]:
    items: list[CompletionItem] = BashComplete(main, {}, "pkb-gateway", "_PKB_GATEWAY_COMPLETE").get_completions(
        list(words), incomplete
    )
    return [item.value for item in items]


def test_help_tells_the_verbs_by_what_one_wants_to_do() -> None:
    told = CliRunner().invoke(main, ["--help"]).output
    assert [title for title in SECTIONS if f"\n{title}:\n" not in told] == []
    assert re.findall(r"^  (\w+) +[A-Z]", told, re.MULTILINE) == [name for each in SECTIONS.values() for name in each]


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_talks_to_programs_but_those_that_need_not(name: str) -> None:
    options = {word for option in VERBS[name].params for word in option.opts}
    assert ("--json" in options) != (name in WITHOUT_JSON)


def test_a_verb_that_does_not_exist_is_not_understood() -> None:
    told = CliRunner().invoke(main, ["no-such-verb"])
    assert (told.exit_code, "No such command 'no-such-verb'" in told.output) == (2, True)


def test_the_shell_completes_ids_out_of_the_grants_file_that_the_settings_name(tmp_path: Path) -> None:
    grants_file(tmp_path)
    settings_file(tmp_path)
    config = ("--config", str(tmp_path / "gateway.toml"))
    assert completed("explain", *config, "--partner", incomplete="s") == ["swiftbook"]
    assert "airedale" in completed("changes", *config, "--customer")
    assert completed("block", *config, incomplete="swift") == ["swiftbook"]
    (tmp_path / "grants.toml").write_text(GOOD + "\n[[grants", encoding="utf-8")
    assert completed("unblock", *config, incomplete="swift") == ["swiftbook"], "a mistake in the file is no matter"


@pytest.mark.parametrize("content", [None, "", "grants = 7\n", 'grants = "gone.toml"\n', "\xff"])
def test_where_there_is_nothing_to_complete_from_the_shell_stays_silent(
    content: str | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "gateway.toml"
    if content is not None:
        config.write_bytes(content.encode("latin-1"))
    assert completed("explain", "--config", str(config), "--partner") == []
    assert capfd.readouterr() == ("", "")


def test_partners_of_a_sandbox_are_completed(tmp_path: Path) -> None:
    told = tmp_path / "sandbox.json"
    told.write_text(json.dumps({"partners": {"swiftbook": {}, "viewonly": {}}}), encoding="utf-8")
    assert completed("token", "--sandbox", str(told), "--partner", incomplete="v") == ["viewonly"]
    assert completed("token", "--sandbox", str(told.with_name("gone")), "--partner") == []


def unreadable(folder: Path) -> Iterator[tuple[str, Path]]:
    (folder / "folder").mkdir()
    (folder / "bytes").write_bytes(b"\xff\xfe\x00")
    (folder / "syntax").write_text("x = [\n", encoding="utf-8")
    yield from ((name, folder / name) for name in ("gone", "folder", "bytes", "syntax"))


ASKED: dict[str, tuple[str, ...]] = {
    "serve": ("serve", "--config", "@"),
    "check": ("check", "--config", "@"),
    "check grants": ("check", "--grants", "@"),
    "explain": ("explain", "--partner=a", "--customer=b", "--operation=read", "--appointment=@", "--config", "@"),
    "grants list": ("grants", "list", "--config", "@"),
    "grants list file": ("grants", "list", "--grants", "@"),
    "grants diff": ("grants", "diff", "@", "@"),
    "grants replay": ("grants", "replay", "--against", "@", "@"),
    "changes": ("changes", "--customer=a", "--since=2026-01-01", "--config", "@"),
    "token": ("token", "--sandbox", "@", "--partner=a"),
    "block": ("block", "a", "--by=b", "--config", "@"),
    "block list": ("block", "--list", "--config", "@"),
    "unblock": ("unblock", "a", "--by=b", "--config", "@"),
    "tasks list": ("tasks", "list", "--config", "@"),
    "tasks resolve": ("tasks", "resolve", "a", "--outcome=applied", "--by=b", "--config", "@"),
    "selftest": ("selftest", "--against=http://127.0.0.1:1", "--token-file", "@"),
    "audit tail": ("audit", "tail", "--config", "@", "--no-follow"),
}


@pytest.mark.parametrize("words", ASKED.values(), ids=list(ASKED))
def test_a_file_that_is_no_use_is_told_in_a_sentence_and_never_with_a_traceback(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    for name, path in unreadable(tmp_path):
        told = CliRunner().invoke(main, [word.replace("@", str(path)) for word in words])
        raised = told.exception
        assert raised is None or isinstance(raised, SystemExit), (name, raised)
        assert told.exit_code in {1, 2}, name
        assert len(told.output.strip().splitlines()) <= 6, told.output
        assert told.output.strip(), name


def test_what_the_system_refuses_is_told_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", "/etc/shadow")

    monkeypatch.setattr("gateway.cli.selftest._checked", refuse)
    told = CliRunner().invoke(main, ["selftest", "--against", "http://127.0.0.1:1"])
    assert (told.exit_code, told.output) == (1, "Error: /etc/shadow: Permission denied\n")


def test_a_reader_that_has_had_enough_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "grants.toml"
    path.write_text(GOOD, encoding="utf-8")
    script = f'"{sys.executable}" -m gateway grants list --grants "{path}" | true'
    ran = subprocess.run(["bash", "-c", script], capture_output=True, check=False, timeout=60)
    assert ran.stderr == b""


def test_a_terminal_that_lacks_a_letter_of_a_name_gets_an_answer_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "grants.toml"
    text = GOOD.replace("Airedale NHS Foundation Trust", "Äiredale")
    path.write_text(text, encoding="utf-8")
    other = tmp_path / "other.toml"
    shorter = text.replace("until = 2027-01-01\nprivacy", "until = 2026-12-01\nprivacy", 1)
    other.write_text(shorter, encoding="utf-8")
    told = run("grants", "diff", path, other, PYTHONIOENCODING="iso8859-7", NO_COLOR="1", COLUMNS="40")
    assert (told.returncode, told.stderr) == (0, b"")
    assert b"\\xc4iredale" in told.stdout


def test_whoever_is_blocked_is_shown_so_beside_the_grants(tmp_path: Path) -> None:
    grants_file(tmp_path)
    settings_file(tmp_path)
    unknown = CliRunner().invoke(main, ["grants", "list", "--config", str(tmp_path / "gateway.toml"), "--json"])
    assert {row["blocked"] for row in json.loads(unknown.stdout)} == {None}
    assert "note: who is blocked is not shown: " in unknown.stderr
