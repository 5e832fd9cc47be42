"""The story of a write whose command is found only beside PKB's copy."""

from typing import Any

import pytest

from gateway.domain.appointment import CANCEL_REASON_SYSTEM, Cancel, Change, Status
from gateway.domain.codes import Code
from gateway.domain.grant import Coding, Operation
from gateway.domain.intents import Unmet
from gateway.flow.orders import Once, Wish
from gateway.flow.request import Refused, Replayed, Shown
from tests.flow.fakes import SILENCE, Bench
from tests.makers import appointment, grant, policy

REASON = {"coding": [{"system": CANCEL_REASON_SYSTEM, "code": "pat"}]}
CANCELLED = {"status": "cancelled", "cancelationReason": REASON}


def wish(wanted: Any) -> Wish:
    """Want a copy; the one that the bench shows is empty."""
    return Wish(lambda shown: wanted if shown == {} else Unmet(Code.INVALID_PARAMETER, "another copy was shown"))


@pytest.mark.parametrize(
    ("wanted", "command", "reason"),
    [
        (CANCELLED, Cancel((Coding(CANCEL_REASON_SYSTEM, "pat"),)), "pat"),
        ({"comment": "Use the side door."}, Change(comment="Use the side door."), None),
    ],
    ids=["cancel", "change"],
)
async def test_what_it_means_is_sent_and_recorded(bench: Bench, wanted: Any, command: Any, reason: str | None) -> None:
    assert isinstance(await bench.run(command=wish(wanted)), Shown)

    assert bench.hospital.sent == [command]
    assert [record["operation"] for record in bench.paper.written] == [command.operation.value] * 2
    assert [record["reason"] for record in bench.paper.written] == [reason] * 2
    assert bench.shelf.cupboard.filed["t-1"].task.operation is command.operation


@pytest.mark.parametrize(
    ("wanted", "code", "operation"),
    [
        ({}, Code.NOTHING_TO_CHANGE, None),
        ({"description": "x"}, Code.FIELD_NOT_CHANGEABLE, "change"),
        (CANCELLED | {"description": "x"}, Code.FIELD_NOT_CHANGEABLE, "cancel"),
        (CANCELLED | {"start": "2026-07-02T10:00:00Z"}, Code.MIXED_INTENT, None),
        (Unmet(Code.VERSION_CONFLICT, "no"), Code.VERSION_CONFLICT, None),
    ],
    ids=["nothing", "beyond a change", "beyond a cancel", "both", "a test that does not hold"],
)
async def test_what_cannot_be_done_is_refused_under_the_operation_it_would_be(
    bench: Bench, wanted: Any, code: Code, operation: str | None
) -> None:
    answer = await bench.run(command=wish(wanted))

    assert isinstance(answer, Refused)
    assert answer.code is code
    assert [(record["code"], record["operation"]) for record in bench.paper.written] == [(code.value, operation)]
    assert bench.hospital.sent == []


async def test_until_pkb_was_read_nobody_knows_what_it_is(bench: Bench) -> None:
    bench.hospital.faults = [SILENCE]
    assert await bench.run(command=wish(CANCELLED)) == Refused(Code.UPSTREAM_TIMEOUT)
    assert [(record["operation"], record["reason"]) for record in bench.paper.written] == [(None, None)]


@pytest.mark.parametrize("wanted", [CANCELLED, {"description": "x"}], ids=["good", "beyond"])
async def test_what_is_not_there_is_told_before_what_it_means(bench: Bench, wanted: Any) -> None:
    bench.hospital.copies.clear()
    assert await bench.run(command=wish(wanted)) == Refused(Code.NOT_FOUND)
    assert [record["operation"] for record in bench.paper.written] == [None]


async def test_nothing_is_compared_with_what_its_partner_may_not_see(bench: Bench) -> None:
    compared: list[Any] = []

    def wanted(shown: Any) -> Any:
        compared.append(shown)
        return CANCELLED

    bench.hospital.copies["a-1"] = appointment(labels=frozenset({"SEXUAL_HEALTH"}))

    assert await bench.run(command=Wish(wanted)) == Refused(Code.NOT_FOUND)
    assert compared == []

    bench.hospital.copies["a-1"] = appointment()
    await bench.run(command=Wish(wanted))
    assert compared == [{}]


async def test_a_version_is_compared_before_what_it_means(bench: Bench) -> None:
    answer = await bench.run(command=wish(CANCELLED | {"description": "x"}), expected_version="6")
    assert answer == Refused(Code.VERSION_CONFLICT)


async def test_the_operation_it_comes_to_has_to_be_granted(bench: Bench) -> None:
    bench.policy = policy(grant(operations=frozenset({Operation.CHANGE})))
    assert await bench.run(command=wish(CANCELLED)) == Refused(Code.OPERATION_NOT_GRANTED)
    assert isinstance(await bench.run(command=wish({"comment": "x"}), task="t-2"), Shown)


async def test_a_grant_that_shrinks_while_the_appointment_is_taken_permits_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = bench.shelf.hold

    async def holding(*how: Any, **more: Any) -> Any:
        bench.policy = policy(grant(operations=frozenset({Operation.CHANGE})))
        return await hold(*how, **more)

    monkeypatch.setattr(bench.shelf, "hold", holding)
    assert await bench.run(command=wish(CANCELLED)) == Refused(Code.OPERATION_NOT_GRANTED)
    assert bench.paper.events == ["refused"]
    assert bench.hospital.sent == []


async def test_a_cancelled_one_that_is_sent_back_is_already_cancelled(bench: Bench) -> None:
    bench.hospital.copies["a-1"] = appointment(status=Status.CANCELLED)
    bench.policy = policy(grant(operations=frozenset({Operation.CANCEL})))
    assert await bench.run(command=wish({})) == Refused(Code.ALREADY_CANCELLED)


async def test_of_two_with_one_key_one_is_sent(bench: Bench) -> None:
    once = Once("key-1", "print-1")
    await bench.run(command=wish(CANCELLED), once=once)
    second = await bench.run(command=wish(CANCELLED), once=once, task="t-2")

    assert isinstance(second, Replayed)
    assert len(bench.hospital.sent) == 1
