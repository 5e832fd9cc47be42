"""Writes that PKB takes as messages: an acknowledgement promises nothing, only a read shows what became of one."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.appointment import Change, Status
from gateway.domain.codes import Code
from gateway.domain.grant import Customer, Field
from gateway.flow.ports import Acknowledged, Doubt, NotSent, Sender, Turned, WriteAnswer
from gateway.flow.request import Refused, Shown, Taken
from tests.flow.fakes import HELD, SILENCE, UNRESOLVED, Bench, done, order, spin
from tests.makers import CARDIOLOGY, DAY, NOW, SECOND, appointment, by_hl7, cancel, grant, move, policy

TOOK = Acknowledged("AA", "m-1")
OURS = move(NOW + 40 * DAY)
PAGE = Change(management_url="https://hospital.example/b-1")
BRADFORD = policy().customers["bradford"]
ID = (BRADFORD.route.name, "a-1")
PLACER = (BRADFORD.route.name, "placer/P-1")
BUG = ZeroDivisionError("a bug")


@pytest.fixture(autouse=True)
def at_bradford(bench: Bench) -> None:
    """Let PKB take messages for Bradford and not do them yet."""
    terms: dict[str, Any] = {"customer": "bradford", "hl7_alias": "brad", "change_fields": frozenset(Field)}
    bench.policy = policy(grant(**terms), grant(id="other", partner="cardiolink", **terms))
    bench.hospital.copies = {"a-1": by_hl7(), "a-2": by_hl7(id="a-2")}
    bench.hospital.answer, bench.hospital.applies = TOOK, False


async def run(bench: Bench, **changes: Any) -> Any:
    return await at(bench, BRADFORD, **({"command": OURS} | changes))


async def at(bench: Bench, customer: Customer, **changes: Any) -> Any:
    given = order(customer=customer, **changes)
    return await bench.writes.run(replace(given, caller=given.caller._replace(customer=customer.id)))


def upstream(bench: Bench) -> Any:
    return bench.paper.of("outcome")[-1]["upstream"]


def mend(bench: Bench, **changes: Any) -> None:
    """Let PKB do what the message said, with side effects."""
    bench.hospital.copies["a-1"] = replace(done(OURS, by_hl7()), **changes)


def with_more(bench: Bench, **changes: Any) -> None:
    """Let PKB do what the message says at once, and more."""
    write = bench.hospital.write

    async def write_and_mend(*told: Any, **named: Any) -> Any:
        answer = await write(*told, **named)
        mend(bench, **changes)
        return answer

    bench.hospital.write = write_and_mend  # type: ignore[method-assign] # the same fake with side effects


async def test_a_message_carries_the_partner_the_alias_and_the_number_that_the_intent_has(bench: Bench) -> None:
    await run(bench)

    assert bench.hospital.senders == [Sender("swiftbook", "brad", "m-1", NOW)]
    assert bench.paper.of("intent")[0]["upstream"]["control_id"] == "m-1"


async def test_a_route_without_messages_has_no_number_on_record(bench: Bench) -> None:
    bench.policy = policy(grant(customer="leeds"))
    bench.hospital.copies["a-1"] = appointment()
    leeds = bench.policy.customers["leeds"]
    bench.hospital.answer, bench.hospital.applies = None, True

    assert isinstance(await at(bench, leeds), Shown)

    assert [record["upstream"]["control_id"] for record in bench.paper.written] == [None, None]


async def test_a_message_that_a_read_shows_at_once_is_applied(bench: Bench) -> None:
    bench.hospital.applies = True

    answer = await run(bench)

    assert isinstance(answer, Shown)
    assert answer.sighting.appointment.start == NOW + 40 * DAY
    assert bench.hospital.reads == ["a-1", "a-1"]
    assert bench.paper.outcomes == [("applied", True, False)]
    assert upstream(bench) == {
        "route": "bradford",
        "status": "AA",
        "version_before": "7",
        "version_after": "8",
        "control_id": "m-1",
        "collateral": [],
    }
    assert len(bench.open_writes) == 0


async def test_a_cancel_is_seen_though_no_read_shows_its_reason(bench: Bench) -> None:
    bench.hospital.applies = True
    bench.hospital.on_read = lambda: bench.hospital.copies.update(
        {"a-1": replace(bench.hospital.copies["a-1"], cancel_reason=None)}
    )

    assert isinstance(await run(bench, command=cancel()), Shown)
    assert bench.paper.outcomes == [("applied", True, False)]


@pytest.mark.parametrize(
    "fault", [pytest.param(None, id="the old copy"), pytest.param(SILENCE, id="silent"), pytest.param(BUG, id="a bug")]
)
async def test_a_message_that_no_read_shows_yet_is_taken_and_holds_both_names(
    bench: Bench, fault: BaseException | None
) -> None:
    bench.hospital.faults = [None, fault]

    assert await run(bench) == Taken("t-1")

    assert bench.paper.outcomes == [("accepted", False, False)]
    assert bench.paper.of("outcome")[0]["code"] is None
    assert (upstream(bench)["status"], upstream(bench)["control_id"]) == ("AA", "m-1")
    assert bench.shelf.statuses[-1] == "accepted"
    assert bench.shelf.kept[-1].open
    assert bench.holds(ID)
    assert bench.holds(PLACER)
    assert len(bench.open_writes) == 1
    assert bench.faults == ([fault] if fault is BUG else [])


@pytest.mark.parametrize("name", ["a-1", "a-2"], ids=["the same id", "another id of the same placer id"])
async def test_a_message_that_is_awaited_keeps_the_appointment_busy(bench: Bench, name: str) -> None:
    await run(bench)

    own = await run(bench, appointment=name, task="t-2")
    others = await run(bench, appointment=name, task="t-3", partner="cardiolink")

    assert own == Refused(Code.APPOINTMENT_BUSY, task="t-1")
    assert others == Refused(Code.APPOINTMENT_BUSY)
    assert len(bench.hospital.sent) == 1


async def test_a_message_is_followed_until_a_read_shows_it(bench: Bench) -> None:
    await run(bench)
    await bench.later(hours=25)
    assert bench.paper.outcomes[1:] == []

    mend(bench)
    await bench.later(seconds=60)

    assert bench.paper.outcomes[1:] == [("applied", True, True)]
    assert (upstream(bench)["status"], upstream(bench)["version_after"]) == ("AA", "8")
    assert bench.shelf.statuses[-1] == "completed"
    assert not bench.holds(ID, PLACER)


async def test_a_change_that_a_later_cancel_overtook_is_rejected(bench: Bench) -> None:
    await run(bench)

    bench.hospital.copies["a-1"] = by_hl7(version="8", status=Status.CANCELLED)
    await bench.later(seconds=60)

    assert bench.paper.outcomes[1:] == [("rejected", True, True)]
    assert bench.paper.of("outcome")[1]["code"] == "version-conflict"
    assert bench.shelf.statuses[-1] == "rejected"
    assert not bench.holds(ID, PLACER)


async def test_a_message_that_never_shows_is_closed_as_unknown_after_its_time(bench: Bench) -> None:
    await run(bench)
    await bench.later(seconds=HELD.total_seconds() - 1)
    assert bench.paper.outcomes[1:] == []

    await bench.later(seconds=1)

    # A Task that says completed would tell a partner that the appointment was moved, and no read ever showed that.
    assert bench.paper.outcomes[1:] == [("unknown", True, True)]
    assert bench.paper.of("outcome")[1]["code"] == "outcome-unknown"
    assert bench.shelf.statuses[-1] == "failed"
    assert not bench.shelf.kept[-1].open
    assert not bench.holds(ID, PLACER)


async def test_what_no_read_can_show_ends_when_pkb_takes_it(bench: Bench) -> None:
    assert await run(bench, command=PAGE) == Taken("t-1")

    assert bench.hospital.reads == ["a-1"]
    assert bench.paper.outcomes == [("accepted", True, False)]
    assert upstream(bench)["status"] == "AA"
    assert bench.shelf.statuses[-1] == "completed"
    assert (bench.shelf.kept[-1].outcome, bench.shelf.kept[-1].code) == ("accepted", None)
    assert len(bench.open_writes) == 0


async def test_a_page_and_a_time_are_seen_by_the_time(bench: Bench) -> None:
    assert await run(bench, command=replace(OURS, management_url=PAGE.management_url)) == Taken("t-1")

    assert bench.paper.outcomes == [("accepted", False, False)]


async def test_a_message_that_pkb_turns_down_is_rejected_with_its_word(bench: Bench) -> None:
    bench.hospital.answer = Turned(Code.UPSTREAM_REFUSED, "AR", "m-1")

    assert await run(bench) == Refused(Code.UPSTREAM_REFUSED)

    assert bench.hospital.reads == ["a-1"]
    assert bench.paper.outcomes == [("rejected", True, False)]
    assert (upstream(bench)["status"], upstream(bench)["control_id"]) == ("AR", "m-1")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Doubt("application error", "AE", "m-1"), id="AE"),
        pytest.param(Doubt("no answer in time", None, "m-1"), id="no answer"),
        pytest.param(BUG, id="a bug of the edge"),
    ],
)
async def test_a_message_in_doubt_never_settles_and_is_closed_after_a_day(bench: Bench, answer: Any) -> None:
    bench.hospital.answer = answer

    assert await run(bench) == Refused(Code.OUTCOME_UNKNOWN, task="t-1")

    assert (upstream(bench)["status"], upstream(bench)["control_id"]) == (getattr(answer, "status", None), "m-1")
    await bench.later(seconds=UNRESOLVED.total_seconds() - 1)
    assert bench.paper.outcomes == [("unknown", False, False)]
    await bench.later(seconds=1)
    assert bench.paper.outcomes[1:] == [("unknown", True, True)]
    assert bench.shelf.statuses[-1] == "failed"


async def test_a_page_in_doubt_is_not_seen_in_what_somebody_else_changed(bench: Bench) -> None:
    bench.hospital.answer = Doubt("application error", "AE", "m-1")
    bench.hospital.on_read = lambda: bench.hospital.copies.update(
        {"a-1": by_hl7(version="8", comment="Bring a coat") if bench.hospital.sent else by_hl7()}
    )

    assert await run(bench, command=PAGE) == Refused(Code.OUTCOME_UNKNOWN, task="t-1")


@pytest.mark.parametrize("answer", [NotSent("no login"), Turned(Code.UPSTREAM_REFUSED, "AR", "m-1")], ids=str)
async def test_after_a_plain_no_both_names_are_free(bench: Bench, answer: WriteAnswer) -> None:
    bench.hospital.answer = answer
    await run(bench)
    bench.hospital.answer, bench.hospital.applies = TOOK, True

    assert isinstance(await run(bench, appointment="a-2", task="t-2"), Shown)


COLLATERAL: list[Any] = [
    pytest.param({"labels": frozenset({"GENERAL_HEALTH", "SEXUAL_HEALTH"})}, ["labels"], id="labels"),
    pytest.param({"specialties": frozenset({CARDIOLOGY})}, ["specialties"], id="specialties"),
    pytest.param({"participants": ("Dr. Bell",)}, ["participants"], id="participants"),
]


@pytest.mark.parametrize(("changes", "names"), COLLATERAL)
async def test_what_pkb_changed_though_nobody_asked_is_on_record_and_alarmed(
    bench: Bench, changes: dict[str, Any], names: list[str]
) -> None:
    with_more(bench, **changes)

    assert isinstance(await run(bench), Shown)

    assert upstream(bench)["collateral"] == names
    ((event, record),) = bench.alarms
    assert (event, record["task"], record["outcome"]) == ("collateral", "t-1", "applied")


async def test_what_pkb_changed_is_found_by_a_later_look_too(bench: Bench) -> None:
    await run(bench)
    mend(bench, participants=("Dr. Bell",))
    await bench.later(seconds=60)

    assert upstream(bench)["collateral"] == ["participants"]
    assert [event for event, _ in bench.alarms] == ["collateral"]


async def test_an_alarm_that_fails_hides_no_outcome(bench: Bench) -> None:
    bench.deaf = BUG
    with_more(bench, participants=("Dr. Bell",))

    assert isinstance(await run(bench), Shown)

    assert bench.paper.outcomes == [("applied", True, False)]
    assert bench.faults == [BUG]


async def test_two_ids_of_one_placer_id_never_overlap_and_the_second_reads_again(bench: Bench) -> None:
    bench.hospital.answer = Turned(Code.UPSTREAM_REFUSED, "AR", "m-1")
    bench.hospital.hold = asyncio.Event()
    first = asyncio.create_task(run(bench))
    await spin()
    second = asyncio.create_task(run(bench, appointment="a-2", task="t-2"))
    await spin()
    assert bench.hospital.reads == ["a-1", "a-2"]
    bench.hospital.copies["a-2"] = by_hl7(id="a-2", status=Status.CANCELLED)

    bench.hospital.hold.set()

    assert await first == Refused(Code.UPSTREAM_REFUSED)
    assert await second == Refused(Code.ALREADY_CANCELLED)
    assert bench.hospital.reads == ["a-1", "a-2", "a-2"]
    assert bench.hospital.most_under_way == 1
    assert bench.writes.places.turns._turns == {}


async def test_a_second_id_that_waited_in_vain_finds_the_appointment_busy(bench: Bench) -> None:
    bench.writes.places.patience = 0.001
    bench.hospital.hold = asyncio.Event()
    first = asyncio.create_task(run(bench))
    await spin()

    assert await run(bench, appointment="a-2", task="t-2") == Refused(Code.APPOINTMENT_BUSY)

    bench.hospital.hold.set()
    assert await first == Taken("t-1")
    assert len(bench.hospital.sent) == 1


async def test_one_whose_placer_id_changed_while_it_waited_is_decided_on_what_it_is_now(bench: Bench) -> None:
    bench.hospital.answer = Turned(Code.UPSTREAM_REFUSED, "AR", "m-1")
    bench.hospital.hold = asyncio.Event()
    first = asyncio.create_task(run(bench))
    await spin()
    second = asyncio.create_task(run(bench, appointment="a-2", task="t-2"))
    await spin()
    bench.hospital.copies["a-2"] = by_hl7(id="a-2", placer_id="P-2")
    bench.hospital.hold.set()
    await first

    assert await second == Refused(Code.UPSTREAM_REFUSED)
    assert bench.hospital.reads == ["a-1", "a-2", "a-2", "a-2"]
    assert bench.hospital.most_under_way == 1


async def test_a_copy_read_before_an_open_message_ended_is_not_written_to(bench: Bench) -> None:
    """HL7 has no If-Match: a change sent on an old copy would revive what was cancelled meanwhile."""
    await run(bench, command=cancel())
    slow = asyncio.Event()
    read = bench.hospital.read

    async def overtaken(customer: Any, appointment: str, deadline: float, *, fresh: bool) -> Any:
        found = await read(customer, appointment, deadline, fresh=fresh)
        if len(bench.hospital.reads) == 3:
            await slow.wait()
        return found

    bench.hospital.read = overtaken  # type: ignore[method-assign] # the same fake with one slow answer
    second = asyncio.create_task(run(bench, task="t-2"))
    await spin()
    bench.hospital.copies["a-1"] = by_hl7(version="8", status=Status.CANCELLED)
    await bench.later(seconds=1)
    assert bench.paper.outcomes[1:] == [("applied", True, True)]
    slow.set()

    assert await second == Refused(Code.APPOINTMENT_BUSY, task="t-1")
    assert bench.hospital.sent == [cancel()]


async def test_what_a_slow_read_back_shows_settles_nothing(bench: Bench) -> None:
    bench.hospital.answer = Doubt("application error", "AE", "m-1")
    bench.hospital.on_read = lambda: bench.clock.passes(3600 * SECOND)

    await run(bench)

    assert bench.paper.outcomes == [("unknown", False, False)]


async def test_a_placer_id_that_another_appointment_bears_makes_us_read_again(bench: Bench) -> None:
    """Somebody may have written to it between our read and the turn of that name."""
    bench.hospital.answer = Turned(Code.UPSTREAM_REFUSED, "AR", "m-1")
    await run(bench)

    await run(bench, appointment="a-2", task="t-2")

    assert bench.hospital.reads == ["a-1", "a-2", "a-2"]
    assert len(bench.hospital.sent) == 2


async def test_one_that_has_no_time_to_read_again_finds_the_appointment_busy(bench: Bench) -> None:
    bench.hospital.answer = Turned(Code.UPSTREAM_REFUSED, "AR", "m-1")
    await run(bench)
    bench.writes.places.patience = 0.0

    assert await run(bench, appointment="a-2", task="t-2") == Refused(Code.APPOINTMENT_BUSY)
