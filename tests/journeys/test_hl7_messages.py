"""What goes over the wire to the hospital that is reached by HL7, and what never gets so far."""

import base64
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.journeys import hospital
from tests.journeys.hospital import CUSTOMER, URL, booked
from tests.journeys.partner import (
    Client,
    birth_date,
    comment,
    instant,
    location,
    parameters,
    patient,
    reason,
)
from tests.journeys.processes import Json

LONDON = ZoneInfo("Europe/London")


def last_sunday(month: int) -> date:
    """Of next year: clocks change on it in March and October."""
    end = date(datetime.now(UTC).year + 1, month, 31)
    return end - timedelta(days=(end.weekday() + 1) % 7)


def at(day: date, hour: int, minute: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=LONDON)


async def test_a_cancel_is_a_header_a_patient_and_a_placer_id(client: Client) -> None:
    booking = await booked(client)
    before = datetime.now(LONDON).strftime("%Y%m%d%H%M%S")
    reply = await client.cancel(booking.id, *booking.who, reason(), customer=CUSTOMER)
    assert (reply.status, reply.body["status"]) == (200, "cancelled")
    [sent] = await hospital.messages(client, booking.placer)
    assert [line[:3] for line in sent.text.splitlines()] == ["MSH", "PID", "SCH"]
    assert sent.text.startswith("MSH|^~\\&|")
    assert sent.field("MSH", 4) == "bradford{bradford}"
    assert [sent.field("MSH", number) for number in (5, 6, 9, 11, 12)] == ["HL7API", "PKB", "SIU^S15", "P", "2.4"]
    assert before <= sent.field("MSH", 7) <= datetime.now(LONDON).strftime("%Y%m%d%H%M%S")
    assert sent.text.splitlines()[2] == f"SCH|{booking.placer}"
    assert sent.field("PID", 3) == f"{booking.number}^^^NHS^NH"
    assert sent.field("PID", 5).startswith("XXTESTPATIENT-")
    assert sent.field("PID", 7) == booking.born.replace("-", "")


async def test_a_message_carries_the_partners_login_and_nothing_of_its_request(client: Client) -> None:
    booking = await booked(client)
    strange = {"X-Strange": "1", "Cookie": "a=b", "X-Org-Public-Id": "other"}
    await client.cancel(booking.id, *booking.who, reason(), customer=CUSTOMER, headers=strange)
    [sent] = await hospital.messages(client, booking.placer)
    headers = sent.write["headers"]
    scheme, _, rest = headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(rest).decode()) == ("Basic", "partner_swiftbook:sandbox-swiftbook-hl7")
    assert headers["content-type"].startswith("text/xml")
    assert not {"x-strange", "cookie", "x-org-public-id", "x-request-id"} & headers.keys()


async def test_a_change_repeats_what_pkb_would_lose(client: Client) -> None:
    booking = await booked(client)
    given = (
        comment("Bring ]]> <&> your \u00e9 glasses."),
        location("Ward 7"),
        {"name": "managementUrl", "valueUrl": URL},
    )
    reply = await client.change(booking.id, *booking.who, *given, customer=CUSTOMER)
    assert reply.status == 200
    [sent] = await hospital.messages(client, booking.placer)
    assert (sent.trigger, sent.field("SCH", 11)) == ("S14", "")
    assert (sent.field("PV1", 2), sent.field("PV1", 3), sent.field("PV1", 10)) == ("O", "^^^^^^^^Ward 7", "320")
    names = [line.split("|")[3:] for line in sent.text.splitlines() if line.startswith("AIP|")]
    assert names == [
        ["^Dr Test Jones (Consultant)", "^Consultant"],
        ["^Nurse Test Smith (Specialist Nurse)", "^Specialist Nurse"],
    ]
    assert reply.body["comment"] == "Bring ]]> <&> your \u00e9 glasses."
    assert hospital.people(await client.copy(booking.id, CUSTOMER)) == hospital.people(booking.held)
    assert await hospital.management_url(client, booking) == URL


@pytest.mark.parametrize(("month", "offset"), [(2, 0), (7, 1)], ids=["winter", "summer"])
async def test_times_are_sent_as_the_hospitals_clock_shows_them(month: int, offset: int, client: Client) -> None:
    booking = await booked(client)
    start = datetime(datetime.now(UTC).year + 1, month, 3, 9, 30, tzinfo=UTC)
    given = (instant("start", start), instant("end", start + timedelta(minutes=30)))
    reply = await client.change(booking.id, *booking.who, *given, customer=CUSTOMER)
    assert reply.status == 200
    [sent] = await hospital.messages(client, booking.placer)
    shown = (start + timedelta(hours=offset)).strftime("%Y%m%d%H%M")
    until = (start + timedelta(hours=offset, minutes=30)).strftime("%Y%m%d%H%M")
    assert (sent.trigger, sent.field("SCH", 11)) == ("S13", f"^^^{shown}^{until}")
    assert datetime.fromisoformat(reply.body["start"]) == start


