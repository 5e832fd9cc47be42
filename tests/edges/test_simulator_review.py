"""Soft matching and the review queue, over real sockets."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.edges.simulator_hl7 import FULL, Hospital, open_hospital, placer_of


@pytest.fixture
async def hospital() -> AsyncIterator[Hospital]:
    async with open_hospital() as hospital:
        yield hospital


async def queue(hospital: Hospital) -> list[Any]:
    status, listed = await hospital.control("GET", "/hl7-review")
    assert status == 200
    return list(listed)


async def decide(hospital: Hospital, n: int, decision: str) -> tuple[int, Any]:
    return await hospital.control("POST", f"/hl7-review/{n}", {"decision": decision})


@pytest.mark.parametrize("born", ["19010101", ""], ids=["another day", "none"])
@pytest.mark.parametrize("trigger", ["S12", "S13", "S14", "S15", "S26"])
async def test_another_birth_date_is_acknowledged_and_held(hospital: Hospital, trigger: str, born: str) -> None:
    booked = hospital.first()
    before = await hospital.pkb_copy(booked)
    ack = await hospital.siu(trigger, booked, *FULL, born=born)
    assert (ack.code, ack.text) == ("AA", "")
    assert await hospital.pkb_copy(booked) == before
    (held,) = await queue(hospital)
    assert (held["n"], held["customer"], held["trigger"]) == (1, "bradford", trigger)
    assert (held["placer"], held["appointment"], held["control_id"]) == (placer_of(booked), booked.id, "c-0001")
    assert (held["reason"], held["message"].startswith("MSH|")) == ("birth-date", True)
    assert [(write.applied, write.ack) for write in hospital.pkb.writes] == [(False, "AA")]


async def test_a_birth_date_with_a_time_is_the_same_day(hospital: Hospital) -> None:
    booked = hospital.first()
    await hospital.siu("S15", booked, born=booked.birth_date.replace("-", "") + "0000")
    assert (await hospital.pkb_copy(booked))["status"] == "cancelled"


@pytest.mark.parametrize(
    ("decision", "after"), [("approve", "cancelled"), ("reject", "booked")], ids=["approved", "rejected"]
)
async def test_a_held_message_is_applied_when_it_is_approved(hospital: Hospital, decision: str, after: str) -> None:
    booked = hospital.first()
    await hospital.siu("S15", booked, born="19010101")
    status, answer = await decide(hospital, 1, decision)
    assert (status, answer["n"], answer["decision"], answer["applied"]) == (200, 1, decision, after == "cancelled")
    assert (await hospital.pkb_copy(booked))["status"] == after
    assert hospital.pkb.writes[0].applied == (after == "cancelled")
    assert await queue(hospital) == []
    assert (await decide(hospital, 1, decision))[0] == 404


async def test_an_approved_message_undoes_what_came_after_it(hospital: Hospital) -> None:
    booked = hospital.first()
    await hospital.siu("S13", booked, *FULL, born="19010101")
    await hospital.siu("S15", booked)
    assert (await hospital.pkb_copy(booked))["status"] == "cancelled"
    await decide(hospital, 1, "approve")
    copy = await hospital.pkb_copy(booked)
    assert (copy["status"], copy["start"]) == ("booked", "2026-04-14T09:30:00+01:00")


async def test_a_message_held_on_order_is_decided_in_any_row(hospital: Hospital) -> None:
    first, second = hospital.all("changeable")[:2]
    await hospital.order(target="hl7", kind="ack", value="AA-held", count=2)
    for booked in (first, second):
        assert (await hospital.siu("S15", booked)).code == "AA"
    assert [(held["n"], held["reason"]) for held in await queue(hospital)] == [(1, "ordered"), (2, "ordered")]
    await decide(hospital, 2, "approve")
    assert (await hospital.pkb_copy(second))["status"] == "cancelled"
    assert (await hospital.pkb_copy(first))["status"] == "booked"
    assert [held["n"] for held in await queue(hospital)] == [1]


async def test_an_ordered_hold_still_rejects_what_pkb_rejects_at_once(hospital: Hospital) -> None:
    await hospital.order(target="hl7", kind="ack", value="AA-held")
    assert (await hospital.siu("S15", hospital.first(), number="9990000000")).code == "AR"
    assert await queue(hospital) == []


async def test_what_cannot_be_applied_when_it_is_approved_changes_nothing(hospital: Hospital) -> None:
    await hospital.siu("S15", hospital.first(), placer="PHANTOM-1", born="19010101")
    assert [held["appointment"] for held in await queue(hospital)] == [None]
    _, answer = await decide(hospital, 1, "approve")
    assert (answer["applied"], await hospital.by_placer("PHANTOM-1")) == (False, [])


@pytest.mark.parametrize(("decision", "after"), [("approve", "noshow"), ("reject", "booked")])
async def test_the_decision_holds_for_later_mismatches_of_the_appointment(
    hospital: Hospital, decision: str, after: str
) -> None:
    booked, other = hospital.all("changeable")[:2]
    await hospital.siu("S13", booked, born="19010101")
    await decide(hospital, 1, decision)
    assert (await hospital.siu("S26", booked, born="19010101")).code == "AA"
    assert (await hospital.pkb_copy(booked))["status"] == after
    assert await queue(hospital) == []
    await hospital.siu("S26", other, born="19010101")
    assert [held["n"] for held in await queue(hospital)] == [2]


async def test_a_decision_about_an_ordered_hold_binds_nothing_later(hospital: Hospital) -> None:
    booked = hospital.first()
    await hospital.order(target="hl7", kind="ack", value="AA-held")
    await hospital.siu("S15", booked)
    await decide(hospital, 1, "reject")
    assert (await hospital.siu("S26", booked, born="19010101")).code == "AA"
    assert [held["n"] for held in await queue(hospital)] == [2]
    await hospital.siu("S15", booked)
    assert (await hospital.pkb_copy(booked))["status"] == "cancelled"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"decision":"maybe"}', b"{}", b'{"decision":"approve","by":"me"}'], ids=str
)
async def test_a_decision_is_approve_or_reject(hospital: Hospital, body: bytes) -> None:
    await hospital.siu("S15", hospital.first(), born="19010101")
    status, answer = await hospital.control("POST", "/hl7-review/1", body)
    assert (status, bool(answer["problems"])) == (400, True)
    assert len(await queue(hospital)) == 1


@pytest.mark.parametrize("n", ["0", "2", "x", "-1", "9999999999", "١"])
async def test_there_is_no_other_message(hospital: Hospital, n: str) -> None:
    await hospital.siu("S15", hospital.first(), born="19010101")
    assert (await hospital.control("POST", f"/hl7-review/{n}", {"decision": "approve"}))[0] == 404


async def test_a_reset_empties_the_queue_and_forgets_decisions(hospital: Hospital) -> None:
    booked = hospital.first()
    await hospital.siu("S15", booked, born="19010101")
    await decide(hospital, 1, "approve")
    await hospital.siu("S15", hospital.all("changeable")[1], born="19010101")
    await hospital.control("POST", "/reset")
    assert await queue(hospital) == []
    await hospital.siu("S15", booked, born="19010101")
    assert [held["n"] for held in await queue(hospital)] == [1]
