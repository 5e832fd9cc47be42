"""What an appointment and a command say of themselves."""

from datetime import date

import pytest

from gateway.domain.appointment import (
    CANCEL_REASON_SYSTEM,
    CANCEL_REASONS,
    CHANGEABLE,
    GENERAL_HEALTH,
    NHS_NUMBER_SYSTEM,
    NO_CLAIM,
    SNOMED_CT,
    Change,
    PatientClaim,
    Read,
    Status,
)
from gateway.domain.grant import Coding, Field, Operation
from tests.makers import BORN, NHS_NUMBER, NOW, PATIENT_CANCELS, appointment, cancel, instant


def test_the_systems_are_those_of_the_standards() -> None:
    assert NHS_NUMBER_SYSTEM == "https://fhir.nhs.uk/Id/nhs-number"
    assert SNOMED_CT == "http://snomed.info/sct"
    assert CANCEL_REASON_SYSTEM == "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason"


def test_the_reasons_are_the_whole_code_system() -> None:
    told = (
        "pat pat-crs pat-cpp pat-dec pat-fb pat-lt pat-mt pat-mv pat-preg pat-swl pat-ucp prov prov-pers prov-dch"
        " prov-edu prov-hosp prov-labs prov-mss prov-onc maint meds-inc other oth-cms oth-err oth-fin oth-iv oth-int"
        " oth-mu oth-room oth-oerr oth-swie oth-weath"
    )

    assert set(told.split()) == CANCEL_REASONS


def test_the_statuses_are_those_of_fhir_and_four_can_be_changed() -> None:
    told = "proposed pending booked arrived fulfilled cancelled noshow entered-in-error checked-in waitlist"

    assert {status.value for status in Status} == set(told.split())
    assert {status.value for status in CHANGEABLE} == {"booked", "pending", "proposed", "waitlist"}


def test_an_appointment_without_a_privacy_label_is_general_health() -> None:
    assert appointment(labels=frozenset()).labels == frozenset({GENERAL_HEALTH})
    assert appointment().labels == frozenset({GENERAL_HEALTH})
    assert appointment(labels=frozenset({"SEXUAL_HEALTH"})).labels == frozenset({"SEXUAL_HEALTH"})


@pytest.mark.parametrize(
    ("claim", "given", "complete"),
    [
        pytest.param(NO_CLAIM, False, False, id="nothing"),
        pytest.param(PatientClaim(nhs_number=NHS_NUMBER), True, False, id="number"),
        pytest.param(PatientClaim(birth_date=BORN), True, False, id="birth date"),
        pytest.param(PatientClaim(NHS_NUMBER, BORN), True, True, id="both"),
        pytest.param(PatientClaim("", date.min), True, True, id="both, even if empty"),
    ],
)
def test_a_claim_knows_what_was_said(claim: PatientClaim, given: bool, complete: bool) -> None:
    assert claim.given is given
    assert claim.complete is complete


@pytest.mark.parametrize(
    ("codings", "reason"),
    [
        pytest.param((PATIENT_CANCELS,), "pat", id="one of the system"),
        pytest.param((), None, id="text only"),
        pytest.param((PATIENT_CANCELS, PATIENT_CANCELS), None, id="the same twice"),
        pytest.param((PATIENT_CANCELS, Coding("urn:local", "x")), None, id="one of the system beside another"),
        pytest.param((Coding("urn:local", "pat"),), None, id="another system"),
        pytest.param((Coding("", "pat"),), None, id="no system"),
        pytest.param((Coding(CANCEL_REASON_SYSTEM + "/", "pat"),), None, id="nearly the system"),
    ],
)
def test_a_reason_is_exactly_one_code_of_the_system(codings: tuple[Coding, ...], reason: str | None) -> None:
    assert cancel(codings=codings).reason == reason


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        pytest.param(Change(), set(), id="nothing"),
        pytest.param(Change(start=instant(NOW)), {Field.START}, id="start"),
        pytest.param(Change(end=instant(NOW)), {Field.END}, id="end"),
        pytest.param(Change(comment=""), {Field.COMMENT}, id="an empty comment is one"),
        pytest.param(Change(location="Ward 7"), {Field.LOCATION}, id="location"),
        pytest.param(Change(management_url="https://x.example"), {Field.MANAGEMENT_URL}, id="management page"),
        pytest.param(Change(instant(NOW), instant(NOW), "a", "b", "c"), set(Field), id="all"),
    ],
)
def test_a_change_names_the_fields_it_gives(change: Change, fields: set[Field]) -> None:
    assert change.fields == fields


def test_each_command_is_one_operation() -> None:
    assert (Read().operation, cancel().operation, Change().operation) == (
        Operation.READ,
        Operation.CANCEL,
        Operation.CHANGE,
    )
    assert Read().claim is NO_CLAIM
