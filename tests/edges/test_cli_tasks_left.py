"""Who ends a write when several could: persons, running gateways, and processes that died."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.domain.outcome import TaskStatus
from gateway.storage.journal import Journal, JournalSettings
from gateway.storage.journal_chain import ChainSettings
from gateway.storage.resolution import LEFT_AFTER, NotResolved, Resolution, resolve
from gateway.storage.state import State
from gateway.storage.task_book import PROCESS, TaskBook
from tests.edges.task_place import ENDED, NOW, UNKNOWN, Place, make_place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


def test_a_gateway_that_is_about_to_end_it_is_left_to_it(place: Place) -> None:
    place.claim(f"{PROCESS}7", timedelta(seconds=1))

    refused = place.resolve()

    assert refused.exit_code == 1
    assert "about to end" in refused.output
    assert place.records == []
    assert f"t-1: claimed by {PROCESS}7" in place.run("list").output


@pytest.mark.parametrize(
    ("by", "age"),
    [
        pytest.param(f"{PROCESS}7", LEFT_AFTER + timedelta(seconds=5), id="a gateway"),
        pytest.param("person B Operator", timedelta(seconds=1), id="a person"),
    ],
)
def test_what_somebody_claimed_and_never_recorded_is_finished(place: Place, by: str, age: timedelta) -> None:
    about = {"task": "t-1", "event": "outcome"}
    place.write({**about, "final": False, "outcome": "unknown"}, {**about, "task": "t-10", "final": True})
    place.claim(by, age)

    done = place.resolve()

    assert done.exit_code == 0, done.output
    assert [record["outcome"] for record in place.of("outcome") if record["final"] and record["task"] == "t-1"] == [
        "rejected"
    ]
    assert not place.task().open


@pytest.mark.parametrize(
    ("recorded", "status", "code"),
    [
        pytest.param("rejected", TaskStatus.REJECTED, 0, id="as it is said now"),
        pytest.param("applied", TaskStatus.COMPLETED, 1, id="as applied"),
        pytest.param("accepted", TaskStatus.COMPLETED, 1, id="as accepted"),
        pytest.param("unknown", TaskStatus.FAILED, 1, id="as unknown"),
    ],
)
def test_an_end_that_is_on_record_already_is_not_recorded_again(
    place: Place, recorded: str, status: TaskStatus, code: int
) -> None:
    place.write({"event": "outcome", "task": "t-1", "final": True, "outcome": recorded})
    place.claim("person B Operator", timedelta(0))

    done = place.resolve()

    assert done.exit_code == code
    assert ("on record already" in done.output) is bool(code)
    assert [record["outcome"] for record in place.of("outcome")] == [recorded]
    assert place.of("task-resolved") == []
    assert (place.task().status, place.task().outcome) == (status, recorded)


def test_of_gateways_and_persons_at_the_same_moment_one_ends_the_write(place: Place) -> None:
    url = f"sqlite:///{place.state}"

    async def open_journal() -> Journal:
        return await Journal.open(JournalSettings(ChainSettings(place.audit)), clock=lambda: datetime.now(UTC))

    async def person(task: str) -> bool:
        state = await State.open(url)
        try:
            await resolve(Resolution(task, "applied", "A Operator", NOW), state, place.audit, open_journal)
        except NotResolved:
            return False
        finally:
            await state.close()
        return True

    async def race() -> list[list[bool]]:
        states = [await State.open(url) for _ in range(2)]
        books = [TaskBook(state, timedelta(days=30), lambda _: None) for state in states]
        rounds = []
        for number in range(8):
            task = replace(UNKNOWN, id=f"r-{number}")
            await books[0].put(task)
            await books[0].close()
            seen = replace(ENDED, id=task.id, updated=NOW)
            tries = (books[0].claim(seen), person(task.id), books[1].claim(seen))
            # Each gets its chance to come first.
            order = [tries[(number + n) % 3] for n in range(3)]
            rounds.append(await asyncio.gather(*order))
        for state in states:
            await state.close()
        return rounds

    rounds = asyncio.run(race())

    assert [sum(won) for won in rounds] == [1] * 8
    by_persons = sum(won[(1 - number) % 3] for number, won in enumerate(rounds))
    assert len(place.of("outcome")) == len(place.of("task-resolved")) == by_persons


def test_a_gateway_that_claims_it_at_the_last_moment_is_left_to_it(place: Place) -> None:
    async def person(state: State) -> None:
        async def open_journal() -> Journal:
            await TaskBook(state, timedelta(days=30), lambda _: None).claim(replace(UNKNOWN, updated=NOW))
            return await Journal.open(JournalSettings(ChainSettings(place.audit)), clock=lambda: datetime.now(UTC))

        with pytest.raises(NotResolved, match="just ended it itself"):
            await resolve(Resolution("t-1", "applied", "A Operator", NOW), state, place.audit, open_journal)

    place.ask(person)

    assert [record["event"] for record in place.records] == ["start", "stop"]
    assert place.task() == UNKNOWN
