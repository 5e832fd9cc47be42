from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.domain.grant import Operation
from gateway.domain.outcome import TaskStatus
from gateway.flow.ports import StateUnavailable
from gateway.flow.tasks import Task
from gateway.storage.state import State
from gateway.storage.task_book import TaskBook

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ENDED = Task(
    "t-1", "swiftbook", "airedale", "a-1", Operation.CANCEL, TaskStatus.COMPLETED, NOW, NOW, None, "applied", "7"
)
OPEN = replace(ENDED, status=TaskStatus.REQUESTED, outcome=None, version=None)


@dataclass
class Lost:
    tasks: list[Task] = field(default_factory=list)


async def _state(folder: Path) -> State:
    return await State.open(f"sqlite:///{folder}/state.db")


async def test_an_ended_task_is_found_after_a_restart(tmp_path: Path) -> None:
    lost = Lost()
    state = await _state(tmp_path)
    book = TaskBook(state, timedelta(days=30), lost.tasks.append)
    await book.put(OPEN)
    await book.put(ENDED)
    await book.close()
    await state.close()

    again = await _state(tmp_path)
    found = await TaskBook(again, timedelta(days=30), lost.tasks.append).get("t-1")
    await again.close()

    assert found == ENDED
    assert lost.tasks == []


async def test_a_task_whose_outcome_is_unknown_is_found_after_a_restart(tmp_path: Path) -> None:
    unknown = replace(ENDED, status=TaskStatus.IN_PROGRESS, outcome="unknown", code="outcome-unknown", version=None)
    state = await _state(tmp_path)
    book = TaskBook(state, timedelta(days=30), Lost().tasks.append)
    await book.put(unknown)
    await book.close()

    assert await TaskBook(state, timedelta(days=30), Lost().tasks.append).get("t-1") == unknown
    await state.close()


async def test_an_unknown_task_is_none(tmp_path: Path) -> None:
    state = await _state(tmp_path)

    assert await TaskBook(state, timedelta(days=30), Lost().tasks.append).get("nobody") is None
    await state.close()


async def test_memory_forgets_the_oldest_but_the_state_file_does_not(tmp_path: Path) -> None:
    state = await _state(tmp_path)
    book = TaskBook(state, timedelta(days=30), Lost().tasks.append, room=1)
    await book.put(ENDED)
    await book.put(replace(ENDED, id="t-2"))
    await book.close()

    assert await book.get("t-1") == ENDED
    await state.close()


async def test_tasks_older_than_they_are_kept_are_removed(tmp_path: Path) -> None:
    state = await _state(tmp_path)
    book = TaskBook(state, timedelta(days=30), Lost().tasks.append, room=0)
    await book.put(ENDED)
    await book.close()
    await book.put(replace(ENDED, id="t-2", updated=NOW + timedelta(days=31)))
    await book.close()

    assert await book.get("t-1") is None
    assert await book.get("t-2") is not None
    await state.close()


async def test_a_task_that_cannot_be_kept_is_told_and_still_found_in_memory(tmp_path: Path) -> None:
    lost = Lost()
    state = await _state(tmp_path)
    await state.close()
    book = TaskBook(state, timedelta(days=30), lost.tasks.append)
    await book.put(ENDED)
    await book.close()

    assert lost.tasks == [ENDED]
    assert await book.get("t-1") == ENDED
    with pytest.raises(StateUnavailable):
        await book.get("t-2")
