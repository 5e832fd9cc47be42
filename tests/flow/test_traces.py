"""What is remembered of a write tells whether PKB shows it, and no text."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.domain.appointment import Appointment, Change, Status, Write
from gateway.domain.outcome import shows
from gateway.domain.pseudonym import Pseudonyms
from gateway.flow.traces import recall, trace_of, trace_of_record
from tests.flow.fakes import Bench, done
from tests.makers import CARDIOLOGY, NOW, appointment, cancel, instant, move

VEIL = Pseudonyms("k1", b"sixteen bytes of key")

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


async def intended(bench: Bench, command: Write) -> dict[str, Any]:
    bench.hospital.copies["a-1"] = BEFORE
    await bench.run(command=command)
    intent = bench.paper.of("intent")[0]
    return dict(trace_of_record(intent))


@pytest.mark.parametrize(
    "command",
    [COMMANDS[name] for name in ("cancel", "cancel with comment", "move", "start only", "comment", "location")],
)
async def test_the_record_of_an_intent_tells_as_much(bench: Bench, command: Write) -> None:
    trace = json.loads(json.dumps(await intended(bench, command)))

    after = bench.hospital.copies["a-1"]
    for shown in (after, BEFORE, replace(after, comment="Another", start=None, status=Status.BOOKED)):
        again, before = recall(trace, bench.veil, shown)
        assert shows(again, shown) == shows(command, shown)
        assert (before.id, before.version, before.labels) == (BEFORE.id, BEFORE.version, BEFORE.labels)
        assert before.specialties == BEFORE.specialties
        assert before.participants == shown.participants
