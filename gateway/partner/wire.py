"""The bodies of $cancel and $change: FHIR R4 Parameters in, commands out. Nothing of a body is ever repeated."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Final, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from gateway.domain import strict_json
from gateway.domain.appointment import NHS_NUMBER_SYSTEM, Cancel, Change, Instant, PatientClaim, Write
from gateway.domain.codes import Code
from gateway.domain.grant import Coding, Operation
from gateway.domain.values import (
    LONGEST,
    LONGEST_CODE,
    LONGEST_REASON,
    LONGEST_SYSTEM,
    MOST_CODINGS,
    is_clean,
    read_instant,
    why_unfit,
)

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NHS_NUMBER: Final = re.compile(r"[0-9]{10}")
_URL: Final = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*)?")


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why a body is refused, in words of ours, and where in it the fault lies (FHIRPath)."""

    code: Code
    detail: str
    expression: str | None = None


def _clean(text: str) -> str:
    if not is_clean(text):
        raise ValueError("is blank or holds control characters")
    return text


def _instant(text: str) -> str:
    if read_instant(text) is None:
        raise ValueError("is not a FHIR instant with seconds and offset")
    return text


def _date(text: str) -> str:
    if not _DATE.fullmatch(text):
        raise ValueError("is not a full date")
    date.fromisoformat(text)
    return text


def _https(text: str) -> str:
    if not _URL.fullmatch(text):
        raise ValueError("is not an https URL")
    return text


Text = Annotated[str, AfterValidator(_clean)]


class _Datatype(BaseModel):
    # FHIR datatypes carry more than is asked for (display, use, period); what is not asked for is not used.
    model_config = ConfigDict(strict=True, extra="ignore")


class _Coding(_Datatype):
    system: Annotated[str, StringConstraints(max_length=LONGEST_SYSTEM)] = ""
    code: Annotated[str, StringConstraints(max_length=LONGEST_CODE)] = ""


class _Concept(_Datatype):
    coding: Annotated[list[_Coding], Field(max_length=MOST_CODINGS)] = []
    text: Annotated[Text, StringConstraints(max_length=LONGEST_REASON)] | None = None


class _Identifier(_Datatype):
    system: str
    value: Annotated[str, StringConstraints(pattern=_NHS_NUMBER.pattern + "$", max_length=10)]


