"""The demonstration's data, over real sockets."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from gateway.simulator import CUSTOMERS, PRIVACY_LABEL, Simulator
from gateway.simulator.demo import SCENARIOS
from tests.edges.simulator_desk import NOW, Desk, open_desk


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_desk() as desk:
        yield desk


def test_the_demonstration_has_enough_of_everything(desk: Desk) -> None:
    found = Counter((a.scenario, a.customer, a.owner) for a in desk.pkb.appointments)
    own, team = ("airedale", "airedale"), ("airedale", "airedale-cardiology")
    assert found.pop(("changeable", *own)) >= 10
    assert set(found) == {
        ("team-owned", *team),
        ("other-customer", "airedale", "wharfedale"),
        ("specialty-outside", "airedale-cardiology", "airedale-cardiology"),
        *((name, *own) for name in ("cancelled", "past", "inside-notice", "label-outside", "fulfilled", "noshow")),
    }
    assert min(found.values()) >= 3
    assert set(CUSTOMERS) == {"airedale", "airedale-cardiology", "wharfedale"}


async def test_the_list_agrees_with_pkbs_own_resources(desk: Desk) -> None:
    scenarios = {scenario.name: scenario for scenario in SCENARIOS}
    for booked in desk.pkb.appointments:
        copy = await desk.copy(booked)
        _, text = await desk.box("GET", copy["participant"][0]["actor"]["reference"])
        patient, identifier = json.loads(text), copy["identifier"][0]
        assert (copy["status"], copy["start"], copy["meta"]["versionId"]) == (
            booked.status,
            booked.start,
            booked.version,
        )
        assert f"{identifier['system']}|{identifier['value']}" == booked.identifier
        assert "{system}|{value}".format(**patient["identifier"][0]) == booked.patient_identifier
        assert patient["birthDate"] == booked.birth_date
        assert patient["managingOrganization"]["reference"] == CUSTOMERS[booked.owner].source
        scenario = scenarios[booked.scenario]
        assert copy["meta"]["security"][0] == {"system": PRIVACY_LABEL, "code": scenario.label}
        assert copy["specialty"][0]["coding"][0]["code"] == scenario.specialty[0]
    assert len({a.patient_identifier for a in desk.pkb.appointments}) == len(desk.pkb.appointments)


@pytest.mark.parametrize(
    ("scenario", "earliest", "latest"),
    [
        ("changeable", timedelta(days=39), timedelta(days=70)),
        ("team-owned", timedelta(days=39), timedelta(days=70)),
        ("inside-notice", timedelta(hours=23, minutes=59), timedelta(hours=24)),
        ("past", timedelta(days=-2), timedelta(0)),
    ],
)
def test_times_are_relative_to_the_start(desk: Desk, scenario: str, earliest: timedelta, latest: timedelta) -> None:
    for booked in desk.all(scenario):
        start = datetime.fromisoformat(booked.start)
        assert earliest <= start - NOW <= latest
        assert start.second == 0


def test_times_are_londons_wall_clock_with_its_offset(desk: Desk) -> None:
    assert desk.first().start == "2026-04-12T10:15:00+01:00"
    assert desk.first("past").start == "2026-03-01T10:00:00+00:00"


async def test_an_appointment_lasts_half_an_hour_even_when_clocks_change() -> None:
    desk = Desk(Simulator(datetime(2026, 3, 28, 0, 45, tzinfo=UTC)), aiohttp.ClientSession())
    await desk.session.close()
    copy = desk.pkb.world.boxes["airedale"].get("Appointment", desk.first("inside-notice").id)
    assert copy is not None
    assert copy.resource["start"] == "2026-03-29T00:45:00+00:00"
    assert copy.resource["end"] == "2026-03-29T02:15:00+01:00"


def test_nhs_numbers_are_of_the_test_range_and_have_their_check_digit(desk: Desk) -> None:
    for booked in desk.pkb.appointments:
        number = booked.patient_identifier.rpartition("|")[2]
        assert number.startswith("999")
        assert sum(int(digit) * weight for digit, weight in zip(number, range(10, 0, -1), strict=True)) % 11 == 0


def test_ids_are_the_same_in_every_start(desk: Desk) -> None:
    later = Simulator(NOW + timedelta(days=100))
    assert [(a.id, a.version, a.identifier, a.patient_identifier, a.birth_date) for a in later.appointments] == [
        (a.id, a.version, a.identifier, a.patient_identifier, a.birth_date) for a in desk.pkb.appointments
    ]
    assert later.appointments[0].start != desk.pkb.appointments[0].start
