"""`pkb-gateway explain` on files, and the live explanation on a bench."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.app.explaining import Explaining, Question
from gateway.cli.main import main
from gateway.domain.appointment import Cancel, Read
from gateway.domain.codes import Code
from gateway.domain.decision import Permit, Refusal
from gateway.domain.pseudonym import Pseudonyms
from gateway.domain.rules import Claimant
from gateway.flow.ports import JournalUnavailable, Sighting, UpstreamFault
from tests import makers
from tests.edges import grants_files, settings_files
from tests.edges.grants_files import grants_file
from tests.edges.settings_files import settings_file
from tests.flow.fakes import Paper

SNOMED = "http://snomed.info/sct"
PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p-1",
    "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000018"}],
    "birthDate": "1980-02-29",
    "managingOrganization": {"reference": "Organization/airedale"},
}
APPOINTMENT: dict[str, Any] = {
    "resourceType": "Appointment",
    "id": "a-1",
    "meta": {"versionId": "7"},
    "status": "booked",
    "start": "2026-07-01T09:00:00+01:00",
    "end": "2026-07-01T09:30:00+01:00",
    "specialty": [{"coding": [{"system": SNOMED, "code": "394579002"}]}],
    "participant": [{"actor": {"reference": "Patient/p-1"}, "status": "accepted"}],
}
JUNE = "2026-06-01T09:00:00Z"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    grants_file(tmp_path)
    settings_file(tmp_path)
    return tmp_path


def ask(folder: Path, document: object, *options: str, operation: str = "cancel", customer: str = "airedale") -> Result:
    file = folder / "appointment.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    command = ["explain", "--partner", "swiftbook", "--customer", customer, "--operation", operation]
    return CliRunner().invoke(
        main,
        [*command, "--appointment", str(file), "--config", str(folder / "gateway.toml"), *options],
        env={"PSEUDONYM_KEY": ""},
    )


def told(folder: Path, document: object, *options: str, **asked: str) -> dict[str, Any]:
    result = ask(folder, document, "--at", JUNE, "--json", *options, **asked)
    told: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (0 if told["decision"] == "permit" else 2)
    return told


def bundle(**patient: Any) -> dict[str, Any]:
    entries = [{"resource": PATIENT | patient}, {"resource": APPOINTMENT}]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def test_a_permit_is_told_with_every_rule_and_without_any_secret(folder: Path) -> None:
    result = ask(folder, bundle(), "--at", JUNE, "--reason", "pat")
    assert result.exit_code == 0, result.output
    assert "swiftbook cancel at airedale, 2026-06-01T09:00:00Z: permitted" in result.output
    rows = dict(line.split() for line in result.output.splitlines() if len(line.split()) == 2 and ":" not in line)
    assert rows["granted"] == rows["owned-by-customer"] == rows["reason-allowed"] == "passed"
    assert "the grant wants NHS number and date of birth" in result.output


def test_a_refusal_names_the_rule_and_what_the_partner_is_told(folder: Path) -> None:
    result = ask(folder, bundle(), "--at", "2026-06-30T09:00:00Z", "--reason", "pat")
    assert result.exit_code == 2
    assert "REFUSED: too-late" in result.output
    assert "The last moment was 2026-06-29T08:00:00Z." in result.output
    assert "FAILED" in next(line for line in result.output.splitlines() if line.startswith("notice-kept"))


@pytest.mark.parametrize(
    ("options", "operation", "code"),
    [
        pytest.param(["--reason", "pat"], "cancel", None, id="a reason that is granted"),
        pytest.param(["--reason", "prov"], "cancel", "reason-not-allowed", id="a reason that is not"),
        pytest.param([], "read", None, id="a read"),
        pytest.param(["--start", "2026-07-02T09:00", "--end", "2026-07-02T09:30"], "change", None, id="a change"),
        pytest.param(["--start", "2026-11-02"], "change", "end-before-start", id="a start behind the end"),
        pytest.param(["--comment", "x"], "change", "field-not-changeable", id="a field that is not granted"),
        pytest.param(["--if-match", "6"], "cancel", "version-conflict", id="another version"),
        pytest.param(["--patient", "9990000026"], "cancel", "patient-mismatch", id="another patient"),
        pytest.param(["--birth-date", "1980-02-29"], "cancel", None, id="the patient's birthday"),
    ],
)
def test_the_command_is_judged_as_told(folder: Path, options: list[str], operation: str, code: str | None) -> None:
    assert told(folder, bundle(), *options, operation=operation)["code"] == code


def test_the_owner_is_the_patients(folder: Path) -> None:
    other = bundle(managingOrganization={"reference": "Organization/leeds"})
    assert told(folder, other)["code"] == "not-found"
    assert dict(told(folder, other)["checks"])["owned-by-customer"] is False


def test_what_a_file_without_the_patient_leaves_open_is_said_to_be_assumed(folder: Path) -> None:
    alone = told(folder, APPOINTMENT)
    assert alone["decision"] == "permit"
    assert alone["assumed"] == ["the patient has an NHS number", "the appointment belongs to airedale"]
    assert told(folder, bundle())["assumed"] == []


def test_a_few_lines_written_by_hand_are_enough(folder: Path) -> None:
    short = {"resourceType": "Appointment", "status": "booked", "start": "2026-07-01T09:00:00Z"}
    answer = told(folder, short)
    assert answer["code"] == "not-found"
    assert [rule for rule, passed in answer["checks"] if not passed] == ["specialty-granted"]
    assert "there is one patient" in answer["assumed"]


def test_a_customer_that_is_not_known_is_refused_like_one_that_grants_nothing(folder: Path) -> None:
    assert told(folder, APPOINTMENT, customer="nowhere")["code"] == "no-grant"


def test_over_hl7_what_a_message_cannot_say_is_told(folder: Path) -> None:
    security = [{"system": "http://fhir.patientsknowbest.com/codesystem/source-organization", "code": "bradford"}]
    placer = [{"system": "https://bradford.example/placer", "value": "P-1"}]
    document = APPOINTMENT | {"meta": {"versionId": "1", "security": security}}
    assert told(folder, document, customer="bradford")["code"] == "not-supported-on-route"
    assert told(folder, document | {"identifier": placer}, customer="bradford")["code"] is None


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        pytest.param("{", "not well-formed JSON", id="no JSON"),
        pytest.param([], "not a FHIR resource", id="a list"),
        pytest.param({"resourceType": "Patient"}, "the resource is no Appointment", id="a patient"),
        pytest.param({"resourceType": "Bundle"}, "exactly one Appointment, this one has 0", id="an empty bundle"),
        pytest.param(APPOINTMENT | {"id": 5}, "id is no string", id="an id that is a number"),
        pytest.param(APPOINTMENT | {"start": "tomorrow"}, "start is no instant", id="a start nobody can read"),
    ],
)
def test_a_file_that_cannot_be_judged_ends_with_status_1(folder: Path, document: object, reason: str) -> None:
    result = ask(folder, document)
    assert result.exit_code == 1
    assert reason in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="nothing"),
        pytest.param(["--partner", "p", "--customer", "c", "--operation", "cancle"], id="no such operation"),
        pytest.param(["--partner", "p", "--customer", "c", "--operation", "read"], id="no appointment"),
        pytest.param(["--partner", "p", "--customer", "c", "--operation", "read", "--id", "x"], id="nobody's name"),
    ],
)
def test_a_question_that_is_not_understood_is_no_refusal(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, ["explain", *arguments]).exit_code == 1


@pytest.mark.parametrize(
    ("operation", "option"), [("read", "--comment"), ("cancel", "--start"), ("change", "--reason")], ids=str
)
def test_options_of_another_operation_are_not_passed_over(folder: Path, operation: str, option: str) -> None:
    assert ask(folder, APPOINTMENT, option, "2026-07-01", operation=operation).exit_code == 1


def test_no_secret_is_needed_and_none_is_told(folder: Path) -> None:
    output = ask(folder, bundle(), "--json").output
    assert [each for each in (*settings_files.SECRETS, "not-to-be-seen") if each in output] == []


class Pkb:
    """Has one appointment, or a fault."""

    def __init__(self, fault: UpstreamFault | None = None) -> None:
        self.asked: list[tuple[str, bool]] = []
        self.fault = fault

    async def read(self, customer: object, appointment: str, deadline: float, *, fresh: bool) -> Sighting | None:
        self.asked.append((appointment, fresh))
        if self.fault is not None:
            raise self.fault
        return Sighting(makers.appointment(), b"{}", None) if appointment == "a-1" else None

    async def write(self, *_: object, **__: object) -> Any:
        raise AssertionError("an explanation writes nothing")


def desk(pkb: Pkb, paper: Paper, known: Any = None) -> Explaining:
    veil = Pseudonyms("k1", b"0123456789abcdef")
    return Explaining(lambda: known or makers.policy(), pkb, paper, veil, lambda: makers.NOW)


async def test_a_live_explanation_is_on_record_with_the_name_of_who_asked() -> None:
    pkb, paper = Pkb(), Paper()
    found = await desk(pkb, paper).live(Question(makers.WHO, makers.cancel()), "a-1", "Ann", 1.0)
    assert isinstance(found.trial.decision, Permit)
    assert pkb.asked == [("a-1", True)]
    (record,) = paper.written
    assert (record["event"], record["operator"], record["decision"]) == ("explained", "Ann", "permit")
    assert (record["appointment"], record["reason"], record["facts"]["owner"]) == ("a-1", "pat", ["airedale"])
    assert record["patient"].startswith("k1:")


async def test_pkb_is_not_asked_where_the_grants_decide() -> None:
    pkb, paper = Pkb(), Paper()
    found = await desk(pkb, paper, makers.no_grants()).live(Question(makers.WHO, Read()), "a-1", "Ann", 1.0)
    assert isinstance(found.trial.decision, Refusal)
    assert (pkb.asked, paper.written[0]["code"]) == ([], "no-grant")
    stranger = Question(Claimant("swiftbook", "nowhere"), Read())
    await desk(pkb, paper).live(stranger, "a-1", "Ann", 1.0)
    assert (pkb.asked, paper.written[1]["code"]) == ([], "no-grant")


async def test_an_appointment_that_pkb_has_not_is_explained_as_not_found() -> None:
    paper = Paper()
    found = await desk(Pkb(), paper).live(Question(makers.WHO, Cancel(())), "a-2", "Ann", 1.0)
    assert isinstance(found.trial.decision, Refusal)
    assert (found.trial.decision.code, paper.written[0]["facts"]) == (Code.NOT_FOUND, None)


async def test_a_look_that_failed_is_on_record_too() -> None:
    paper = Paper()
    silent = Pkb(UpstreamFault(Code.UPSTREAM_TIMEOUT, "no answer", 504))
    with pytest.raises(UpstreamFault):
        await desk(silent, paper).live(Question(makers.WHO, Read()), "a-1", "Ann", 1.0)
    assert (paper.events, paper.written[0]["code"]) == (["explained"], "upstream-timeout")


async def test_nothing_is_explained_that_cannot_be_recorded() -> None:
    with pytest.raises(JournalUnavailable):
        await desk(Pkb(), Paper(full=True)).live(Question(makers.WHO, Read()), "a-1", "Ann", 1.0)


def test_a_gateway_that_never_ran_here_is_said_before_anything_is_made(folder: Path) -> None:
    command = ["explain", "--partner", "swiftbook", "--customer", "airedale", "--operation", "read"]
    live = ["--id", "a-1", "--by", "Ann", "--config", str(folder / "gateway.toml")]
    environ = {**settings_files.ENVIRON, **grants_files.ENVIRON}
    result = CliRunner().invoke(main, [*command, *live], env=environ)
    assert result.exit_code == 1
    assert "has the gateway run with these settings?" in result.output
    assert not (folder.parent / "var").exists()
