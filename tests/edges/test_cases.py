"""The customers' own tests of their grants, run by `check` and by reload."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.admin.metrics import Metrics
from gateway.app.bringing import CaseReader
from gateway.app.grants import GrantsNews
from gateway.cli.check import check
from gateway.configuration.grants import Grants
from gateway.configuration.problems import ConfigurationRefused, Problem
from gateway.configuration.settings_file import load_settings
from tests.edges import grants_files, settings_files
from tests.edges.grants_files import GOOD, grants_file, reader
from tests.edges.settings_files import settings_file
from tests.edges.test_cli_explain import APPOINTMENT, bundle
from tests.edges.test_reload import watching

CASE = """
[[cases]]
name = "a case"
partner = "swiftbook"
customer = "airedale"
operation = "cancel"
now = 2026-06-01T09:00:00Z
appointment = { start = 2026-07-01T09:00:00Z, specialties = ["394579002"] }
expect = "permit"
"""
WIDER = GOOD.replace('notice = "48h"', 'notice = "0s"')
NARROWER = GOOD.replace('operations = ["read", "change", "cancel"]', 'operations = ["read", "change"]', 1).replace(
    'cancel = { reasons = ["pat", "other"] }\n', "", 1
)
LATE = CASE.replace("2026-06-01T09", "2026-06-30T09").replace('"permit"', '"refuse"\ncode = "too-late"')


def cases(folder: Path, *texts: str) -> Path:
    path = folder / "cases.toml"
    path.write_text("version = 1\n" + "".join(texts))
    return path


def load(folder: Path, grants: str = GOOD) -> Grants:
    known = reader(grants_file(folder, grants))
    settings = load_settings(settings_file(folder), environ=settings_files.ENVIRON)
    return replace(known, cases=folder / "cases.toml", read_case=CaseReader(settings)).load()


def failing(folder: Path, *texts: str, grants: str = GOOD) -> list[str]:
    cases(folder, *texts)
    return [f"{problem.line} {problem.place}: {problem.message}" for problem in load(folder, grants).failing]


@pytest.mark.parametrize(
    ("found", "put"),
    [
        pytest.param("", "", id="as it is"),
        pytest.param('expect = "permit"', 'cancel = { reason = "pat" }\nexpect = "permit"', id="a reason"),
        pytest.param('expect = "permit"', 'cancel = { reason = "prov" }\nexpect = "refuse"', id="a reason not granted"),
        pytest.param('"394579002"', '"394582007"', id="another specialty"),
        pytest.param('"swiftbook"', '"stranger"', id="a stranger"),
        pytest.param('"airedale"', '"nowhere"', id="an unknown customer"),
        pytest.param("start =", 'owner = "leeds", start =', id="somebody else's"),
        pytest.param("start =", 'owner = "airedale-cardiology", start =', id="a team's"),
        pytest.param("start =", 'owner = "nobody", start =', id="nobody's"),
        pytest.param("start =", 'status = "cancelled", start =', id="cancelled"),
        pytest.param("start =", 'privacy_labels = ["SEXUAL_HEALTH"], start =', id="another label"),
        pytest.param('"cancel"', '"read"', id="a read"),
        pytest.param('"cancel"', '"change"', id="any change"),
        pytest.param(
            'operation = "cancel"',
            'operation = "change"\nchange = { start = 2026-07-02T09:00:00Z, end = 2026-07-02T10:00:00Z }', id="a move",
        ),
    ],
)  # fmt: skip
def test_a_case_that_comes_out_as_expected_says_nothing(tmp_path: Path, found: str, put: str) -> None:
    text = CASE.replace(found, put, 1) if found else CASE
    refused = put in {
        '"394582007"', '"stranger"', '"nowhere"', 'owner = "leeds", start =', 'owner = "nobody", start =',
        'status = "cancelled", start =', 'privacy_labels = ["SEXUAL_HEALTH"], start =',
    }  # fmt: skip
    assert failing(tmp_path, text.replace('"permit"', '"refuse"') if refused else text) == []


def test_over_hl7_and_for_a_team_too(tmp_path: Path) -> None:
    bradford = CASE.replace('customer = "airedale"', 'customer = "bradford"')
    team = CASE.replace('"airedale"', '"airedale-cardiology"').replace('"permit"', '"refuse"\ncode = "no-grant"')
    assert failing(tmp_path, bradford, team) == []


def test_what_a_customer_wants_refused_keeps_the_file_out_of_force(tmp_path: Path) -> None:
    path = cases(tmp_path, LATE)
    assert load(tmp_path).failing == ()
    with pytest.raises(ConfigurationRefused) as refused:
        load(tmp_path, WIDER)
    assert str(refused.value) == f'{path}:10: cases[0].expect: "a case" expects refuse (too-late), found permit'


def test_what_a_customer_wants_permitted_is_only_reported(tmp_path: Path) -> None:
    expected = '10 cases[0].expect: "a case" expects permit, found refuse (operation-not-granted)'
    assert failing(tmp_path, CASE, grants=NARROWER) == [expected]


def test_a_refusal_for_another_reason_is_only_reported(tmp_path: Path) -> None:
    other = LATE.replace('"too-late"', '"in-the-past"')
    assert failing(tmp_path, other) == [
        '10 cases[0].expect: "a case" expects refuse (in-the-past), found refuse (too-late)'
    ]


@pytest.mark.parametrize(
    ("found", "put", "message"),
    [
        ("cases", "casses", "unknown key"),
        ("2026-06-01T09:00:00Z", "2026-06-01", "expected a date with a time and an offset"),
        ('"permit"', '"permit"\ncode = "too-late"', "a permit has no code"),
        ('"permit"', '"refuse"\ncode = "to-late"', "did you mean"),
        ('expect = "permit"', 'change = { comment = "x" }\nexpect = "permit"', "change is for the operation change"),
        ('"cancel"', '"read"\ncancel = { reason = "pat" }', "cancel is for the operation cancel"),
        ("start =", 'file = "a.json", start =', "either as a file or here"),
        ("version = 1", "version = ", "not valid TOML"),
    ],
    ids=["key", "no time", "code of a permit", "code", "change", "cancel", "file and more", "syntax"],
)
def test_cases_that_cannot_be_read_keep_no_file_out_of_force(
    tmp_path: Path, found: str, put: str, message: str
) -> None:
    path = cases(tmp_path, CASE)
    path.write_text(path.read_text().replace(found, put, 1))
    (problem,) = load(tmp_path, NARROWER).failing
    assert message in problem.message
    assert problem.file == path


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        pytest.param(bundle(), None, id="a bundle"),
        pytest.param(APPOINTMENT, None, id="an appointment alone"),
        pytest.param({"resourceType": "Patient"}, "cannot be run: the resource is no Appointment", id="no appointment"),
        pytest.param(None, "cannot be run: ", id="no file"),
    ],
)
def test_an_appointment_may_be_in_a_file(tmp_path: Path, document: Any, complaint: str | None) -> None:
    if document is not None:
        (tmp_path / "a.json").write_text(json.dumps(document))
    text = CASE.replace("start = 2026-07-01T09:00:00Z, specialties", "specialties").replace(
        'appointment = { specialties = ["394579002"] }', 'appointment = { file = "a.json" }'
    )
    told = failing(tmp_path, text)
    assert len(told) == (complaint is not None)
    assert all(complaint in each for each in told if complaint)
    stranger = text.replace('"airedale"', '"nowhere"').replace('"permit"', '"refuse"')
    assert failing(tmp_path, stranger) == []


def test_without_settings_a_file_of_an_appointment_is_not_read(tmp_path: Path) -> None:
    path = cases(tmp_path, CASE.replace('start = 2026-07-01T09:00:00Z, specialties = ["394579002"]', 'file = "a.json"'))
    (problem,) = replace(reader(grants_file(tmp_path)), cases=path).load().failing
    assert "with gateway.toml only" in problem.message


def run_check(folder: Path, *arguments: str) -> Result:
    (folder / "keys").mkdir(exist_ok=True)
    keys = Path(__file__).parents[2] / "config" / "keys" / "swiftbook.jwks.json"
    (folder / "keys" / "swiftbook.jwks.json").write_text(keys.read_text())
    environ = {**settings_files.ENVIRON, **grants_files.ENVIRON}
    return CliRunner().invoke(check, [*arguments], env=environ)


def test_check_runs_the_cases_and_tells_every_one_that_fails(tmp_path: Path) -> None:
    grants_file(tmp_path, NARROWER)
    config = str(settings_file(tmp_path))
    cases(tmp_path, CASE, CASE.replace('"permit"', '"refuse"'))
    result = run_check(tmp_path, "--config", config)
    assert result.exit_code == 1, result.output
    assert "cases.toml:10: cases[0].expect: " in result.output
    assert "1 mistake found" in result.output
    cases(tmp_path, CASE.replace('"permit"', '"refuse"'))
    assert run_check(tmp_path, "--config", config).exit_code == 0


def test_check_of_a_grants_file_alone_says_that_no_case_was_run(tmp_path: Path) -> None:
    grants = grants_file(tmp_path, NARROWER)
    cases(tmp_path, CASE)
    result = run_check(tmp_path, "--grants", str(grants))
    assert (result.exit_code, "nor were the cases in cases.toml run" in result.output) == (0, True)


async def test_at_reload_a_revocation_counts_and_is_reported_a_widening_does_not(tmp_path: Path) -> None:
    path = grants_file(tmp_path)
    cases(tmp_path, CASE, LATE)

    def loaded() -> Grants:
        return replace(reader(path), cases=tmp_path / "cases.toml").load()

    async with watching(path, loaded) as watch:
        assert not watch.watcher.state.degraded
        path.write_text(NARROWER)
        await watch.until(lambda: watch.watcher.state.failing != ())
        narrowed = watch.watcher.current.digest
        assert watch.watcher.state.degraded
        assert watch.watcher.state.refused == ()
        path.write_text(WIDER)
        await watch.until(lambda: watch.watcher.state.refused != ())
        assert watch.watcher.current.digest == narrowed
        path.write_text(GOOD)
        await watch.until(lambda: not watch.watcher.state.degraded)


class Notes:
    """A journal that keeps what it is told."""

    def __init__(self) -> None:
        self.noted: list[dict[str, Any]] = []

    def note(self, record: dict[str, Any]) -> None:
        self.noted.append(record)


async def test_a_failed_case_is_in_audit_and_metrics(tmp_path: Path) -> None:
    grants = replace(reader(grants_file(tmp_path)).load(), failing=(Problem(tmp_path, 1, "cases[0]", "no"),))
    notes, metrics = Notes(), Metrics()
    await GrantsNews(notes, metrics, lambda: "d").loaded(grants, "")  # type: ignore[arg-type] # takes notes only
    assert notes.noted == [{"event": "grants-loaded", "grants_digest": grants.digest, "code": "case-failed"}]
    assert '"case-failed"' in metrics.text().decode()
