"""What becomes of a write: PKB's answer, then at most one read, then the truth as far as it is known."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.domain.appointment import Status
from gateway.domain.codes import Code
from gateway.flow.ports import Doubt, NotSent, Turned, WriteAnswer
from gateway.flow.request import Refused, Shown
from tests.flow.fakes import SETTLES, SILENCE, Bench
from tests.makers import DAY, NOW, SECOND, appointment, cancel, move

OTHERS = appointment(version="8", comment="somebody else was here")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param(Turned(Code.VERSION_CONFLICT, 412), Code.VERSION_CONFLICT, id="another version"),
        pytest.param(Turned(Code.NOT_FOUND, 404), Code.NOT_FOUND, id="gone"),
        pytest.param(Turned(Code.UPSTREAM_REFUSED, 403), Code.UPSTREAM_REFUSED, id="forbidden"),
        pytest.param(NotSent("breaker open"), Code.UPSTREAM_UNAVAILABLE, id="never sent"),
    ],
)
async def test_a_plain_no_is_final_and_not_read_back(bench: Bench, answer: WriteAnswer, code: Code) -> None:
    bench.hospital.answer, bench.hospital.applies = answer, False

    assert await bench.run() == Refused(code)

    assert bench.hospital.reads == ["a-1"]
    assert bench.paper.outcomes == [("rejected", True, False)]
    outcome = bench.paper.of("outcome")[0]
    assert outcome["code"] == code.value
    assert outcome["upstream"]["status"] == getattr(answer, "status", None)
    assert (outcome["upstream"]["version_before"], outcome["upstream"]["version_after"]) == ("7", None)
    assert len(bench.open_writes) == 0


async def test_a_plain_yes_is_not_read_back(bench: Bench) -> None:
    assert isinstance(await bench.run(), Shown)

    assert bench.hospital.reads == ["a-1"]
    assert bench.paper.of("outcome")[0]["upstream"] == {
        **bench.paper.of("intent")[0]["upstream"],
        "status": 200,
        "version_after": "8",
    }


READ_BACK: list[Any] = [
    pytest.param(cancel(), "done", "applied", True, id="our values at a later version"),
    pytest.param(cancel(), appointment(), "unknown", False, id="the version unchanged, so soon"),
    pytest.param(cancel(), OTHERS, "unknown", False, id="other values at a later version"),
    pytest.param(cancel(), appointment(version="6"), "unknown", False, id="an older version"),
    pytest.param(cancel(), None, "unknown", False, id="gone"),
    pytest.param(
        move(NOW + 40 * DAY),
        replace(OTHERS, status=Status.CANCELLED),
        "rejected",
        True,
        id="cancelled after our change",
    ),
]


@pytest.mark.parametrize(("command", "shown", "outcome", "final"), READ_BACK)
async def test_a_doubtful_answer_is_read_back_once_and_never_sent_again(
    bench: Bench, command: Any, shown: Any, outcome: str, *, final: bool
) -> None:
    bench.doubt(applies=shown == "done")

    def meanwhile() -> None:
        if shown is None:
            bench.hospital.copies.clear()
        elif shown != "done":
            bench.hospital.copies["a-1"] = shown

    bench.hospital.on_read = meanwhile

    answer = await bench.run(command=command)

    assert bench.hospital.reads == ["a-1", "a-1"]
    assert bench.hospital.sent == [command]
    assert bench.paper.outcomes == [(outcome, final, False)]
    match outcome:
        case "applied":
            assert isinstance(answer, Shown)
        case "unknown":
            assert answer == Refused(Code.OUTCOME_UNKNOWN, task="t-1")
            assert bench.shelf.statuses[-1] == "in-progress"
        case _:
            assert answer == Refused(Code.VERSION_CONFLICT)


async def test_a_read_back_that_fails_leaves_the_outcome_unknown(bench: Bench) -> None:
    bench.doubt(applies=True, readable=False)

    answer = await bench.run()

    assert answer == Refused(Code.OUTCOME_UNKNOWN, task="t-1")
    assert bench.hospital.sent == [cancel()]
    assert bench.paper.outcomes == [("unknown", False, False)]
    assert bench.paper.of("outcome")[0]["code"] == "outcome-unknown"


async def test_the_record_keeps_what_pkb_answered_in_doubt(bench: Bench) -> None:
    bench.hospital.answer, bench.hospital.applies = Doubt("server error", 500), True

    await bench.run()

    upstream = bench.paper.of("outcome")[0]["upstream"]
    assert (upstream["status"], upstream["version_after"]) == (500, "8")


@pytest.mark.parametrize(
    ("passed", "outcome"),
    [
        pytest.param(SETTLES - SECOND, "unknown", id="before writes settle"),
        pytest.param(SETTLES, "rejected", id="once writes have settled"),
    ],
)
async def test_an_unchanged_version_proves_nothing_until_writes_have_settled(
    bench: Bench, passed: timedelta, outcome: str
) -> None:
    bench.doubt(applies=False)
    bench.hospital.on_read = lambda: bench.clock.passes(passed if bench.hospital.sent else 0 * SECOND)

    answer = await bench.run()

    assert bench.paper.outcomes[0][0] == outcome
    assert isinstance(answer, Refused)
    assert answer.code is (Code.UPSTREAM_REFUSED if outcome == "rejected" else Code.OUTCOME_UNKNOWN)


async def test_settling_is_counted_from_the_sending_and_not_from_the_decision(bench: Bench) -> None:
    bench.doubt(applies=False)
    slow = bench.paper.write

    async def write(record: Any, *, essential: bool = False) -> int:
        if record["event"] == "intent":
            bench.clock.passes(SETTLES)
        return await slow(record, essential=essential)

    bench.writes.journal.write = write  # type: ignore[method-assign] # a disk that takes its time

    assert await bench.run() == Refused(Code.OUTCOME_UNKNOWN, task="t-1")


async def test_settling_is_counted_from_the_end_of_the_sending_and_not_from_its_beginning(bench: Bench) -> None:
    bench.doubt(applies=False)
    slow = bench.hospital.write

    async def write(*told: Any, **named: Any) -> WriteAnswer:
        answer = await slow(*told, **named)
        bench.clock.passes(SETTLES)
        return answer

    bench.hospital.write = write  # type: ignore[method-assign] # a message that takes its time

    assert await bench.run() == Refused(Code.OUTCOME_UNKNOWN, task="t-1")


async def test_a_silent_pkb_before_the_write_is_no_doubt(bench: Bench) -> None:
    bench.hospital.down = SILENCE

    await bench.run()

    assert bench.paper.events == ["refused"]
    assert len(bench.open_writes) == 0
