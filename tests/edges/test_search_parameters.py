"""The parameters of a search: exact names, one reading each, and dates on the customer's clock."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.appointment import NHS_NUMBER_SYSTEM, Status
from gateway.domain.codes import Code
from gateway.domain.grant import Coding
from gateway.domain.search import Query
from gateway.partner.search import PARAMETERS, read_search
from gateway.partner.target import Malformed, Target, read_form, read_target
from gateway.partner.wire import Misfit

LONDON = ZoneInfo("Europe/London")
NHS = f"{NHS_NUMBER_SYSTEM}|9990000018"
PATIENT = Coding(NHS_NUMBER_SYSTEM, "9990000018")
NUMBER = Coding("urn:pas", "A 1/é")


def read(*pairs: tuple[str, str], zone: ZoneInfo = LONDON) -> Query | str | Misfit:
    return read_search(pairs, zone)


def asked(*pairs: tuple[str, str], zone: ZoneInfo = LONDON) -> Query:
    query = read(("patient.identifier", NHS), *pairs, zone=zone)
    assert isinstance(query, Query), query
    return query


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_a_patient_is_searched_for_twenty_at_a_time() -> None:
    assert asked() == Query(PATIENT)


def test_everything_may_be_asked_for_together() -> None:
    query = asked(
        ("identifier", "urn:pas|A 1/é"),
        ("date", "ge2026-04-14"),
        ("date", "lt2026-04-16"),
        ("status", "booked,pending"),
        ("_count", "100"),
    )
    statuses = frozenset({Status.BOOKED, Status.PENDING})
    assert query == Query(PATIENT, NUMBER, at("2026-04-14T00:00+01:00"), at("2026-04-16T00:00+01:00"), statuses, 100)


def test_an_identifier_alone_will_do() -> None:
    assert read(("identifier", "urn:pas|A 1/é")) == Query(identifier=NUMBER)


def test_a_cursor_stands_alone() -> None:
    assert read(("_cursor", "abc")) == "abc"


DATES = {
    "a day": ("2026-04-14", "2026-04-14T00:00+01:00", "2026-04-15T00:00+01:00"),
    "a day in winter": ("eq2026-01-14", "2026-01-14T00:00Z", "2026-01-15T00:00Z"),
    "the short day": ("2026-03-29", "2026-03-29T00:00Z", "2026-03-30T00:00+01:00"),
    "the long day": ("2026-10-25", "2026-10-25T00:00+01:00", "2026-10-26T00:00Z"),
    "a month": ("2026-03", "2026-03-01T00:00Z", "2026-04-01T00:00+01:00"),
    "December": ("2026-12", "2026-12-01T00:00Z", "2027-01-01T00:00Z"),
    "a year": ("2026", "2026-01-01T00:00Z", "2027-01-01T00:00Z"),
    "a minute": ("2026-04-14T09:30", "2026-04-14T09:30+01:00", "2026-04-14T09:31+01:00"),
    "a second": ("2026-04-14T09:30:00", "2026-04-14T09:30+01:00", "2026-04-14T09:30:01+01:00"),
    "a tenth": ("2026-04-14T09:30:00.5", "2026-04-14T09:30:00.5+01:00", "2026-04-14T09:30:00.6+01:00"),
    "with offset": ("2026-04-14T09:30:00+05:30", "2026-04-14T04:00Z", "2026-04-14T04:00:01Z"),
    "in UTC": ("2026-04-14T09:30:00Z", "2026-04-14T09:30Z", "2026-04-14T09:30:01Z"),
    "in the hour that is twice, with offset": (
        "2026-10-25T01:30:00+01:00",
        "2026-10-25T00:30Z",
        "2026-10-25T00:30:01Z",
    ),
    "after a day": ("gt2026-04-14", "2026-04-15T00:00+01:00", None),
    "from a day on": ("ge2026-04-14", "2026-04-14T00:00+01:00", None),
    "before a day": ("lt2026-04-14", None, "2026-04-14T00:00+01:00"),
    "until a day": ("le2026-04-14", None, "2026-04-15T00:00+01:00"),
    "the first year": ("1900", "1900-01-01T00:00Z", "1901-01-01T00:00Z"),
    "the last year": ("9998", "9998-01-01T00:00Z", "9999-01-01T00:00Z"),
}


@pytest.mark.parametrize(("text", "since", "before"), DATES.values(), ids=DATES)
def test_a_date_without_offset_is_the_customers(text: str, since: str | None, before: str | None) -> None:
    query = asked(("date", text))
    assert (query.since, query.before) == (at(since) if since else None, at(before) if before else None)


def test_another_zone_has_other_days() -> None:
    query = asked(("date", "2026-04-14"), zone=ZoneInfo("Pacific/Auckland"))
    assert query.since == at("2026-04-13T12:00Z")


def test_a_midnight_that_a_zone_leaves_out_is_when_the_day_begins() -> None:
    query = asked(("date", "2018-11-04"), zone=ZoneInfo("America/Sao_Paulo"))
    assert (query.since, query.before) == (at("2018-11-04T03:00Z"), at("2018-11-05T02:00Z"))


def test_several_dates_must_all_hold() -> None:
    query = asked(
        ("date", "ge2026-04-01"), ("date", "ge2026-04-14"), ("date", "le2026-04-20"), ("date", "lt2026-04-15")
    )
    assert (query.since, query.before) == (at("2026-04-14T00:00+01:00"), at("2026-04-15T00:00+01:00"))


WRONG = {
    "an unknown name": ("colour", "red"),
    "a name in capitals": ("Status", "booked"),
    "a modifier": ("status:not", "booked"),
    "a chain": ("actor:Patient.name", "x"),
    "a reverse chain": ("_has:Observation:patient:code", "1"),
    "include": ("_include", "Appointment:patient"),
    "include with modifier": ("_include:iterate", "Appointment:patient"),
    "revinclude": ("_revinclude", "Provenance:target"),
    "elements": ("_elements", "id"),
    "summary": ("_summary", "text"),
    "total": ("_total", "accurate"),
    "format": ("_format", "xml"),
    "PKB's own page": ("_page", "2"),
    "pages of others": ("_getpages", "x"),
    "sort": ("_sort", "-start"),
    "a token": ("access_token", "x"),
    "a patient twice": ("patient.identifier", NHS),
    "an identifier without system": ("identifier", "A1"),
    "an identifier of any system": ("identifier", "|A1"),
    "every identifier of a system": ("identifier", "urn:pas|"),
    "an identifier that is blank": ("identifier", "urn:pas| "),
    "an identifier with a blank around": ("identifier", "urn:pas|A1 "),
    "a blank in the system": ("identifier", "urn pas|A1"),
    "three parts": ("identifier", "urn:pas|A1|A2"),
    "several identifiers": ("identifier", "urn:pas|A1,urn:pas|A2"),
    "an escaped identifier": ("identifier", "urn:pas|A1\\,A2"),
    "a composite": ("identifier", "urn:pas|A1$A2"),
    "a long identifier": ("identifier", f"urn:pas|{'1' * 201}"),
    "no identifier": ("identifier", ""),
    "an unknown status": ("status", "lost"),
    "no status": ("status", ""),
    "a status and nothing": ("status", "booked,"),
    "a status with a blank": ("status", "booked, pending"),
    "no count": ("_count", ""),
    "count 0": ("_count", "0"),
    "count 101": ("_count", "101"),
    "a negative count": ("_count", "-1"),
    "a signed count": ("_count", "+5"),
    "a padded count": ("_count", "05"),
    "a foreign digit": ("_count", "٥"),
    "a count that is none": ("_count", "all"),
    "no date": ("date", ""),
    "a prefix alone": ("date", "ge"),
    "an unknown prefix": ("date", "ap2026-04-14"),
    "not equal": ("date", "ne2026-04-14"),
    "starts after": ("date", "sa2026-04-14"),
    "several dates in one": ("date", "2026-04-14,2026-04-15"),
    "a day that is none": ("date", "2026-02-30"),
    "a thirteenth month": ("date", "2026-13"),
    "hour 24": ("date", "2026-04-14T24:00:00Z"),
    "second 60": ("date", "2026-04-14T23:59:60Z"),
    "an hour alone": ("date", "2026-04-14T09"),
    "seven digits of a second": ("date", "2026-04-14T09:30:00.1234567Z"),
    "an offset that is none": ("date", "2026-04-14T09:30:00+25:00"),
    "a blank for a plus": ("date", "2026-04-14T09:30:00 01:00"),
    "an hour that is twice": ("date", "2026-10-25T01:30:00"),
    "an hour that is not": ("date", "2026-03-29T01:30:00"),
    "before the calendar": ("date", "1899-12-31"),
    "after the calendar": ("date", "9999-12-31"),
    "foreign digits": ("date", "２０２６-04-14"),
    "a cursor beside it": ("_cursor", "abc"),
}


@pytest.mark.parametrize("pair", WRONG.values(), ids=WRONG)
def test_what_is_not_exactly_right_is_refused(pair: tuple[str, str]) -> None:
    refused = read(("patient.identifier", NHS), pair)
    assert isinstance(refused, Misfit)
    assert refused.code is Code.INVALID_PARAMETER
    assert len(pair[1]) < 3 or pair[1] not in refused.detail


@pytest.mark.parametrize(
    "value", [f"{NHS_NUMBER_SYSTEM}|999000001", f"{NHS_NUMBER_SYSTEM}|999 000 0018", f"{NHS_NUMBER_SYSTEM}|٩٩٩٠٠٠٠٠١٨"]
)
def test_an_nhs_number_has_ten_digits(value: str) -> None:
    refused = read(("patient.identifier", value))
    assert isinstance(refused, Misfit)
    assert refused.code is Code.INVALID_PARAMETER


@pytest.mark.parametrize("pairs", [(), (("date", "2026"),), (("status", "lost"),)], ids=["nothing", "a date", "wrong"])
def test_what_is_missing_is_told_before_what_is_wrong(pairs: tuple[tuple[str, str], ...]) -> None:
    refused = read(*pairs)
    assert isinstance(refused, Misfit)
    assert refused.code is Code.MISSING_PARAMETER


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name != "date"])
def test_only_a_date_may_be_repeated(name: str) -> None:
    refused = read((name, "1"), (name, "1"))
    assert isinstance(refused, Misfit)
    assert (refused.code, refused.detail) == (Code.INVALID_PARAMETER, f"{name} may come once.")


# The same in an address and in a form

TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40)


@given(st.lists(st.tuples(st.sampled_from(PARAMETERS), TEXT), max_size=6))
def test_a_form_says_what_an_address_says(pairs: list[tuple[str, str]]) -> None:
    query = urlencode(pairs, quote_via=quote)
    target = read_target(f"/airedale/fhir/Appointment?{query}", "gateway.example")
    assert isinstance(target, Target)
    assert target.query == read_form(query.encode()) == tuple(pairs)


@given(st.lists(st.tuples(st.sampled_from([*PARAMETERS, "x"]), TEXT), max_size=6))
def test_whatever_is_sent_is_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    assert isinstance(read(*pairs), Query | str | Misfit)


def test_a_plus_in_a_form_stays_one() -> None:
    assert read_form(b"date=2026-04-14T09:30:00+01:00") == (("date", "2026-04-14T09:30:00+01:00"),)


FORMS = {
    "not ASCII": b"status=\xc3\xa9",
    "a blank": b"status=a b",
    "an encoded name": b"%73tatus=booked",
    "half an escape": b"status=%4",
    "not UTF-8": b"status=%ff",
    "a control character": b"status=%00",
    "a line break": b"status=booked\r\n",
    "an empty field": b"status=booked&&date=2026",
    "JSON": b'{"status":"booked"}',
}


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS)
def test_what_is_no_form_is_refused(body: bytes) -> None:
    assert isinstance(read_form(body), Malformed)


def test_an_empty_form_says_nothing() -> None:
    assert read_form(b"") == ()


def test_a_moment_is_never_before_its_own_end() -> None:
    for text, _, _ in DATES.values():
        query = asked(("date", text))
        assert query.since is None or query.before is None or query.before - query.since > timedelta(0)
