"""A process that starts takes over the writes that another left open."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.domain.appointment import Appointment, Change, Status, Write
from gateway.domain.outcome import TaskStatus, shows
from gateway.domain.pseudonym import Pseudonyms
from gateway.flow.open_writes import OpenWrites
from gateway.flow.request import Refused
from gateway.flow.tasks import Task
from gateway.flow.traces import recall, trace_of
from tests.flow.fakes import HELD, ROUTE, SETTLES, UNRESOLVED, Bench, Nap, done
from tests.makers import CARDIOLOGY, CUSTOMERS, NOW, appointment, cancel, instant, move

VEIL = Pseudonyms("k1", b"sixteen bytes of key")
KEY = (ROUTE, "a-1")
AIREDALE = next(customer for customer in CUSTOMERS if customer.id == "airedale")


def through_the_state_file(task: Task) -> Task:
    """Only what JSON can hold outlives a process."""
    return replace(task, repeated=json.loads(json.dumps(dict(task.repeated))), trace=json.loads(json.dumps(task.trace)))


async def left_open(bench: Bench, command: Write | None = None) -> tuple[OpenWrites, Nap, Task]:
    """Leave a write in doubt, end the process, and start another one."""
    bench.doubt(applies=False)
    answer = await bench.run(**({} if command is None else {"command": command}))
    assert isinstance(answer, Refused)
    await bench.open_writes.close()
    nap = Nap()
    again = OpenWrites(
        bench.hospital,
        bench.paper,
        bench.drawer,
        bench.clock,
        SETTLES,
        UNRESOLVED,
        HELD,
        bench._alarm,
        bench.veil,
        nap,
    )
    return again, nap, through_the_state_file(bench.drawer.kept[-1])


async def later(bench: Bench, nap: Nap, **time: float) -> None:
    bench.clock.now += timedelta(**time)
    await nap.over()


async def test_it_is_held_and_named_to_its_partner_alone(bench: Bench) -> None:
    again, _, task = await left_open(bench)

    assert again.resume(task, AIREDALE)

    assert again.hold((KEY,))
    assert again.task_of((KEY,), "swiftbook", "airedale") == task.id
    assert again.task_of((KEY,), "viewonly", "airedale") is None
    await again.close()


async def test_it_is_followed_until_it_is_seen(bench: Bench) -> None:
    again, nap, task = await left_open(bench)
    assert again.resume(task, AIREDALE)
    bench.hospital.copies["a-1"] = done(cancel(), appointment())

    await later(bench, nap, seconds=1)

    assert not again.hold((KEY,))
    assert bench.paper.outcomes == [("unknown", False, False), ("applied", True, True)]
    first, last = bench.paper.of("outcome")
    for name in ("request_id", "partner", "customer", "appointment", "task", "intent", "facts", "patient"):
        assert last[name] == first[name]
    assert bench.drawer.kept[-1].status is TaskStatus.COMPLETED
    assert bench.faults == []


async def test_it_is_rejected_once_writes_have_settled(bench: Bench) -> None:
    again, nap, task = await left_open(bench)
    assert again.resume(task, AIREDALE)

    await later(bench, nap, seconds=SETTLES.total_seconds() + 1)

    assert bench.paper.outcomes[-1] == ("rejected", True, True)


async def test_a_look_that_fails_changes_nothing(bench: Bench) -> None:
    again, nap, task = await left_open(bench)
    assert again.resume(task, AIREDALE)
    bench.hospital.copies.clear()

    await later(bench, nap, seconds=1)

    assert again.hold((KEY,))
    await again.close()


@pytest.mark.parametrize(
    "task",
    [
        pytest.param({"trace": {}}, id="a Task of before traces were kept"),
        pytest.param({"trace": {"route": "another"}}, id="a customer that is reached by another route by now"),
    ],
)
async def test_what_cannot_be_followed_is_left_to_a_person(bench: Bench, task: dict[str, Any]) -> None:
    again, _, left = await left_open(bench)

    assert not again.resume(replace(left, **task), AIREDALE)

    assert not again.hold((KEY,))


BEFORE = appointment(
    comment="Bring glasses",
    locations=("Clinic 1",),
    participants=("Dr Jones", None),
    specialties=frozenset({CARDIOLOGY}),
)
COMMANDS = {
    "cancel": cancel(),
    "cancel with comment": cancel(comment="No longer needed"),
    "cancel without reason": replace(cancel(), codings=()),
    "move": move(NOW + timedelta(days=20), NOW + timedelta(days=20, hours=1)),
    "start only": Change(start=instant(NOW + timedelta(days=20))),
    "comment": Change(comment="Bring glasses and letters"),
    "location": Change(location="Clinic 2"),
    "page": Change(management_url="https://swiftbook.example/1"),
}


def remembered(command: Write, after: Appointment | None) -> tuple[Write, Appointment]:
    return recall(json.loads(json.dumps(trace_of(command, BEFORE, VEIL))), VEIL, after)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_recalled_command_is_seen_where_the_command_itself_is(command: Write) -> None:
    after = replace(done(command, BEFORE), version="99")
    for shown in (after, BEFORE, replace(after, comment="Another", locations=("Elsewhere",), start=None)):
        again, _ = remembered(command, shown)
        assert shows(again, shown) == shows(command, shown)
        assert again.operation is command.operation


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_trace_holds_no_text(command: Write) -> None:
    told = json.dumps(trace_of(command, BEFORE, VEIL))

    for text in ("glasses", "Clinic", "Jones", "longer", "swiftbook.example"):
        assert text not in told


def test_the_copy_before_keeps_what_must_not_have_changed() -> None:
    _, before = remembered(cancel(), replace(BEFORE, status=Status.CANCELLED))

    assert (before.id, before.version, before.status) == (BEFORE.id, BEFORE.version, BEFORE.status)
    assert (before.labels, before.specialties) == (BEFORE.labels, BEFORE.specialties)
    assert before.participants == BEFORE.participants


def test_other_participants_differ_from_those_remembered() -> None:
    other = replace(BEFORE, participants=("Dr Smith",))
    _, before = remembered(cancel(), other)

    assert before.participants != other.participants


def test_without_a_look_no_text_is_taken_for_seen() -> None:
    again, _ = remembered(Change(comment="x", location="y"), None)

    assert isinstance(again, Change)
    assert (again.comment, again.location) == ("\x00", "\x00")
