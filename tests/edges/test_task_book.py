import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.domain.grant import Operation
from gateway.domain.outcome import TaskStatus
from gateway.flow.ports import StateUnavailable
from gateway.flow.tasks import Task
from gateway.storage import state as state_module
from gateway.storage.state import Claim, State
from gateway.storage.task_book import TaskBook, write_task

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


UNKNOWN = replace(
    ENDED,
    status=TaskStatus.IN_PROGRESS,
    outcome="unknown",
    code="outcome-unknown",
    version=None,
    repeated={"request_id": "r-1", "intent": 7, "upstream": {"route": "box", "collateral": []}},
)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[TaskBook, TaskBook]]:
    """Two processes that share a state file."""
    states = [await _state(tmp_path), await _state(tmp_path)]
    first, second = (TaskBook(state, timedelta(days=30), Lost().tasks.append) for state in states)
    yield first, second
    for state in states:
        await state.close()


async def test_what_the_end_repeats_is_kept(two: tuple[TaskBook, TaskBook]) -> None:
    first, second = two
    await first.put(UNKNOWN)
    await first.close()

    found = await second.get("t-1")

    assert found == UNKNOWN


async def test_of_two_processes_one_may_end_a_task(two: tuple[TaskBook, TaskBook]) -> None:
    first, second = two
    await first.put(UNKNOWN)
    await first.close()

    assert sorted(await asyncio.gather(first.claim(ENDED), second.claim(ENDED))) == [False, True]


async def test_a_claim_stays_with_its_process(two: tuple[TaskBook, TaskBook]) -> None:
    first, second = two
    await first.put(UNKNOWN)

    assert [await first.claim(ENDED), await second.claim(ENDED), await first.claim(ENDED)] == [True, False, True]
    assert await second.get("t-1") == UNKNOWN


async def test_a_claim_does_not_grow_old_while_its_process_lives(tmp_path: Path) -> None:
    state = await _state(tmp_path)
    book = TaskBook(state, timedelta(days=30), Lost().tasks.append)
    await book.put(UNKNOWN)
    assert await book.claim(ENDED)
    before = await state.find_task("t-1")
    assert before is not None
    assert before.claim == Claim(book.name, NOW)

    await book.ended(["t-1"])

    after = await state.find_task("t-1")
    assert after is not None
    assert after.claim is not None
    assert abs(after.claim.at - datetime.now(UTC)) < timedelta(minutes=1)
    await book.put(ENDED)
    await book.close()
    assert book._claims == set()
    await state.close()


async def test_a_task_that_was_never_kept_can_be_claimed_once(two: tuple[TaskBook, TaskBook]) -> None:
    first, second = two

    assert [await first.claim(ENDED), await second.claim(ENDED)] == [True, False]


async def test_what_has_ended_cannot_be_claimed_nor_opened_again(two: tuple[TaskBook, TaskBook]) -> None:
    first, second = two
    await first.put(UNKNOWN)
    await first.put(ENDED)
    await first.close()

    assert not await second.claim(ENDED)
    await second.put(UNKNOWN)
    await second.close()
    assert await second.ended(["t-1", "t-2"]) == [ENDED]


async def test_only_what_has_ended_is_told_as_ended(two: tuple[TaskBook, TaskBook]) -> None:
    first, second = two
    await first.put(UNKNOWN)
    await first.put(replace(ENDED, id="t-2"))
    await first.close()

    assert [task.id for task in await second.ended(["t-1", "t-2", "t-3"])] == ["t-2"]
    assert await second.ended([]) == []


async def test_an_open_task_is_kept_however_old(two: tuple[TaskBook, TaskBook]) -> None:
    first, second = two
    await first.put(UNKNOWN)
    await first.put(replace(ENDED, id="t-2", updated=NOW + timedelta(days=31)))
    await first.close()

    assert await second.get("t-1") == UNKNOWN


async def test_without_a_state_file_nothing_is_claimed(tmp_path: Path) -> None:
    state = await _state(tmp_path)
    await state.close()
    book = TaskBook(state, timedelta(days=30), Lost().tasks.append)

    with pytest.raises(StateUnavailable):
        await book.claim(ENDED)
    with pytest.raises(StateUnavailable):
        await book.ended(["t-1"])


async def test_a_state_file_of_the_version_before_goes_on(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "state.db")
    for step in state_module._STEPS[:2]:
        for statement in step:
            old.execute(statement)
    old.execute("PRAGMA user_version = 2")
    body = json.dumps({name: value for name, value in json.loads(write_task(ENDED)).items() if name != "repeated"})
    old.execute("INSERT INTO task VALUES ('t-1', 0, ?)", (body,))
    old.commit()
    old.close()

    state = await _state(tmp_path)
    book = TaskBook(state, timedelta(days=30), Lost().tasks.append)

    assert await book.get("t-1") == ENDED
    assert not await book.claim(ENDED)
    await state.close()
