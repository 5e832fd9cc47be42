"""What is written down, what is sent, and in which order."""

import asyncio
from dataclasses import replace

import pytest

from gateway.domain.appointment import Status
from gateway.domain.codes import Code
from gateway.flow.ports import JournalUnavailable, NotSent, Sender, UpstreamFault
from gateway.flow.request import Refused, Shown
from tests.flow.fakes import SILENCE, Bench, spin
from tests.makers import DAY, NHS_NUMBER, NOW, SECOND, appointment, cancel, grant, move, no_grants, owned_by, policy

REPEATED = ("request_id", "correlation_id", "partner", "customer", "appointment", "task")


async def test_a_permitted_write_is_written_down_before_and_after_it_is_sent(bench: Bench) -> None:
    bench.hospital.hold = asyncio.Event()
    running = asyncio.create_task(bench.run())
    await spin()
    assert bench.paper.events == ["intent"]
    assert bench.hospital.sent == [cancel()]

    bench.hospital.hold.set()
    answer = await running

    assert isinstance(answer, Shown)
    assert answer.sighting.appointment.status is Status.CANCELLED
    assert answer.task == "t-1"
    assert bench.paper.events == ["intent", "outcome"]
    assert bench.paper.outcomes == [("applied", True, False)]


async def test_a_change_is_written_as_a_cancel_is(bench: Bench) -> None:
    command = move(NOW + 40 * DAY)

    answer = await bench.run(command=command)

    assert isinstance(answer, Shown)
    assert answer.sighting.appointment.start == NOW + 40 * DAY
    assert bench.hospital.sent == [command]
    assert bench.paper.of("intent")[0]["operation"] == "change"


async def test_nothing_is_sent_that_could_not_be_written_down(bench: Bench) -> None:
    bench.paper.full = True

    with pytest.raises(JournalUnavailable):
        await bench.run()

    assert bench.hospital.sent == []
    assert bench.shelf.phase() is None
    assert bench.shelf.held == set()


async def test_a_write_after_one_that_could_not_be_written_down_gets_its_turn(bench: Bench) -> None:
    bench.paper.full = True
    with pytest.raises(JournalUnavailable):
        await bench.run()
    bench.paper.full = False

    assert isinstance(await bench.run(), Shown)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"status": Status.CANCELLED}, Code.ALREADY_CANCELLED, id="cancelled already"),
        pytest.param({"status": Status.FULFILLED}, Code.NOT_CHANGEABLE, id="over"),
        pytest.param({"start": NOW - SECOND}, Code.IN_THE_PAST, id="begun"),
        pytest.param({"start": NOW + DAY}, Code.TOO_LATE, id="inside the notice"),
        pytest.param({"provenance": owned_by("Organization/wharfedale")}, Code.NOT_FOUND, id="of another customer"),
        pytest.param({"labels": frozenset({"SEXUAL_HEALTH"})}, Code.NOT_FOUND, id="outside the labels"),
    ],
)
async def test_a_refusal_sends_nothing_and_is_on_record(bench: Bench, changes: dict[str, object], code: Code) -> None:
    bench.hospital.copies["a-1"] = appointment(**changes)

    answer = await bench.run()

    assert isinstance(answer, Refused)
    assert answer.code is code
    assert bench.hospital.sent == []
    assert bench.shelf.kept == []
    (record,) = bench.paper.written
    assert (record["event"], record["decision"], record["code"]) == ("refused", "refuse", code.value)
    assert record["facts"]["status"] == bench.hospital.copies["a-1"].status.value
    assert record["patient"].startswith("k1:")
    assert [check for check in record["checks"] if not check[1]] != []


async def test_an_appointment_that_pkb_does_not_have_is_not_found(bench: Bench) -> None:
    answer = await bench.run(appointment="a-9")

    assert answer == Refused(Code.NOT_FOUND)
    assert bench.hospital.sent == []
    assert (bench.paper.written[0]["facts"], bench.paper.written[0]["patient"]) == (None, None)


async def test_a_version_that_is_not_the_expected_one_sends_nothing(bench: Bench) -> None:
    answer = await bench.run(expected_version="6")

    assert answer == Refused(Code.VERSION_CONFLICT)
    assert bench.hospital.sent == []


async def test_a_refusal_that_cannot_be_recorded_is_not_answered(bench: Bench) -> None:
    bench.hospital.copies["a-1"] = appointment(status=Status.CANCELLED)
    bench.paper.full = True

    with pytest.raises(JournalUnavailable):
        await bench.run()

    assert bench.hospital.sent == []


async def test_a_patient_mismatch_is_told_to_the_auditor_and_not_to_the_partner(bench: Bench) -> None:
    claim = replace(cancel().claim, nhs_number="9990000026")

    answer = await bench.run(command=cancel(claim=claim))

    assert answer == Refused(Code.NOT_FOUND)
    assert bench.paper.written[0]["code"] == "patient-mismatch"


async def test_a_pkb_that_cannot_be_read_gets_no_write(bench: Bench) -> None:
    bench.hospital.down = UpstreamFault(Code.UPSTREAM_UNAVAILABLE, "down", 503)

    answer = await bench.run()

    assert answer == Refused(Code.UPSTREAM_UNAVAILABLE)
    assert bench.hospital.sent == []
    (record,) = bench.paper.written
    assert (record["event"], record["code"]) == ("refused", "upstream-unavailable")
    assert record["upstream"] == {"status": 503}
    assert record["now"] == "2026-06-01T09:00:00.000000Z"


