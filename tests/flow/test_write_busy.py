"""One write at a time to one appointment, and none while the last one is in doubt."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.domain.appointment import Status
from gateway.domain.codes import Code
from gateway.domain.grant import Customer
from gateway.flow.orders import Order
from gateway.flow.places import PATIENCE, Places
from gateway.flow.request import Refused, Shown
from tests.flow.fakes import Bench, caller, order, spin
from tests.makers import DAY, NOW, appointment, cancel, grant, move, owned_by, policy, team

SECOND_PARTNER = {"partner": "cardiolink", "task": "t-2"}
BOTH = (grant(), grant(id="airedale-cardiolink", partner="cardiolink"))


def at(given: Order, place: Customer | None = None) -> Order:
    """Give an order at another customer, the cardiology team unless said otherwise."""
    place = place or team()
    return replace(given, customer=place, caller=caller(customer=place.id))


async def test_two_writes_to_one_appointment_never_overlap(bench: Bench) -> None:
    orders = [bench.run(command=move(NOW + (40 + n) * DAY), task=f"t-{n}") for n in range(10)]

    answers = await asyncio.gather(*orders)

    assert all(isinstance(answer, Shown) for answer in answers)
    assert bench.hospital.most_under_way == 1
    assert bench.paper.events == ["intent", "outcome"] * 10


async def test_writes_to_different_appointments_do_not_wait_for_each_other(bench: Bench) -> None:
    bench.hospital.copies["a-2"] = appointment(id="a-2")
    bench.hospital.hold = asyncio.Event()

    running = asyncio.gather(bench.run(), bench.run(appointment="a-2", task="t-2"))
    await spin()

    assert bench.hospital.under_way == 2
    bench.hospital.hold.set()
    await running


async def test_the_organisations_and_the_teams_path_lead_to_one_appointment(bench: Bench) -> None:
    bench.policy = policy(grant(), grant(id="team", customer="airedale-cardiology"))
    bench.hospital.copies["a-1"] = appointment(provenance=owned_by("Organization/airedale-cardiology"))

    at_the_team = order(command=move(NOW + 41 * DAY), task="t-2")
    await asyncio.gather(bench.run(command=move(NOW + 40 * DAY)), bench.writes.run(at(at_the_team)))

    assert len(bench.hospital.sent) == 2
    assert bench.hospital.most_under_way == 1


def test_a_second_write_waits_two_seconds() -> None:
    assert PATIENCE == 2.0
    assert Places.__dataclass_fields__["patience"].default == PATIENCE


async def test_a_second_write_that_waited_in_vain_finds_the_appointment_busy(bench: Bench) -> None:
    bench.writes.places.patience = 0.001
    bench.hospital.hold = asyncio.Event()
    first = asyncio.create_task(bench.run())
    await spin()

    second = await bench.run(task="t-2")

    assert second == Refused(Code.APPOINTMENT_BUSY)
    assert len(bench.hospital.sent) == 1
    (record,) = bench.paper.of("refused")
    assert record["code"] == "appointment-busy"
    assert record["checks"][-1] == ["appointment-free", False]
    assert record["patient"].startswith("k1:")
    assert record["facts"]["status"] == "booked"
    bench.hospital.hold.set()
    assert isinstance(await first, Shown)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"provenance": owned_by("Organization/wharfedale")}, Code.NOT_FOUND, id="not found comes first"),
        pytest.param({"status": Status.CANCELLED}, Code.APPOINTMENT_BUSY, id="already cancelled comes later"),
        pytest.param({"version": "9"}, Code.APPOINTMENT_BUSY, id="another version comes later"),
        pytest.param({"start": NOW + DAY}, Code.APPOINTMENT_BUSY, id="too late comes later"),
    ],
)
async def test_busy_is_told_after_not_found_and_before_everything_else(
    bench: Bench, changes: dict[str, Any], code: Code
) -> None:
    bench.writes.places.patience = 0.0
    bench.hospital.hold = asyncio.Event()
    first = asyncio.create_task(bench.run())
    await spin()
    bench.hospital.copies["a-1"] = appointment(**changes)

    second = await bench.run(task="t-2", expected_version="7")

    assert second == Refused(code)
    bench.hospital.hold.set()
    await first


async def test_one_without_a_grant_by_now_does_not_learn_that_it_is_busy(bench: Bench) -> None:
    bench.writes.places.patience = 0.0
    bench.hospital.hold = asyncio.Event()
    first = asyncio.create_task(bench.run())
    await spin()

    assert await bench.run(partner="cardiolink", task="t-2") == Refused(Code.NO_GRANT)

    bench.hospital.hold.set()
    await first


async def test_unknown_keeps_the_appointment_busy_and_names_the_task_to_who_caused_it(bench: Bench) -> None:
    bench.doubt(applies=False)
    await bench.run()

    again = await bench.run(task="t-2")

    assert again == Refused(Code.APPOINTMENT_BUSY, task="t-1")
    assert len(bench.hospital.sent) == 1
    assert bench.paper.events == ["intent", "outcome", "refused"]


async def test_unknown_names_the_task_to_no_other_partner(bench: Bench) -> None:
    bench.policy = policy(*BOTH)
    bench.doubt(applies=False)
    await bench.run()

    assert await bench.run(**SECOND_PARTNER) == Refused(Code.APPOINTMENT_BUSY)


async def test_unknown_names_the_task_at_no_other_customer(bench: Bench) -> None:
    bench.policy = policy(grant(), grant(id="team", customer="airedale-cardiology"))
    bench.hospital.copies["a-1"] = appointment(provenance=owned_by("Organization/airedale-cardiology"))
    bench.doubt(applies=False)
    await bench.run()

    assert await bench.writes.run(at(order(task="t-2"))) == Refused(Code.APPOINTMENT_BUSY)


async def test_an_appointment_of_the_same_id_on_another_route_is_free(bench: Bench) -> None:
    bench.policy = policy(grant(), grant(id="leeds", customer="leeds"))
    bench.doubt(applies=False)
    await bench.run()
    bench.hospital.answer, bench.hospital.applies = None, True
    leeds = bench.policy.customers["leeds"]

    answer = await bench.writes.run(at(order(task="t-2"), leeds))

    assert isinstance(answer, Shown)


async def test_the_appointment_is_free_again_once_the_write_in_doubt_has_ended(bench: Bench) -> None:
    bench.doubt(applies=False)
    await bench.run()
    await bench.later(seconds=30)
    bench.hospital.answer, bench.hospital.applies = None, True

    assert isinstance(await bench.run(task="t-2"), Shown)
    assert bench.hospital.sent == [cancel(), cancel()]


async def test_a_turn_is_free_again_after_a_fault_of_the_reading_edge(bench: Bench) -> None:
    bench.hospital.faults = [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        await bench.run()

    assert isinstance(await bench.run(), Shown)
    assert bench.writes.places.turns._turns == {}


async def test_time_spent_waiting_for_a_turn_is_not_taken_from_the_decision(bench: Bench) -> None:
    bench.hospital.hold = asyncio.Event()
    first = asyncio.create_task(bench.run(command=move(NOW + 40 * DAY)))
    await spin()
    second = asyncio.create_task(bench.run(command=cancel(), task="t-2"))
    await spin()
    bench.clock.passes(timedelta(seconds=1))
    bench.hospital.hold.set()
    await asyncio.gather(first, second)

    assert bench.paper.of("intent")[1]["now"] == "2026-06-01T09:00:01.000000Z"
    assert bench.paper.of("intent")[1]["upstream"]["version_before"] == "8"
