"""`pkb-gateway check`: every mistake with its line, or what is configured."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli.check import check
from tests.edges import grants_files, settings_files
from tests.edges.grants_files import grants_file
from tests.edges.settings_files import settings_file

JWKS = (Path(__file__).parents[2] / "config" / "keys" / "swiftbook.jwks.json").read_text()
ENVIRON = {**settings_files.ENVIRON, **grants_files.ENVIRON}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good configuration."""
    grants_file(tmp_path)
    (tmp_path / "keys" / "swiftbook.jwks.json").write_text(JWKS)
    settings_file(tmp_path)
    return tmp_path


def run(*arguments: str | Path, environ: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(check, [str(each) for each in arguments], env=ENVIRON if environ is None else environ)


def test_a_good_configuration_is_summed_up(folder: Path) -> None:
    result = run("--config", folder / "gateway.toml")
    assert result.exit_code == 0, result.output
    for line in ("partners: 2, of which suspended 1", "customers: 3 organisations, 1 teams", "grants: 5,", "shadow 1"):
        assert line in result.output
    assert "routes: box, hl7-bradford, leeds-box" in result.output


def test_the_settings_are_looked_for_in_the_config_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "config").mkdir()
    for name in ("gateway.toml", "grants.toml", "keys", "audit.pem", "tokens.pem"):
        (folder / name).rename(folder / "config" / name)
    monkeypatch.chdir(folder)
    assert run().exit_code == 0
    (folder / "config" / "gateway.toml").unlink()
    assert "config/gateway.toml:1: (file): there is no such file" in run().output


def test_a_grants_file_alone_needs_neither_settings_nor_secrets(folder: Path) -> None:
    (folder / "gateway.toml").unlink()
    result = run("--grants", folder / "grants.toml", environ={})
    assert result.exit_code == 0, result.output
    assert "nothing that depends on routes, issuers or secrets was checked" in result.output


def test_a_grants_file_alone_tells_its_mistakes(folder: Path) -> None:
    path = folder / "grants.toml"
    path.write_text(grants_files.GOOD.replace('"read"', '"reed"', 1))
    result = run("--grants", path)
    assert result.exit_code == 1
    assert f"{path}:54: grants[0].operations[0]: " in result.output
    assert "1 mistake found" in result.output


def test_mistakes_of_both_files_are_told_in_one_run(folder: Path) -> None:
    settings_file(folder, settings_files.GOOD.replace("in_flight", "inflight"))
    (folder / "grants.toml").write_text(grants_files.GOOD.replace('"72h"', '"72"'))
    result = run("--config", folder / "gateway.toml")
    assert result.exit_code == 1
    assert "gateway.toml:19: limits.inflight: " in result.output
    assert "grants.toml:26: customers.airedale.notice: " in result.output
    assert "2 mistakes found" in result.output


def test_where_only_a_secret_is_missing_the_routes_are_still_known(folder: Path) -> None:
    (folder / "grants.toml").write_text(grants_files.GOOD.replace('route = "box"', 'route = "bax"'))
    result = run("--config", folder / "gateway.toml", environ={"BOX_SECRET": ""})
    assert result.exit_code == 1
    assert "env:PSEUDONYM_KEY cannot be resolved" in result.output
    assert 'there is no route "bax"' in result.output


def test_another_grants_file_can_be_tried_under_the_settings(folder: Path) -> None:
    other = folder / "other.toml"
    other.write_text(grants_files.GOOD.replace('route = "box"', 'route = "bax"'))
    assert run("--config", folder / "gateway.toml", "--grants", other).exit_code == 1
    other.write_text("version = 1\n")
    result = run("--config", folder / "gateway.toml", "--grants", other)
    assert (result.exit_code, "partners: 0" in result.output) == (0, True)


def test_a_key_set_that_is_none_is_told(folder: Path) -> None:
    (folder / "keys" / "swiftbook.jwks.json").write_text("{}")
    result = run("--grants", folder / "grants.toml")
    assert result.exit_code == 1
    assert 'keys/swiftbook.jwks.json: the key set must be a JSON object with a list "keys"' in result.output


def test_an_insecure_setting_needs_its_flag(folder: Path) -> None:
    settings_file(
        folder, settings_files.GOOD.replace('"https://app', '"http://app').replace('"https://box', '"http://box')
    )
    assert run("--config", folder / "gateway.toml").exit_code == 1
    assert run("--config", folder / "gateway.toml", "--insecure-public-url").exit_code == 1
    both = ("--insecure-public-url", "--insecure-http-upstream")
    assert run("--config", folder / "gateway.toml", *both).exit_code == 0


def test_settings_that_are_not_toml_are_told_alone(folder: Path) -> None:
    (folder / "gateway.toml").write_text("grants = ")
    result = run("--config", folder / "gateway.toml")
    assert result.exit_code == 1
    assert "gateway.toml:1: (syntax)" in result.output
    assert "1 mistake found" in result.output


def test_no_secret_is_ever_printed(folder: Path) -> None:
    output = run("--config", folder / "gateway.toml").output
    settings_file(folder, settings_files.GOOD.replace('"env:PSEUDONYM_KEY"', '"hunter2"'))
    output += run("--config", folder / "gateway.toml").output
    assert [secret for secret in (*settings_files.SECRETS, "not-to-be-seen") if secret in output] == []