async def test_a_write_reads_the_patient_afresh(bench: Bench) -> None:
    bench.doubt(applies=True)

    await bench.run()

    assert bench.hospital.fresh == [True, True]


async def test_the_write_leaves_a_share_of_the_time_for_reading_back(bench: Bench) -> None:
    now = asyncio.get_running_loop().time()

    await bench.run(received=now, deadline=now + 10.0)

    assert now < bench.hospital.deadlines[0] <= now + 10.0 - 0.3 * 9.9


async def test_a_write_whose_time_is_up_has_no_share_left(bench: Bench) -> None:
    now = asyncio.get_running_loop().time()

    await bench.run(received=now - 10.0, deadline=now - 1.0)

    assert bench.hospital.deadlines == [now - 1.0]


async def test_every_record_of_a_write_names_the_request_and_the_outcome_names_its_intent(bench: Bench) -> None:
    await bench.run()

    intent, outcome = bench.paper.written
    assert [outcome[name] for name in REPEATED] == [intent[name] for name in REPEATED]
    assert [intent[name] for name in REPEATED] == ["r-1", "c-1", "swiftbook", "airedale", "a-1", "t-1"]
    assert outcome["intent"] == 1
    assert intent["client"] == outcome["client"] == "192.0.2.7"
    assert intent["token"] == {"iss": "https://gateway.example", "jti": "j-1", "kid": "key-1"}
    assert intent["patient"] == outcome["patient"] == bench.veil.patient(NHS_NUMBER, "", "")
    assert intent["grant"] == outcome["grant"] == "airedale-swiftbook"
    assert intent["reason"] == outcome["reason"] == "pat"


async def test_only_the_outcome_may_use_the_reserve(bench: Bench) -> None:
    await bench.run()

    assert bench.paper.essential == [False, True]


async def test_the_task_tells_each_step_of_the_way(bench: Bench) -> None:
    bench.hospital.on_read = lambda: setattr(bench.clock, "now", NOW + SECOND)

    await bench.run()

    assert bench.shelf.statuses == ["requested", "in-progress", "completed"]
    ended = bench.shelf.kept[-1]
    assert (ended.outcome, ended.code, ended.version, ended.open) == ("applied", None, "8", False)
    assert (ended.requested, ended.updated) == (NOW + SECOND, NOW + SECOND)


async def test_the_task_says_in_progress_before_the_first_byte_leaves(bench: Bench) -> None:
    bench.hospital.hold = asyncio.Event()
    running = asyncio.create_task(bench.run())
    await spin()

    assert bench.shelf.statuses == ["requested", "in-progress"]

    bench.hospital.hold.set()
    await running


async def test_a_grant_revoked_while_pkb_was_read_permits_nothing(bench: Bench) -> None:
    bench.hospital.on_read = lambda: setattr(bench, "policy", no_grants())

    answer = await bench.run()

    assert answer == Refused(Code.NO_GRANT)
    assert bench.hospital.sent == []
    assert bench.paper.written[0]["grants_digest"] == "d0"


async def test_a_grant_that_ended_while_pkb_was_read_permits_nothing(bench: Bench) -> None:
    bench.hospital.on_read = lambda: setattr(bench.clock, "now", grant().valid_until)
    bench.hospital.copies["a-1"] = appointment(start=NOW + 400 * DAY, end=NOW + 401 * DAY)

    assert await bench.run() == Refused(Code.GRANT_EXPIRED)
    assert bench.hospital.sent == []


async def test_the_intent_carries_the_grants_and_the_time_of_its_decision(bench: Bench) -> None:
    def reload() -> None:
        bench.policy, bench.clock.now = policy(digest="d2"), NOW + SECOND

    bench.hospital.on_read = reload

    await bench.run()

    intent = bench.paper.of("intent")[0]
    assert (intent["grants_digest"], intent["now"]) == ("d2", "2026-06-01T09:00:01.000000Z")


async def test_a_customer_whose_route_changed_meanwhile_is_not_found(bench: Bench) -> None:
    moved = tuple(
        replace(known, route=replace(known.route, name="another-box")) for known in bench.policy.customers.values()
    )
    bench.hospital.on_read = lambda: setattr(bench, "policy", policy(customers=moved))

    assert await bench.run() == Refused(Code.NOT_FOUND)
    assert bench.hospital.sent == []


async def test_not_attempted_is_rejected_final_and_safe_to_repeat(bench: Bench) -> None:
    bench.hospital.answer, bench.hospital.applies = NotSent("no connection"), False

    answer = await bench.run()

    assert answer == Refused(Code.UPSTREAM_UNAVAILABLE)
    assert bench.paper.outcomes == [("rejected", True, False)]
    assert bench.paper.of("outcome")[0]["code"] == "upstream-unavailable"
    assert bench.shelf.statuses[-1] == "rejected"

    bench.hospital.answer, bench.hospital.applies = None, True
    assert isinstance(await bench.run(task="t-2"), Shown)


async def test_a_silent_pkb_is_told_with_what_it_answered(bench: Bench) -> None:
    bench.hospital.down = SILENCE

    assert await bench.run() == Refused(Code.UPSTREAM_TIMEOUT)
    assert bench.paper.written[0]["upstream"] == {"status": 504}


def test_a_sender_that_names_no_fence_is_let_through() -> None:
    assert Sender("swiftbook", None, "m-1", NOW).fence()
