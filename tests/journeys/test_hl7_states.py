"""Every cell of the HL7 route's table: PKB's final state, the answer, the Task, the records and the messages."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

import pytest

from tests.journeys import hospital
from tests.journeys.hl7_cells import ACKS, CELLS, OPERATIONS, STATES, Cell, end_of, given
from tests.journeys.hospital import CUSTOMER, URL, Booked, Sent, booked, differing, people
from tests.journeys.partner import Client, Reply, until
from tests.journeys.processes import Json, Place, gateway_process

LATE = 2000
"""Milliseconds until readers see what was done, where they see it late."""

SETTINGS = '[limits]\nnot_found_step = "0s"\nunresolved_after = { unknown = "3s", accepted = "4s" }'


@dataclass
class Lived:
    """What came of one cell."""

    booked: Booked
    reply: Reply
    records: list[Json]
    sent: list[Sent]
    after: Json | None = None
    url: str | None = None
    task: Json | None = None


@dataclass
class Day:
    """What came of all cells, and how many appointments PKB had before and after."""

    lived: dict[Cell, Lived]
    before: int
    after: int
    messages: list[Sent]


@pytest.fixture(scope="module")
def day(place: Place) -> Iterator[Day]:
    async def live(gateway: Place) -> Day:
        async with Client(place) as client:
            return await live_through(client, client.at(gateway))

    with gateway_process(place, "impatient", SETTINGS) as running:
        yield asyncio.run(live(running))


async def live_through(pkb: Client, gateway: Client) -> Day:
    known = {cell: await booked(pkb, STATES[cell.state].scenario, **STATES[cell.state].members) for cell in CELLS}
    before = await hospital.count_appointments(pkb)
    replies: dict[Cell, Reply] = {}
    for _, group in groupby(CELLS, lambda cell: (cell.ack, cell.late)):
        cells = list(group)
        await misbehave(pkb, cells)
        answered = await asyncio.gather(*(write(gateway, cell, known[cell]) for cell in cells))
        replies |= dict(zip(cells, answered, strict=True))
        assert await pkb.faults_left() == []
    records = await all_ended(gateway)
    sent = await hospital.messages(pkb)
    lived = {}
    for cell, reply in replies.items():
        own = [each for each in records if each["request_id"] == reply.request_id]
        lived[cell] = Lived(known[cell], reply, own, [each for each in sent if each.placer == known[cell].placer])
        lived[cell].after = await pkb.copy(known[cell].id, CUSTOMER)
        lived[cell].url = await hospital.management_url(pkb, known[cell])
        lived[cell].task = await task_of(gateway, own)
    return Day(lived, before, await hospital.count_appointments(pkb), sent)


async def misbehave(pkb: Client, cells: list[Cell]) -> None:
    """Order for PKB's next messages what the cells are about."""
    count = sum(cell.sent for cell in cells)
    fault = ACKS[cells[0].ack].fault
    if fault is not None:
        await pkb.fault(**{"target": "hl7", "count": count, "customer": CUSTOMER, **fault})
    if cells[0].late:
        await pkb.fault("lag", LATE, target="aggregated", count=count, customer=CUSTOMER)


async def write(gateway: Client, cell: Cell, booking: Booked) -> Reply:
    id_ = booking.id if STATES[cell.state].exists else f"x{booking.id}"
    asked = given(cell.operation, booking)
    if cell.operation == "cancel":
        return await gateway.cancel(id_, *asked, customer=CUSTOMER)
    return await gateway.change(id_, *asked, customer=CUSTOMER)


async def all_ended(gateway: Client) -> list[Json]:
    """Every record of the gateway, when each of its intents has its final outcome."""

    async def look() -> list[Json]:
        return gateway.place.records()

    def open_ones(records: list[Json]) -> set[int]:
        ended = {each["intent"] for each in records if each["event"] == "outcome" and each["final"]}
        return {each["seq"] for each in records if each["event"] == "intent"} - ended

    return await until(look, lambda records: not open_ones(records))


async def task_of(gateway: Client, records: list[Json]) -> Json | None:
    if not records[0]["task"]:
        return None
    return dict((await gateway.task(records[0]["task"], customer=CUSTOMER)).body)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_cell_ends_as_the_table_says(cell: Cell, day: Day) -> None:
    lived, end = day.lived[cell], end_of(cell)
    assert (lived.reply.status, lived.reply.code) == (end.status, end.code)
    assert ("Content-Location" in lived.reply.headers) == (end.status in {202, 504})
    assert [each["event"] for each in lived.records] == (
        ["intent", *["outcome"] * len(end.outcomes)] if cell.sent else ["refused"]
    )
    outcomes = lived.records[1:]
    assert tuple(each["outcome"] for each in outcomes) == end.outcomes
    assert [each["final"] for each in outcomes] == [each == outcomes[-1] for each in outcomes]
    assert (lived.task or {"status": ""})["status"] == end.task
    assert_on_record(lived, cell)
    assert_sent(lived, cell)
    assert_stored(lived, cell)


