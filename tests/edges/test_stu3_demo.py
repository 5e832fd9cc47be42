"""The edge and the simulator's STU3 box: two readings of STU3 that share nothing, so that a mistake in one shows."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.domain.appointment import Appointment, Change, Status, Write
from gateway.flow.ports import Sighting, Written
from gateway.pkb.credentials import TokenSettings
from gateway.pkb.customer_fhir import BoxSettings, CustomerFhir
from gateway.pkb.http import HttpClient
from gateway.pkb.line import Line
from gateway.simulator import LEEDS, Simulator
from tests.edges.pkb_bench import CANCEL, CUSTOMER, SENDER, soon
from tests.edges.stu3_documents import REASON_URL

NOW = datetime(2026, 3, 2, 10, 15, tzinfo=UTC)


class Leeds:
    """The demonstration's STU3 hospital, and the edge that speaks to it."""

    def __init__(self, pkb: Simulator, box: CustomerFhir) -> None:
        self.box = box
        self.ids = [each.id for each in pkb.appointments if each.owner == LEEDS.id]

    async def sighting(self, id_: str) -> Sighting:
        found = await self.box.read(CUSTOMER, id_, soon(), fresh=True)
        assert found is not None
        return found

    async def booked(self) -> Sighting:
        sightings = [await self.sighting(id_) for id_ in self.ids]
        return next(each for each in sightings if each.appointment.status is Status.BOOKED)

    async def after(self, command: Write, before: Sighting) -> tuple[Appointment, Sighting]:
        """The facts that the write showed, and what a read shows later."""
        answer = await self.box.write(CUSTOMER, command, before, soon(), sender=SENDER)
        assert isinstance(answer, Written)
        return answer.sighting.appointment, await self.sighting(before.appointment.id)


@pytest.fixture
async def leeds() -> AsyncIterator[Leeds]:
    pkb = Simulator(NOW, hospitals=("leeds",))
    await pkb.start()
    who = pkb.client_credentials
    token = TokenSettings(pkb.token_url, who.client_id, who.client_secret)
    async with HttpClient("gateway/test") as http:
        settings = BoxSettings(pkb.box_url(LEEDS.box), token, fhir_version="STU3")
        box = CustomerFhir(settings, Line(http, "leeds-box"), lambda: 0.0, lambda _event, /, **_facts: None)
        yield Leeds(pkb, box)
        await box.close()
    await pkb.close()


async def test_every_appointment_is_told_in_r4_with_its_owner_and_named_places(leeds: Leeds) -> None:
    places: set[str | None] = set()
    for id_ in leeds.ids:
        found = await leeds.sighting(id_)
        shown = json.loads(found.body)
        assert found.appointment.provenance.managing_organisation == LEEDS.source
        places.update(found.appointment.locations)
        assert isinstance(shown["serviceCategory"], list)
        assert "reason" not in shown
        assert shown["reasonCode"]
    assert places
    assert None not in places


async def test_a_cancel_changes_status_and_reason_and_nothing_else(leeds: Leeds) -> None:
    before = await leeds.booked()

    facts, later = await leeds.after(CANCEL, before)

    version = later.appointment.version
    assert later.appointment == facts
    assert facts == replace(before.appointment, version=version, status=Status.CANCELLED, cancel_reason="pat")
    was, shown = json.loads(before.body), json.loads(later.body)
    assert {name for name in was.keys() | shown.keys() if was.get(name) != shown.get(name)} == {
        "meta",
        "status",
        "cancelationReason",
    }
    assert REASON_URL not in later.body.decode()


async def test_a_change_moves_the_appointment_and_nothing_else(leeds: Leeds) -> None:
    before = await leeds.booked()

    facts, later = await leeds.after(Change(comment="New.", location="Clinic 5"), before)

    version = later.appointment.version
    assert later.appointment == facts
    assert facts == replace(before.appointment, version=version, comment="New.", locations=("Clinic 5",))
    was, shown = json.loads(before.body), json.loads(later.body)
    assert {name for name in was.keys() | shown.keys() if was.get(name) != shown.get(name)} == {
        "meta",
        "comment",
        "participant",
    }
