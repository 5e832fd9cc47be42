"""What a partner may see, and what is on record before it sees it."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.appointment import Status
from gateway.domain.codes import Code
from gateway.domain.decision import Permit
from gateway.domain.grant import Operation
from gateway.domain.rules import admit
from gateway.flow.ports import JournalUnavailable, UpstreamFault
from gateway.flow.request import Caller, Refused, Shown
from gateway.flow.tasks import Task
from tests.flow.fakes import Bench, caller
from tests.makers import DAY, NOW, WHO, appointment, customer, grant, no_grants, owned_by, policy


def permit(bench: Bench) -> Permit:
    """Give what the gate gave."""
    admitted = admit(WHO, frozenset({Operation.READ}), bench.policy, NOW)
    assert isinstance(admitted, Permit)
    return admitted


async def show(bench: Bench, asked: str = "a-1", **changes: Any) -> Shown | Refused:
    return await bench.looks.show(caller(**changes), customer(), asked)


async def test_an_appointment_is_shown_as_pkb_has_it(bench: Bench) -> None:
    answer = await show(bench)

    assert isinstance(answer, Shown)
    assert answer.sighting.appointment == appointment()
    assert answer.task is None
    (record,) = bench.paper.written
    assert (record["event"], record["decision"], record["code"]) == ("read", "permit", None)
    assert (record["operation"], record["appointment"], record["grant"]) == ("read", "a-1", "airedale-swiftbook")
    assert record["patient"].startswith("k1:")
    assert record["facts"]["owner"] == ["airedale"]
    assert isinstance(record["duration_ms"], int)


async def test_a_look_may_use_a_patient_read_a_moment_ago_and_actions_may_not(bench: Bench) -> None:
    await show(bench)
    await bench.looks.actions(caller(), customer(), "a-1")

    assert bench.hospital.fresh == [False, True]


async def test_nothing_is_shown_that_could_not_be_written_down(bench: Bench) -> None:
    bench.paper.full = True

    with pytest.raises(JournalUnavailable):
        await show(bench)
    with pytest.raises(JournalUnavailable):
        await bench.looks.actions(caller(), customer(), "a-1")


@pytest.mark.parametrize(
    ("asked", "changes"),
    [
        pytest.param("a-9", {}, id="no such appointment"),
        pytest.param("a-1", {"provenance": owned_by("Organization/wharfedale")}, id="another customer's"),
        pytest.param("a-1", {"provenance": owned_by(None)}, id="nobody's"),
        pytest.param("a-1", {"labels": frozenset({"SEXUAL_HEALTH"})}, id="outside the labels"),
    ],
)
async def test_what_may_not_be_seen_is_not_found(bench: Bench, asked: str, changes: dict[str, Any]) -> None:
    bench.hospital.copies["a-1"] = appointment(**changes)

    assert await show(bench, asked) == Refused(Code.NOT_FOUND)
    assert await bench.looks.actions(caller(), customer(), asked) == Refused(Code.NOT_FOUND)
    assert bench.paper.events == ["refused", "refused"]
    assert {record["code"] for record in bench.paper.written} == {"not-found"}


async def test_a_cancelled_appointment_may_still_be_seen(bench: Bench) -> None:
    bench.hospital.copies["a-1"] = appointment(status=Status.CANCELLED)

    assert isinstance(await show(bench), Shown)


async def test_a_grant_revoked_while_pkb_was_read_shows_nothing(bench: Bench) -> None:
    bench.hospital.on_read = lambda: setattr(bench, "policy", no_grants())

    assert await show(bench) == Refused(Code.NO_GRANT)
    assert bench.paper.written[0]["grants_digest"] == "d0"


async def test_a_grant_that_ended_while_pkb_was_read_shows_nothing(bench: Bench) -> None:
    bench.hospital.on_read = lambda: setattr(bench.clock, "now", grant().valid_until)

    assert await show(bench) == Refused(Code.GRANT_EXPIRED)


async def test_a_customer_whose_route_changed_meanwhile_shows_nothing(bench: Bench) -> None:
    moved = tuple(
        replace(known, route=replace(known.route, name="another-box")) for known in bench.policy.customers.values()
    )
    bench.hospital.on_read = lambda: setattr(bench, "policy", policy(customers=moved))

    assert await show(bench) == Refused(Code.NOT_FOUND)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        pytest.param(Code.UPSTREAM_UNAVAILABLE, None, id="down"),
        pytest.param(Code.UPSTREAM_TIMEOUT, None, id="silent"),
        pytest.param(Code.UPSTREAM_INVALID, 200, id="lying"),
    ],
)
async def test_a_pkb_that_cannot_be_read_is_told_and_on_record(bench: Bench, code: Code, status: int | None) -> None:
    bench.hospital.down = UpstreamFault(code, "no", status)

    assert await show(bench) == Refused(code)
    assert await bench.looks.actions(caller(), customer(), "a-1") == Refused(code)
    assert [record["code"] for record in bench.paper.written] == [code.value, code.value]
    assert bench.paper.written[0]["upstream"] == ({"status": status} if status else None)


async def test_actions_tell_each_operation_by_the_rules_that_will_judge_it(bench: Bench) -> None:
    bench.hospital.copies["a-1"] = appointment(start=NOW + DAY, end=NOW + 2 * DAY)

    offered = await bench.looks.actions(caller(), customer(), "a-1")

    assert not isinstance(offered, Refused)
    assert {offer.operation: offer.code for offer in offered} == {
        Operation.READ: None,
        Operation.CHANGE: Code.TOO_LATE,
        Operation.CANCEL: Code.TOO_LATE,
    }
    assert bench.paper.events == ["read"]
    assert bench.hospital.sent == []


async def test_a_task_is_shown_to_who_caused_it(bench: Bench) -> None:
    await bench.run()

    found = await bench.looks.task(caller(), permit(bench), "t-1")

    assert isinstance(found, Task)
    assert (found.status.value, found.outcome) == ("completed", "applied")
    record = bench.paper.written[-1]
    assert (record["event"], record["task"], record["appointment"]) == ("read", "t-1", "a-1")


@pytest.mark.parametrize(
    ("asks", "task"),
    [
        pytest.param({}, "t-9", id="no such Task"),
        pytest.param({"partner": "cardiolink"}, "t-1", id="another partner's"),
        pytest.param({"customer": "airedale-cardiology"}, "t-1", id="at another customer"),
    ],
)
async def test_a_task_is_not_found_by_anybody_else(bench: Bench, asks: dict[str, str], task: str) -> None:
    await bench.run()

    assert await bench.looks.task(caller(**asks), permit(bench), task) == Refused(Code.NOT_FOUND)
    record = bench.paper.written[-1]
    assert (record["event"], record["code"], record["appointment"]) == ("refused", "not-found", None)
    assert record["checks"][-1] == ["task-of-partner", False]


async def test_a_task_that_cannot_be_looked_up_says_so(bench: Bench) -> None:
    bench.shelf.down = True

    assert await bench.looks.task(caller(), permit(bench), "t-1") == Refused(Code.STATE_UNAVAILABLE)
    assert bench.paper.written[-1]["code"] == "state-unavailable"


async def test_no_task_is_shown_that_could_not_be_written_down(bench: Bench) -> None:
    await bench.run()
    bench.paper.full = True

    with pytest.raises(JournalUnavailable):
        await bench.looks.task(caller(), permit(bench), "t-1")


async def test_the_caller_names_both_whose_grant_decides(bench: Bench) -> None:
    asks: Caller = caller()

    assert asks.who == WHO
