"""A Task comes back from the store as it went there, whatever PKB calls things."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from gateway.domain.grant import Operation
from gateway.domain.outcome import TaskStatus
from gateway.flow.tasks import Task
from gateway.storage.task_text import read_task, write_record, write_task

AT = datetime(2026, 6, 1, 9, 30, 0, 250_000, tzinfo=UTC)


def task(name: str, requested: datetime = AT, updated: datetime = AT) -> Task:
    trace = {"names": [name, f"placer/{name}"], "intent": 7, "sent_at": None, "accepted": False}
    return Task(
        "t-1",
        "swiftbook",
        "airedale",
        name,
        Operation.CANCEL,
        TaskStatus.IN_PROGRESS,
        requested,
        updated,
        code="outcome-unknown",
        version="3",
        repeated={"status": 200},
        trace=trace,
    )


@pytest.mark.parametrize("name", ["a-1", 'quote " and \\', "Ärztin", "\u2028", "\x00\x7f", "half \ud800 a pair", "𝄞"])
def test_a_task_comes_back_as_it_was_in_ascii(name: str) -> None:
    written = write_task(task(name))

    assert written.isascii()
    assert read_task(written) == task(name)
    assert read_task(written).trace == task(name).trace
    assert read_task(written).repeated == {"status": 200}


@pytest.mark.parametrize("name", ["a-1", "Ärztin"])
@pytest.mark.parametrize("at", [AT.replace(microsecond=0), AT.astimezone(timezone(timedelta(hours=5, minutes=30)))])
def test_times_come_back_as_the_same_moment(name: str, at: datetime) -> None:
    kept = read_task(write_task(task(name, at, AT)))

    assert (kept.requested, kept.updated) == (at, AT)
    assert kept.requested.utcoffset() == at.utcoffset()


@pytest.mark.parametrize("value", [1.5j, object()])
def test_what_is_no_json_is_not_written(value: object) -> None:
    with pytest.raises(TypeError):
        write_record({"x": value})
