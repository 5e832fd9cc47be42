"""The box of the older FHIR version, and the hospitals that are listed when asked for, over real sockets."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from gateway.simulator import CUSTOMERS, EVERY_CUSTOMER, DemoAppointment, Simulator
from tests.edges.simulator_desk import NOW, Desk

EVERY = ("airedale", "bradford", "leeds")
ACTOR_TYPE = "http://fhir.patientsknowbest.com/structuredefinition/appointment-actor-type"


class Leeds(Desk):
    """The desk, at the box of Leeds."""

    def all(self, scenario: str) -> list[DemoAppointment]:
        return [a for a in super().all(scenario) if a.customer == "leeds"]

    async def box(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        named = {"Authorization": f"Bearer {self.token}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        data = None if body is None else json.dumps(body).encode()
        async with self.session.request(
            method, f"{self.pkb.box_url('leeds')}/{path}", data=data, headers=named
        ) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def leeds() -> AsyncIterator[Leeds]:
    pkb = Simulator(NOW, hospitals=EVERY)
    await pkb.start()
    async with aiohttp.ClientSession() as session:
        leeds = Leeds(pkb, session)
        await leeds.log_in()
        yield leeds
    await pkb.close()


async def test_an_appointment_has_the_shape_of_stu3(leeds: Leeds) -> None:
    booked = leeds.all("changeable")[3]
    status, text = await leeds.box("GET", f"Appointment/{booked.id}")
    copy = json.loads(text)
    assert (status, copy["status"], copy["start"], copy["meta"]["versionId"]) == (
        200,
        "booked",
        booked.start,
        booked.version,
    )
    assert isinstance(copy["specialty"], list)
    assert isinstance(copy["appointmentType"]["coding"], list)
    assert isinstance(copy["serviceCategory"], dict)
    assert copy["reason"] == [{"text": "Follow-up after treatment"}]
    assert not {"reasonCode", "cancelationReason", "basedOn"} & set(copy)
    assert '"valueDecimal":1.10' in text
    place = copy["participant"][2]["actor"]
    assert place["extension"] == [{"url": ACTOR_TYPE, "valueString": "Location"}]
    assert (place["reference"], place["display"]) == ("Location/loc-01", "Outpatients, Level 2")
    assert all("type" not in person["actor"] for person in copy["participant"])


async def test_a_cancelled_one_has_no_reason_for_which_stu3_has_no_place(leeds: Leeds) -> None:
    copies = [await leeds.copy(booked) for booked in leeds.all("cancelled")]
    assert [copy["status"] for copy in copies] == ["cancelled"] * len(copies)
    assert all("cancelationReason" not in copy for copy in copies)


async def test_the_box_has_the_manners_of_the_other_one(leeds: Leeds) -> None:
    booked = leeds.first()
    changed = await leeds.copy(booked) | {"status": "cancelled", "unknown": True}
    path = f"Appointment/{booked.id}"
    assert (await leeds.box("PUT", path, changed, If_Match='W/"1"'))[0] == 409
    assert (await leeds.box("PUT", path, changed, If_Match=f'W/"{booked.version}"'))[0] == 200
    assert (await leeds.copy(booked))["unknown"] is True
    assert (await leeds.box("PUT", "Appointment/new", {"resourceType": "Appointment"}))[0] == 201
    writes = (await leeds.control("GET", "/writes"))[1]
    assert [(w["target"], w["customer"], w["applied"], w["answer"]) for w in writes] == [
        ("box", "leeds", False, 409),
        ("box", "leeds", True, 200),
        ("box", "leeds", True, 201),
    ]


async def test_faults_of_one_boxs_customer_leave_the_other_box_alone(leeds: Leeds) -> None:
    await leeds.order(target="box", kind="status", value=503, on="read", count=0, customer="leeds")
    assert (await leeds.box("GET", f"Appointment/{leeds.first().id}"))[0] == 503
    url = f"{leeds.pkb.box_url('airedale')}/Organization/airedale"
    async with leeds.session.get(url, headers={"Authorization": f"Bearer {leeds.token}"}) as answer:
        assert answer.status == 200


async def test_whose_a_patient_is_the_box_tells_by_its_organisation(leeds: Leeds) -> None:
    _, text = await leeds.box("GET", f"Patient/patient-{leeds.first().id}")
    assert json.loads(text)["managingOrganization"] == {"reference": "Organization/leeds"}
    assert (await leeds.box("GET", "Organization/leeds"))[0] == 200
    assert (await leeds.box("GET", "Organization/airedale"))[0] == 404


# The hospitals that are listed


def test_only_the_hospitals_that_were_asked_for_are_listed() -> None:
    assert {a.customer for a in Simulator(NOW).appointments} == {"airedale", "airedale-cardiology"}
    assert dict(Simulator(NOW).customers) == CUSTOMERS
    assert {a.customer for a in Simulator(NOW, hospitals=("leeds",)).appointments} == {"leeds"}
    assert set(Simulator(NOW, hospitals=("bradford",)).customers) == {"bradford"}
    assert dict(Simulator(NOW, hospitals=EVERY).customers) == EVERY_CUSTOMER


def test_the_data_is_the_same_whoever_is_listed() -> None:
    every = Simulator(NOW, hospitals=EVERY).appointments
    assert tuple(a for a in every if a.customer.startswith("airedale")) == Simulator(NOW).appointments
    assert len({a.id for a in every}) == len({a.patient_identifier for a in every}) == len(every)
    assert len({a.identifier for a in every}) == len(every)


@pytest.mark.parametrize(("customer", "more"), [("bradford", set()), ("leeds", {"fulfilled"})])
def test_each_hospital_has_enough_of_its_scenarios(customer: str, more: set[str]) -> None:
    found = Counter(a.scenario for a in Simulator(NOW, hospitals=(customer,)).appointments if a.owner == customer)
    assert set(found) == more | {"changeable", "cancelled", "past", "inside-notice", "label-outside", "noshow"}
    assert found["changeable"] >= 10
    assert min(found.values()) >= 3


async def test_a_reset_keeps_the_list(leeds: Leeds) -> None:
    before = leeds.pkb.appointments
    await leeds.box("DELETE", f"Appointment/{leeds.first().id}")
    await leeds.control("POST", "/reset")
    assert leeds.pkb.appointments == before
    assert (await leeds.copy(leeds.first()))["status"] == "booked"


async def test_copies_are_read_and_stored_by_hand_where_the_customers_are(leeds: Leeds) -> None:
    for booked in (leeds.first(), next(a for a in leeds.pkb.appointments if a.customer == "bradford")):
        path = f"/appointments/{booked.customer}/{booked.id}"
        copy = (await leeds.control("GET", path))[1]
        status, stored = await leeds.control("PUT", path, copy | {"comment": "By hand"})
        assert (status, stored["comment"]) == (200, "By hand")
        assert int(stored["meta"]["versionId"]) > int(booked.version)
        assert (await leeds.control("GET", path))[1] == stored
        assert (await leeds.control("GET", f"/appointments/airedale/{booked.id}"))[0] == 404
    assert leeds.pkb.writes == []