class _Parameter(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    name: str
    valueCodeableConcept: _Concept | None = None  # noqa: N815 - FHIR's name
    valueString: Text | None = None  # noqa: N815 - FHIR's name
    valueInstant: Annotated[str, AfterValidator(_instant)] | None = None  # noqa: N815 - FHIR's name
    valueUrl: Annotated[str, StringConstraints(max_length=500), AfterValidator(_https)] | None = None  # noqa: N815 - FHIR's name
    valueIdentifier: _Identifier | None = None  # noqa: N815 - FHIR's name
    valueDate: Annotated[str, AfterValidator(_date)] | None = None  # noqa: N815 - FHIR's name


_COMMON: Final = {"patient": "valueIdentifier", "birthDate": "valueDate", "comment": "valueString"}
_TYPES: Final = {
    Operation.CANCEL: {**_COMMON, "reason": "valueCodeableConcept"},
    Operation.CHANGE: {
        **_COMMON,
        "start": "valueInstant",
        "end": "valueInstant",
        "location": "valueString",
        "managementUrl": "valueUrl",
    },
}
_CHANGES: Final = ("start", "end", "comment", "location", "managementUrl")
_TEXTS: Final = {field.value: field for field in LONGEST}


def read_command(operation: Operation, body: bytes, *, patient_required: bool) -> Write | Misfit:
    """Read the Parameters of $cancel or $change; what is missing is told before what is wrong."""
    try:
        value = strict_json.read(body)
    except strict_json.MalformedJson as error:
        return Misfit(Code.MALFORMED_JSON, f"{str(error).capitalize()}.")
    missing = _missing(operation, _names(value), patient_required=patient_required)
    if missing is not None:
        return missing
    if not isinstance(value, dict) or value.get("resourceType") != "Parameters":
        return Misfit(Code.INVALID_PARAMETER, "The body must be a FHIR Parameters resource.", "Parameters")
    if value.keys() - {"resourceType", "id", "meta", "parameter"}:
        return Misfit(Code.INVALID_PARAMETER, "The resource has unknown elements.", "Parameters")
    given = _read_parameters(_TYPES[operation], cast("list[strict_json.Value]", value["parameter"]))
    if isinstance(given, Misfit):
        return given
    return _cancel(given) if operation is Operation.CANCEL else _change(given)


def _names(value: strict_json.Value) -> frozenset[str]:
    """List the parameters a body names, however wrong the rest of it may be."""
    entries = value.get("parameter") if isinstance(value, dict) else None
    if not isinstance(entries, list):
        return frozenset()
    names = [entry.get("name") for entry in entries if isinstance(entry, dict)]
    return frozenset(name for name in names if isinstance(name, str))


def _missing(operation: Operation, names: frozenset[str], *, patient_required: bool) -> Misfit | None:
    if operation is Operation.CANCEL and "reason" not in names:
        return Misfit(Code.MISSING_PARAMETER, "reason (valueCodeableConcept) is required.", "Parameters.parameter")
    if operation is Operation.CHANGE and names.isdisjoint(_CHANGES):
        listed = ", ".join(_CHANGES)
        return Misfit(Code.MISSING_PARAMETER, f"At least one of {listed} is required.", "Parameters.parameter")
    if patient_required and not {"patient", "birthDate"} <= names:
        detail = "The customer requires patient (valueIdentifier) and birthDate (valueDate)."
        return Misfit(Code.MISSING_PARAMETER, detail, "Parameters.parameter")
    return None


_Given = dict[str, _Parameter]


def _read_parameters(types: dict[str, str], entries: list[strict_json.Value]) -> _Given | Misfit:
    given: _Given = {}
    for index, entry in enumerate(entries):
        place = f"Parameters.parameter[{index}]"
        try:
            parameter = _Parameter.model_validate(entry)
        except ValidationError as error:
            return _misfit(place, types, entry, error)
        wanted = types.get(parameter.name)
        if wanted is None:
            return Misfit(Code.INVALID_PARAMETER, f"{place} has a name this operation does not know.", place)
        if parameter.name in given:
            return Misfit(Code.INVALID_PARAMETER, f"{parameter.name} is given more than once.", place)
        if parameter.model_fields_set != {"name", wanted} or getattr(parameter, wanted) is None:
            return Misfit(Code.INVALID_PARAMETER, f"{parameter.name} takes exactly one value, {wanted}.", place)
        unfit = _why_unfit(parameter)
        if unfit:
            return Misfit(Code.INVALID_PARAMETER, unfit, place)
        given[parameter.name] = parameter
    return given


def _misfit(place: str, types: dict[str, str], entry: strict_json.Value, error: ValidationError) -> Misfit:
    name = entry.get("name") if isinstance(entry, dict) else None
    known = name if isinstance(name, str) and name in types else None
    if known is None:
        return Misfit(Code.INVALID_PARAMETER, f"{place} is not a parameter this operation knows.", place)
    where = ".".join(str(step) for step in error.errors()[0]["loc"] if str(step) in _MEMBERS)
    fault = f" ({where})" if where else ""
    return Misfit(Code.INVALID_PARAMETER, f"{known} needs a valid {types[known]}{fault}.", place)


_MEMBERS: Final = frozenset({*_Parameter.model_fields, "coding", "system", "code", "text", "value"})


def _why_unfit(parameter: _Parameter) -> str | None:
    if parameter.valueString is not None:
        return why_unfit(_TEXTS[parameter.name], parameter.valueString)
    if parameter.name == "patient" and parameter.valueIdentifier is not None:
        right = parameter.valueIdentifier.system == NHS_NUMBER_SYSTEM
        return None if right else f"patient must be an NHS number of the system {NHS_NUMBER_SYSTEM}."
    return None


def _cancel(given: _Given) -> Cancel:
    concept = given["reason"].valueCodeableConcept
    assert concept is not None, "the table of types asks for it"
    return Cancel(
        codings=tuple(Coding(coding.system, coding.code) for coding in concept.coding),
        reason_text=concept.text,
        comment=_string(given, "comment"),
        claim=_claim(given),
    )


def _change(given: _Given) -> Change:
    url = given.get("managementUrl")
    return Change(
        start=_instant_of(given, "start"),
        end=_instant_of(given, "end"),
        comment=_string(given, "comment"),
        location=_string(given, "location"),
        management_url=url.valueUrl if url else None,
        claim=_claim(given),
    )


def _claim(given: _Given) -> PatientClaim:
    patient, born = given.get("patient"), given.get("birthDate")
    identifier = patient.valueIdentifier if patient else None
    return PatientClaim(
        nhs_number=identifier.value if identifier else None,
        birth_date=date.fromisoformat(born.valueDate) if born and born.valueDate else None,
    )


def _string(given: _Given, name: str) -> str | None:
    parameter = given.get(name)
    return parameter.valueString if parameter else None


def _instant_of(given: _Given, name: str) -> Instant | None:
    parameter = given.get(name)
    if parameter is None or parameter.valueInstant is None:
        return None
    return Instant(datetime.fromisoformat(parameter.valueInstant), parameter.valueInstant)
