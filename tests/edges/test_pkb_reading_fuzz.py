"""Whatever a box sends is told or refused."""

import json
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.appointment import Appointment, Patient
from gateway.domain.strict_json import Number, Object, Value
from gateway.flow.ports import UpstreamFault
from gateway.pkb.appointment_reading import (
    PatientRecord,
    parse_instant,
    read_appointment,
    read_object,
    read_patient,
)
from tests.edges.pkb_documents import LABEL, appointment, patient

RECORD = PatientRecord(Patient("Patient/p1", "9990548609", date(1960, 2, 29)), "Organization/airedale")


def parsed(document: dict[str, Any]) -> Object:
    return read_object(json.dumps(document).encode())


# On a busy machine an example takes long for no reason of ours.
UNHURRIED = settings(suppress_health_check=[HealthCheck.too_slow])

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(0, 99).map(Number.of),
    st.sampled_from(["Appointment", "a1", "booked", "17", "Patient/p1", "#x", LABEL, "2026-04-14T09:30:00Z", ""]),
    st.text(max_size=5),
)
NAMES = st.sampled_from(
    ["actor", "reference", "type", "coding", "system", "code", "url", "extension", "security", "versionId", "display"]
) | st.sampled_from(["valueReference", "resourceType", "id", "identifier", "value"])
VALUES: st.SearchStrategy[Value] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
MEMBERS = ["meta", "status", "start", "end", "comment", "participant", "specialty", "contained", "cancelationReason"]


def told_or_refused(read: Callable[[], object]) -> object:
    """Gives None for a refusal; any other exception fails the test."""
    try:
        return read()
    except UpstreamFault:
        return None


@UNHURRIED
@given(st.dictionaries(st.sampled_from([*MEMBERS, "identifier", "id", "resourceType"]), VALUES, max_size=4))
def test_any_document_is_told_or_refused_and_never_a_surprise(members: dict[str, Value]) -> None:
    document = parsed(appointment()) | members

    told = told_or_refused(lambda: read_appointment(document, "a1", None).of(RECORD))

    if isinstance(told, Appointment):
        assert told.id == document["id"]
        assert (read_appointment(document, "a1", None).one_patient == "p1") == (told.patient is not None)


@UNHURRIED
@given(st.dictionaries(st.sampled_from(["identifier", "birthDate", "managingOrganization", "meta"]), VALUES))
def test_any_patient_is_told_or_refused_and_never_a_surprise(members: dict[str, Value]) -> None:
    told = told_or_refused(lambda: read_patient(parsed(patient()) | members, "p1"))

    assert told is None or isinstance(told, PatientRecord)


@UNHURRIED
@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_refused(body: bytes) -> None:
    told = told_or_refused(lambda: read_object(body))

    assert told is None or isinstance(told, dict)


@given(
    st.datetimes(datetime(1900, 1, 2), datetime(9999, 12, 30)),  # noqa: DTZ001 - the offset is drawn beside it
    st.integers(-14 * 60, 14 * 60),
    st.from_regex(r"[0-9]{0,12}", fullmatch=True),
)
def test_an_instant_is_read_to_the_microsecond_however_fine_it_is(at: datetime, offset: int, digits: str) -> None:
    sign, hours, minutes = "-" if offset < 0 else "+", *divmod(abs(offset), 60)
    text = f"{at:%Y-%m-%dT%H:%M:%S}{'.' if digits else ''}{digits}{sign}{hours:02}:{minutes:02}"

    exact = at.replace(microsecond=int(digits[:6].ljust(6, "0")), tzinfo=timezone(timedelta(minutes=offset)))
    assert parse_instant(text) == exact