async def test_another_birth_date_is_refused_before_pkb_sees_a_message(client: Client) -> None:
    booking = await booked(client)
    for wrong in (
        (patient(booking.number), birth_date("1901-01-01")),
        (patient("9434765919"), birth_date(booking.born)),
    ):
        reply = await client.cancel(booking.id, *wrong, reason(), customer=CUSTOMER)
        assert (reply.status, reply.code) == (404, "not-found")
        [record] = await client.audit_of(reply.request_id)
        assert (record["code"], record["facts"]["patient"]) == ("patient-mismatch", "mismatch")
    assert await hospital.messages(client, booking.placer) == []
    assert [each for each in await client.review() if each["placer"] == booking.placer] == []


@pytest.mark.parametrize("named", [(), (0,), (1,)], ids=["nothing", "number only", "birth date only"])
@pytest.mark.parametrize("operation", ["$cancel", "$change"])
async def test_the_patient_must_be_named_in_full(named: tuple[int, ...], operation: str, client: Client) -> None:
    booking = await booked(client)
    rest = reason() if operation == "$cancel" else comment("x")
    body = parameters(*(booking.who[each] for each in named), rest)
    path = f"/{CUSTOMER}/fhir/Appointment/{booking.id}/{operation}"
    reply = await client.ask("POST", path, body=body)
    assert (reply.status, reply.code) == (400, "missing-parameter")
    assert await hospital.messages(client, booking.placer) == []


def moved(start: datetime, **of_end: Any) -> tuple[Json, ...]:
    return instant("start", start), instant("end", start.replace(**of_end) if of_end else start + timedelta(hours=2))


UNSAYABLE: dict[str, Callable[[], tuple[Json, ...]]] = {
    "seconds": lambda: moved(at(last_sunday(10), 9).replace(second=30)),
    "seconds at the end": lambda: moved(at(last_sunday(10), 9), hour=10, second=1),
    "first of the hour that comes twice": lambda: moved(at(last_sunday(10), 1, 30)),
    "second of the hour that comes twice": lambda: moved(at(last_sunday(10), 1, 30).replace(fold=1)),
    "an end in the hour that comes twice": lambda: moved(at(last_sunday(10), 0, 30), hour=1),
    "a line break": lambda: (comment("one\ntwo"),),
    "a carriage return": lambda: (location("Ward\rPID|"),),
    "HL7's word for nothing": lambda: (comment('""'),),
}


@pytest.mark.parametrize("case", UNSAYABLE)
async def test_what_hl7_cannot_say_is_not_sent(case: str, client: Client) -> None:
    booking = await booked(client)
    reply = await client.change(booking.id, *booking.who, *UNSAYABLE[case](), customer=CUSTOMER)
    assert (reply.status, reply.code) == (422, "not-supported-on-route")
    assert await hospital.messages(client, booking.placer) == []


async def test_a_cancel_with_a_comment_is_not_sent_without_it(client: Client) -> None:
    booking = await booked(client)
    reply = await client.cancel(booking.id, *booking.who, reason(), comment("Sorry."), customer=CUSTOMER)
    assert (reply.status, reply.code) == (422, "not-supported-on-route")
    assert await hospital.messages(client, booking.placer) == []


async def test_a_nameless_participant_would_get_lost_and_is_not_risked(client: Client) -> None:
    booking = await booked(client)
    nameless = {"actor": {"reference": "Practitioner/x"}, "status": "accepted"}
    held = {**booking.held, "participant": [*booking.held["participant"], nameless]}
    await client.put(booking.id, held, customer=CUSTOMER)
    reply = await client.change(booking.id, *booking.who, comment("x"), customer=CUSTOMER)
    assert (reply.status, reply.code) == (422, "not-supported-on-route")
    assert await hospital.messages(client, booking.placer) == []
    assert (await client.cancel(booking.id, *booking.who, reason(), customer=CUSTOMER)).status == 200


async def test_a_management_url_is_for_hl7_only(client: Client) -> None:
    id_ = await client.fresh()
    reply = await client.change(id_, {"name": "managementUrl", "valueUrl": URL})
    assert (reply.status, reply.code) == (422, "not-supported-on-route")
    assert await client.writes(id_) == []


async def test_what_pkb_changes_unasked_is_applied_and_told_as_collateral(client: Client) -> None:
    # The hospital's code map has changed: the specialty no longer stands for the label that the appointment has.
    booking = await booked(client)
    security = [
        {**each, "code": "MENTAL_HEALTH"} if each["code"] == "GENERAL_HEALTH" else each
        for each in booking.held["meta"]["security"]
    ]
    odd = {**booking.held, "meta": {**booking.held["meta"], "security": security}}
    grants = client.place.grants.read_text(encoding="utf-8")
    wider = grants.replace(
        'privacy_labels = ["GENERAL_HEALTH"]', 'privacy_labels = ["GENERAL_HEALTH", "MENTAL_HEALTH"]'
    )
    await client.put(booking.id, odd, customer=CUSTOMER)
    await client.regrant(wider)
    try:
        reply = await client.change(booking.id, *booking.who, comment("x"), customer=CUSTOMER)
    finally:
        await client.regrant(grants)
    assert reply.status == 200
    [outcome] = await client.audit_of(reply.request_id, "outcome")
    assert (outcome["outcome"], outcome["upstream"]["collateral"]) == ("applied", ["labels"])
    async with client.session.get(f"{client.place.admin_url}/metrics") as response:
        assert "collateral" in await response.text()


def test_the_clocks_go_back_on_the_last_sunday_of_october() -> None:
    day = last_sunday(10)
    assert at(day, 1).utcoffset() != at(day, 2).utcoffset()
