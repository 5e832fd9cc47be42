"""The schemas that editors use: up to date, and of one mind with the gateway."""

import json
import tomllib
from datetime import date, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gateway.configuration import schemas
from gateway.configuration.grants import GrantsReader
from gateway.configuration.settings_file import load_settings
from gateway.partner.keys import load_key_set
from tests.edges import grants_files, settings_files
from tests.edges.grants_files import grants_file
from tests.edges.settings_files import settings_file

CONFIG = Path(__file__).parents[2] / "config"
GRANTS, GATEWAY = "grants.schema.json", "gateway.schema.json"


def mistakes(name: str, text: str) -> list[str]:
    """What an editor would underline. Editors show a TOML date to a schema as text."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        if isinstance(value, list):
            return [plain(each) for each in value]
        return value.isoformat() if isinstance(value, date | datetime) else value

    schema = json.loads((CONFIG / "schemas" / name).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    checker = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    return [error.message for error in checker.iter_errors(plain(tomllib.loads(text)))]


def test_the_schemas_are_those_of_the_code(tmp_path: Path) -> None:
    schemas.write(tmp_path / "schemas")
    written = {path.name: path.read_text() for path in (tmp_path / "schemas").iterdir()}
    assert written == {path.name: path.read_text() for path in (CONFIG / "schemas").iterdir()}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param(GRANTS, (CONFIG / "grants.toml").read_text(), id="example of grants"),
        pytest.param(GATEWAY, (CONFIG / "gateway.toml").read_text(), id="example of settings"),
        pytest.param("cases.schema.json", (CONFIG / "cases.toml").read_text(), id="example of cases"),
        pytest.param(GRANTS, grants_files.GOOD, id="grants with everything"),
        pytest.param(GATEWAY, settings_files.GOOD, id="settings with everything"),
        pytest.param(GRANTS, "version = 1", id="grants with nothing"),
    ],
)
def test_a_good_file_is_good_to_its_schema(name: str, text: str) -> None:
    assert mistakes(name, text) == []


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        pytest.param(GRANTS, "operations", "operatons", id="unknown key of a grant"),
        pytest.param(GRANTS, "within", "whitin", id="unknown key of an inline table"),
        pytest.param(GRANTS, '"read"', '"reed"', id="unknown operation"),
        pytest.param(GRANTS, '"72h"', '"72"', id="duration without a unit"),
        pytest.param(GRANTS, '"env:HL7_PASSWORD"', '"hunter2"', id="literal secret in grants"),
        pytest.param(GRANTS, "shadow = true", 'shadow = "true"', id="switch in quotes"),
        pytest.param(GATEWAY, "in_flight", "inflight", id="unknown key of settings"),
        pytest.param(GATEWAY, "style", "stile", id="unknown key of a token server"),
        pytest.param(GATEWAY, '"env:PSEUDONYM_KEY"', '"hunter2"', id="literal secret in settings"),
        pytest.param(GATEWAY, '"64KiB"', "65536", id="size as a number"),
    ],
)
def test_what_the_gateway_refuses_its_schema_underlines(name: str, old: str, new: str) -> None:
    good = grants_files.GOOD if name == GRANTS else settings_files.GOOD
    assert old in good
    assert mistakes(name, good.replace(old, new, 1)) != []


def test_the_example_of_grants_is_good_beside_the_example_of_settings(tmp_path: Path) -> None:
    settings = load_settings(CONFIG / "gateway.toml", secrets=False)
    reading = GrantsReader(
        settings.grants, routes=settings.policy_routes(), issuers=(), read_keys=load_key_set, secrets=False
    )
    assert {grant.id for grant in reading.load().policy.grants} == {"airedale-swiftbook", "bradford-swiftbook"}


def test_every_default_told_in_the_example_of_settings_is_the_default(tmp_path: Path) -> None:
    text = (CONFIG / "gateway.toml").read_text().replace("file:/run/secrets/", "file:")
    text = text.replace("audit-signing-key.pem", "audit.pem").replace("token-signing-key.pem", "tokens.pem")
    defaults = [line for line in text.splitlines() if line.startswith("# ") and " = " in line and "…" not in line]
    shown = "\n".join(line.removeprefix("# ") if line in defaults[1:] else line for line in text.splitlines())
    shown = shown.replace("PostgreSQL,", "# PostgreSQL,").replace("issuers.", "# issuers.")
    names = ("GATEWAY_PSEUDONYM_KEY", "AIREDALE_CLIENT_ID", "AIREDALE_CLIENT_SECRET")
    environ = dict.fromkeys((*names, "AGGREGATED_CLIENT_ID", "AGGREGATED_CLIENT_SECRET"), "x")
    plain = load_settings(settings_file(tmp_path, text), environ=environ)
    assert load_settings(settings_file(tmp_path, shown), environ=environ) == plain
    assert shown.count("\n# ") < text.count("\n# ")


def test_grants_file_of_the_tests_is_good(tmp_path: Path) -> None:
    assert grants_files.problems(grants_file(tmp_path)) == ()
