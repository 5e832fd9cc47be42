"""What verbs tell programs, and how the shell completes them."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.shell_completion import BashComplete
from click.testing import CliRunner

from gateway.cli.main import main
from tests.edges.audit_folders import FIRST, SECOND, two_chains
from tests.edges.grants_files import GOOD, grants_file
from tests.edges.test_tokens_cli import sandbox, serving


def told(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    told: dict[str, Any] = json.loads(result.stdout)
    return result.exit_code, told


def test_a_good_grants_file_is_summed_up(tmp_path: Path) -> None:
    path = grants_file(tmp_path)
    (tmp_path / "keys" / "swiftbook.jwks.json").write_text(
        (Path(__file__).parents[2] / "config" / "keys" / "swiftbook.jwks.json").read_text()
    )
    status, summary = told("check", "--grants", path, "--json")
    assert (status, summary["ok"], summary["problems"]) == (0, True, [])
    assert (summary["grants"], summary["shadow"], summary["partners"]) == (5, 1, 2)
    assert len(summary["notes"]) == 1


def test_mistakes_have_their_file_and_line(tmp_path: Path) -> None:
    path = grants_file(tmp_path, GOOD.replace('"read"', '"reed"', 1))
    status, summary = told("check", "--grants", path, "--json")
    assert (status, summary["ok"]) == (1, False)
    place = next(each for each in summary["problems"] if each["line"] == 54)
    assert (place["file"], place["place"]) == (str(path), "grants[0].operations[0]")


def test_a_verdict_on_every_chain(tmp_path: Path) -> None:
    two_chains(tmp_path / "audit")
    status, verdict = told("audit", "verify", tmp_path / "audit", "--json")
    assert (status, verdict["good"], verdict["records"], verdict["signatures"]) == (0, True, 16, "unchecked")
    assert [chain["chain"] for chain in verdict["chains"]] == [FIRST, SECOND]


def test_the_first_bad_record_of_a_chain(tmp_path: Path) -> None:
    two_chains(tmp_path / "audit")
    file = tmp_path / "audit" / f"{SECOND}.000001.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"appointment":"3"', b'"appointment":"4"'))
    status, verdict = told("audit", "verify", tmp_path / "audit", "--json")
    assert (status, verdict["good"]) == (1, False)
    good, bad = verdict["chains"]
    assert good["good"]
    assert (bad["good"], bad["file"], bad["line"], bad["records"]) == (False, file.name, 4, 3)


def test_a_token_by_name(tmp_path: Path) -> None:
    async def handler(_: web.BaseRequest) -> web.Response:
        return web.json_response({"access_token": "eyJ.good", "token_type": "bearer"})

    with serving(handler) as url:
        status, given = told("token", "--sandbox", sandbox(tmp_path, url), "--partner", "swiftbook", "--json")
    assert (status, given["access_token"], given["token_url"]) == (0, "eyJ.good", url)
    assert given["assertion"].count(".") == 2


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        pytest.param(["gr"], ["grants"], id="a verb"),
        pytest.param(["grants", ""], ["diff", "list", "replay"], id="what is below it"),
        pytest.param(["explain", "--op"], ["--operation"], id="an option"),
        pytest.param(["explain", "--operation", ""], ["cancel", "change", "read"], id="a value"),
    ],
)
def test_the_shell_completes(typed: list[str], offered: list[str]) -> None:
    complete = BashComplete(main, {}, "pkb-gateway", "_PKB_GATEWAY_COMPLETE")
    found = complete.get_completions(typed[:-1], typed[-1])
    assert sorted(each.value for each in found) == offered