def assert_on_record(lived: Lived, cell: Cell) -> None:
    intent, *outcomes = lived.records
    for each in outcomes:
        for name in ("request_id", "correlation_id", "partner", "customer", "appointment", "task"):
            assert each[name] == intent[name]
        assert each["intent"] == intent["seq"]
        assert each["upstream"]["collateral"] == []
    assert [each["recovered"] for each in outcomes] == [False, True][: len(outcomes)]
    if cell.sent:
        assert intent["upstream"]["control_id"] == lived.sent[0].control_id


def assert_sent(lived: Lived, cell: Cell) -> None:
    """At most one message, of the right kind, and about this appointment and patient."""
    assert len(lived.sent) == (1 if cell.sent else 0)
    for sent in lived.sent:
        assert sent.trigger == OPERATIONS[cell.operation][0]
        assert sent.field("PID", 3) == f"{lived.booked.number}^^^NHS^NH"
        assert sent.write["applied"] == ACKS[cell.ack].applied


def assert_stored(lived: Lived, cell: Cell) -> None:
    before, after = lived.booked.held, lived.after
    assert after is not None
    changed = OPERATIONS[cell.operation][1] if cell.applied else set()
    assert differing(before, after) == changed
    assert after["meta"]["security"] == before["meta"]["security"]
    assert (after["specialty"], after["identifier"], people(after)) == (
        before["specialty"],
        before["identifier"],
        people(before),
    )
    assert lived.url == (URL if cell.applied and cell.operation == "managementUrl" else None)
    if cell.applied:
        assert_asked_for(lived, cell)


def assert_asked_for(lived: Lived, cell: Cell) -> None:
    before, after = lived.booked.held, lived.after
    assert after is not None
    match cell.operation:
        case "cancel":
            assert after["status"] == "cancelled"
        case "times":
            start = datetime.fromisoformat(before["start"]) + timedelta(days=3)
            assert datetime.fromisoformat(after["start"]) == start
            assert datetime.fromisoformat(after["end"]) == start + timedelta(minutes=45)
        case "texts":
            places = [each["actor"]["display"] for each in after["participant"] if each not in people(after)]
            assert (after["comment"], places) == ("Bring your glasses | ~ & \\ ^.", ["Ward 7"])


def test_no_cell_creates_an_appointment(day: Day) -> None:
    assert day.after == day.before


def test_no_cell_revives_what_is_cancelled_or_was_missed(day: Day) -> None:
    for cell in [cell for cell in CELLS if cell.state in {"cancelled", "noshow"}]:
        after = day.lived[cell].after
        assert after is not None
        assert (after["status"], day.lived[cell].sent) == (cell.state, [])


def test_every_message_has_a_number_of_its_own_and_belongs_to_a_cell(day: Day) -> None:
    assert len(day.messages) == sum(cell.sent for cell in CELLS)
    assert len({sent.control_id for sent in day.messages}) == len(day.messages)


async def test_nothing_is_kept_of_patients_texts_and_secrets(day: Day, place: Place, client: Client) -> None:
    someone = next(iter(day.lived.values())).booked
    forbidden = {someone.number, someone.born, someone.born.replace("-", ""), "XXTESTPATIENT", "Dr Test Jones"}
    forbidden |= {"Bring your glasses", "Ward 7", URL, "swiftbook.example", "sandbox-swiftbook-hl7", "MSH|", "PID|"}
    forbidden |= {"this was ordered", "Unexpected error", "validation error", "Please wait"}
    folder = place.directory
    files = [each for each in (*folder.glob("impatient*"), *(folder / "impatient").iterdir()) if each.is_file()]
    assert {each.suffix for each in files} >= {".jsonl", ".log", ".db"}
    for path in files:
        text = path.read_bytes().decode("utf-8", "replace")
        if path.suffix != ".toml":
            assert [each for each in forbidden if each.lower() in text.lower()] == [], path.name
    told = [json.dumps(lived.task) for lived in day.lived.values()]
    told += [lived.reply.raw.decode() for lived in day.lived.values() if lived.reply.status != 200]
    assert [each for each in forbidden if any(each in text for text in told)] == []
