"""`audit export`: AuditEvents that others can read, and a patient's own records."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.app.pseudonyms import pseudonym_keys
from gateway.cli.audit import audit
from gateway.cli.export import COLUMNS
from gateway.configuration.settings_file import load_settings
from gateway.domain.pseudonym import Pseudonyms
from tests.edges.audit_folders import FIRST, write_chain
from tests.edges.balp import assert_fits
from tests.edges.settings_files import ENVIRON, settings_file
from tests.edges.test_docs import written_events
from tests.journeys.test_fhir_resources import assert_r4

Json = dict[str, Any]
NUMBER, OTHER = "9990548609", "9434765919"
OLD, PRESENT = Pseudonyms("k1", b"the key of former years"), Pseudonyms("k2", b"the key that holds now")
PATIENT = PRESENT.patient(NUMBER, "", "")
FACTS = {
    "owner": ["airedale"], "status": "booked", "start": "2027-01-08T11:30:00+00:00", "labels": ["GENERAL_HEALTH"],
    "specialties": [], "fields": [], "new_start": None, "patient": "match",
}  # fmt: skip
ASKED: Json = {
    "request_id": "3c9cabfb-72de-4e1a-a9f9-425940efaecf", "correlation_id": "visit-7", "partner": "swiftbook",
    "customer": "airedale", "grants_digest": 64 * "a", "client": "192.0.2.7", "duration_ms": 12,
    "token": {"iss": "https://gateway.example", "jti": "j-1", "kid": "k"}, "now": "2026-11-22T12:00:00.000000Z",
}  # fmt: skip
SEEN: Json = {
    **ASKED, "grant": "airedale-swiftbook", "operation": "read", "appointment": "a-1", "patient": PATIENT,
    "facts": FACTS, "checks": [["granted", True]], "decision": "permit",
}  # fmt: skip
WRITE: Json = {**SEEN, "operation": "cancel", "task": "t-1", "reason": "pat"}
UPSTREAM = {"route": "airedale-box", "status": 200, "version_before": "9", "version_after": "10", "control_id": None}
BARE: Json = {"partner": "swiftbook", "customer": "airedale", "client": "192.0.2.7", "request_id": "r-9"}

KINDS: dict[str, tuple[Json, str | None, str]] = {
    "a start": ({"event": "start", "chains": [], "torn": []}, None, "0"),
    "a stop": ({"event": "stop"}, None, "0"),
    "a checkpoint": ({"event": "checkpoint", "signature": "s", "kid": "k"}, None, "0"),
    "files removed": (
        {
            "event": "segments-removed",
            "removed": [{"file": "f.jsonl", "chain": "c", "first": 1, "last": 9, "hash": 64 * "c", "ends": True}],
        },
        None,
        "0",
    ),
    "a grants file in force": ({"event": "grants-loaded", "grants_digest": 64 * "b"}, None, "0"),
    "a grants file not taken": ({"event": "grants-refused", "code": "grants-refused"}, None, "4"),
    "a token": ({**BARE, "event": "token-issued", "customer": None, "decision": "permit"}, "IHE.IUA.71", "0"),
    "a stranger": (
        {"event": "authentication-refused", "client": "192.0.2.7", "code": "token-missing", "request_id": "r-1"},
        None,
        "4",
    ),
    "strangers that were counted": (
        {"event": "suppressed", "counts": [{"code": "token-missing", "client": "192.0.2.0/24", "count": 9}]},
        None,
        "4",
    ),
    "a read": ({**SEEN, "event": "read"}, "IHE.BasicAudit.PatientRead", "0"),
    "a read of a patient without name": ({**SEEN, "event": "read", "patient": None}, "IHE.BasicAudit.Read", "0"),
    "a Task that was shown": ({**ASKED, "event": "read", "task": "t-1"}, "IHE.BasicAudit.Read", "0"),
    "a token id with a blank": (
        {**SEEN, "event": "read", "token": {"iss": "i", "jti": "a b", "kid": "k"}},
        "IHE.BasicAudit.PatientRead",
        "0",
    ),
    "an answer again": ({**WRITE, "event": "replayed", "outcome": "applied"}, "IHE.BasicAudit.PatientRead", "0"),
    "a search": (
        {**SEEN, "event": "search", "appointment": None, "facts": None},
        "IHE.BasicAudit.PatientQuery",
        "0",
    ),
    "a search of nobody": (
        {**SEEN, "event": "search", "appointment": None, "facts": None, "patient": None},
        "IHE.BasicAudit.Query",
        "0",
    ),
    "an intent": (
        {**WRITE, "event": "intent", "change": {"status": {"before": "booked", "after": "cancelled"}}},
        "IHE.BasicAudit.AuthZconsent",
        "0",
    ),
    "an applied write": (
        {**WRITE, "event": "outcome", "outcome": "applied", "final": True, "upstream": UPSTREAM, "intent": 3},
        "IHE.BasicAudit.PatientUpdate",
        "0",
    ),
    "a write accepted": ({**WRITE, "event": "outcome", "outcome": "accepted", "final": False}, None, "0"),
    "a write refused by PKB": (
        {**WRITE, "event": "outcome", "outcome": "rejected", "final": True, "code": "version-conflict"},
        None,
        "4",
    ),
    "a write lost": (
        {**WRITE, "event": "outcome", "outcome": "unknown", "final": False, "code": "outcome-unknown"},
        None,
        "8",
    ),
    "a refusal by the rules": (
        {**WRITE, "event": "refused", "decision": "refuse", "code": "too-late", "checks": [["notice-kept", False]]},
        "IHE.BasicAudit.AuthZconsent",
        "4",
    ),
    "a refusal without a grant": (
        {**ASKED, "event": "refused", "decision": "refuse", "code": "no-grant", "checks": [["granted", False]]},
        None,
        "4",
    ),
    "another patient": (
        {**SEEN, "event": "refused", "decision": "refuse", "code": "patient-mismatch"},
        "IHE.BasicAudit.AuthZconsent",
        "4",
    ),
    "PKB away": ({**BARE, "event": "refused", "code": "upstream-unavailable", "operation": "read"}, None, "8"),
    "the audit away": ({**BARE, "event": "refused", "code": "audit-unavailable", "operation": "change"}, None, "12"),
    "a person's word": ({**WRITE, "event": "task-resolved", "outcome": "applied", "operator": "Ann"}, None, "0"),
    "an explanation": ({**SEEN, "event": "explained", "operator": "Ann", "client": None}, None, "0"),
    "a block": (
        {
            "event": "blocked",
            "partner": "swiftbook",
            "operator": "Ann",
            "decision": "refuse",
            "code": "partner-suspended",
        },
        None,
        "0",
    ),
    "a block of everything": (
        {"event": "blocked", "customer": "airedale", "operator": "Ann", "decision": "refuse", "code": "no-grant"},
        None,
        "0",
    ),
    "an event of a later version": ({"event": "unheard-of"}, None, "0"),
}


def exported(*arguments: object, given: str = "", env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(audit, ["export", *map(str, arguments)], input=given, env=env)


def lines_of(result: Result) -> list[Json]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def table_of(result: Result) -> list[dict[str, str]]:
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(io.StringIO(result.stdout)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("export")
    write_chain(place, FIRST, [record for record, _, _ in KINDS.values()])
    return place


@pytest.fixture(scope="module")
def events(folder: Path) -> dict[str, Json]:
    return dict(zip(KINDS, lines_of(exported("--format", "fhir", folder)), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_record_is_a_good_auditevent_that_fits_its_profile(events: dict[str, Json], kind: str) -> None:
    event = events[kind]
    assert_r4(event)
    _, profile, outcome = KINDS[kind]
    assert (assert_fits(event), event["outcome"]) == (profile, outcome)


def test_no_event_that_the_gateway_writes_is_left_out_of_these() -> None:
    assert set(written_events()) <= {record["event"] for record, _, _ in KINDS.values()}


def test_an_event_says_who_asked_for_whom_what_and_how_it_ended(events: dict[str, Json]) -> None:
    event = events["a write refused by PKB"]
    assert event["id"] == f"{FIRST}.{list(KINDS).index('a write refused by PKB') + 1}"
    assert (event["recorded"], event["outcomeDesc"]) == ("2026-11-22T12:00:00.000000Z", "version-conflict")
    assert event["period"] == {"start": "2026-11-22T11:59:59.988000Z", "end": "2026-11-22T12:00:00.000000Z"}
    known = [each["who"]["identifier"]["value"] for each in event["agent"]]
    assert known == ["swiftbook", "pkb-gateway", "airedale"]
    [data, patient, request] = event["entity"]
    assert data["what"] == {
        "type": "Appointment",
        "identifier": {"system": "https://pkb-gateway.example/audit/appointment", "value": "a-1"},
    }
    assert patient["what"]["identifier"]["value"] == PATIENT
    assert request["what"]["identifier"]["value"] == ASKED["request_id"]
    told = {each["type"]: each["valueString"] for each in request["detail"]}
    assert (told["outcome"], told["final"], told["checks"], told["task"]) == (
        "rejected",
        "true",
        "granted=passed",
        "t-1",
    )


def test_an_authorisation_keeps_request_and_appointment_where_the_pattern_has_no_entity_for_them(
    events: dict[str, Json],
) -> None:
    [_, consent] = events["a refusal by the rules"]["entity"]
    told = {each["type"]: each["valueString"] for each in consent["detail"]}
    assert (told["request_id"], told["appointment"]) == (ASKED["request_id"], "a-1")
    assert (told["checks"], told["code"]) == ("notice-kept=failed", "too-late")


def test_what_a_person_did_names_the_person(events: dict[str, Json]) -> None:
    for kind in ("a person's word", "an explanation", "a block"):
        [person] = [each for each in events[kind]["agent"] if each["requestor"]]
        assert person["name"] == "Ann"


def test_an_export_can_be_narrowed(folder: Path) -> None:
    reads = lines_of(exported("--format", "fhir", "--event", "read", "--partner", "swiftbook", folder))
    assert len(reads) == 4
    assert lines_of(exported("--format", "fhir", "--customer", "leeds", folder)) == []
    tasks = table_of(exported("--format", "csv", "--task", "t-1", folder))
    assert {row["task"] for row in tasks} == {"t-1"}
    [one] = table_of(exported("--format", "csv", "--request-id", "r-1", folder))
    assert one["event"] == "authentication-refused"
    noon = "2026-11-22T12:00:00Z"
    assert len(lines_of(exported("--format", "fhir", "--from", noon, folder))) == len(KINDS)
    assert lines_of(exported("--format", "fhir", "--until", noon, folder)) == []
    assert len(lines_of(exported("--format", "fhir", "--from", "2026-11-22", "--until", "2026-11-23", folder))) == len(
        KINDS
    )


def keys(tmp_path: Path) -> list[object]:
    for key in (OLD, PRESENT):
        (tmp_path / key.key_id).write_bytes(key.key + b"\n")
    return [word for key in (OLD, PRESENT) for word in ("--pseudonym-key", f"{key.key_id}={tmp_path / key.key_id}")]


def of_both_keys(folder: Path) -> Path:
    former, others = OLD.patient(NUMBER, "", ""), PRESENT.patient(OTHER, "", "")
    people = [former, PATIENT, others, None]
    write_chain(
        folder,
        FIRST,
        [{**SEEN, "event": "read", "appointment": f"a-{n}", "patient": each} for n, each in enumerate(people)],
    )
    return folder


@pytest.mark.parametrize("number", [NUMBER, "999 054 8609", f"  {NUMBER}\r\n"])
def test_a_patient_gets_the_records_under_every_key_and_nobody_elses(tmp_path: Path, number: str) -> None:
    folder = of_both_keys(tmp_path / "audit")
    result = exported("--format", "csv", "--patient", *keys(tmp_path), folder, given=number)
    rows = table_of(result)
    assert [row["appointment"] for row in rows] == ["a-0", "a-1"]
    assert rows[0] | {"patient": ""} == dict.fromkeys(COLUMNS, "") | {
        "time": "2026-11-22T12:00:00.000000Z", "event": "read", "partner": "swiftbook", "customer": "airedale",
        "operation": "read", "appointment": "a-0", "decision": "permit", "start": "2027-01-08T11:30:00+00:00",
        "grant": "airedale-swiftbook", "client": "192.0.2.7", "request_id": ASKED["request_id"],
        "correlation_id": "visit-7", "chain": FIRST, "seq": "1",
    }  # fmt: skip
    assert NUMBER not in result.output


def test_the_keys_come_from_the_settings_too_and_no_other_secret_is_read(tmp_path: Path) -> None:
    folder = of_both_keys(tmp_path / "audit")
    settings = settings_file(tmp_path)
    environ = dict.fromkeys(ENVIRON, "") | {
        "PSEUDONYM_KEY": PRESENT.key.decode(),
        "PSEUDONYM_KEY_1": OLD.key.decode(),
    }
    result = exported("--format", "fhir", "--patient", "--config", settings, folder, given=NUMBER, env=environ)
    assert len(lines_of(result)) == 2


@pytest.mark.parametrize(
    "number", ["999054860", "99905486091", "999054860x", "٩٩٩٠٥٤٨٦٠٩", "", "9990548609 9434765919"]
)
def test_what_is_no_nhs_number_is_refused_without_being_repeated(tmp_path: Path, number: str) -> None:
    result = exported("--format", "csv", "--patient", *keys(tmp_path), of_both_keys(tmp_path / "a"), given=number)
    assert result.exit_code == 1
    assert "ten digits" in result.output
    assert not number or number not in result.output


def test_keys_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    folder = of_both_keys(tmp_path / "audit")
    (tmp_path / "short").write_text("short")
    for given, told in (
        ([], "give --config or --pseudonym-key"),
        (["--pseudonym-key", f"k1={tmp_path / 'gone'}"], "gone"),
        (["--pseudonym-key", f"k1={tmp_path / 'short'}"], "at least 16 bytes"),
        (["--pseudonym-key", "first"], "ID=FILE"),
    ):
        result = exported("--format", "csv", "--patient", *given, folder, given=NUMBER)
        assert result.exit_code != 0
        assert told in result.output
    idle = exported("--format", "csv", *keys(tmp_path), folder)
    assert (idle.exit_code, "are for --patient" in idle.output) == (2, True)


def test_an_old_key_that_is_no_use_is_told_at_the_start(tmp_path: Path) -> None:
    settings = load_settings(settings_file(tmp_path), environ={**ENVIRON, "PSEUDONYM_KEY_1": "short"})
    with pytest.raises(ValueError, match=r"audit\.pseudonym_keys: k1: .* 16 bytes"):
        pseudonym_keys(settings.audit)


@pytest.mark.parametrize("first", list("=+-@\t\r"))
def test_a_spreadsheet_takes_no_cell_for_a_formula(tmp_path: Path, first: str) -> None:
    write_chain(tmp_path / "audit", FIRST, [{"event": "blocked", "operator": f"{first}cmd|' /C calc'!A0"}])
    [row] = table_of(exported("--format", "csv", tmp_path / "audit"))
    assert row["operator"].startswith(f"'{first}")


def test_lines_that_do_not_hold_are_left_out_and_told(tmp_path: Path) -> None:
    write_chain(tmp_path / "audit", FIRST, [{"event": "read", "appointment": str(n)} for n in range(3)])
    [path] = (tmp_path / "audit").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"v":1,')
    torn = exported("--format", "csv", path)
    assert (torn.exit_code, len(table_of(torn)), "1 half lines" in torn.stderr) == (0, 3, True)
    path.write_bytes(whole.replace(b'"appointment":"1"', b'"appointment":"9"'))
    edited = exported("--format", "csv", path)
    assert (edited.exit_code, f"{path.name}:2" in edited.stderr) == (1, True)
    assert [row["appointment"] for row in csv.DictReader(io.StringIO(edited.stdout))] == ["0", "2"]


def test_an_export_without_records_is_an_error(tmp_path: Path) -> None:
    for path, told in ((tmp_path, "no audit records"), (tmp_path / "gone", "no such file")):
        result = exported("--format", "csv", path)
        assert (result.exit_code, told in result.output) == (1, True)


def test_an_export_needs_no_settings_and_shows_no_bar_in_a_pipe(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gateway", "audit", "export", "--format", "fhir", str(folder)]
    ran = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, timeout=60, check=True)
    assert (len(ran.stdout.splitlines()), ran.stderr) == (len(KINDS), "")


def test_tail_shows_only_what_was_asked_for(folder: Path) -> None:
    command = ["tail", "--no-follow", "--lines", "2", "--event", "read", str(folder)]
    shown = CliRunner().invoke(audit, command).output.splitlines()
    assert [json.loads(line)["event"] for line in shown] == ["read", "read"]
