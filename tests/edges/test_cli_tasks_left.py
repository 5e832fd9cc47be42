"""Who ends a write when several could: persons, running gateways, and processes that died."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.domain.outcome import TaskStatus
from gateway.flow.ports import JournalUnavailable
from gateway.flow.store import Filed, Phase, Turn
from gateway.storage.chain_tails import ChainFolder
from gateway.storage.journal import Journal, JournalSettings
from gateway.storage.journal_chain import ChainSettings
from gateway.storage.resolution import NotResolved, Resolution, Resolver
from gateway.storage.store import Store, open_store
from tests.edges.task_place import ENDED, NOW, REPEATED, UNKNOWN, Place, make_place

WISH = Resolution("t-1", "applied", "A Operator", NOW)
RECORD = {"event": "outcome", "task": "t-1", "outcome": "applied", "final": True, "operator": "B Operator"}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


def resolver(place: Place, store: Store) -> Resolver:
    @asynccontextmanager
    async def journal() -> AsyncIterator[Journal]:
        opened = await Journal.open(JournalSettings(ChainSettings(place.audit)), clock=lambda: datetime.now(UTC))
        try:
            yield opened
        finally:
            await opened.close()

    return Resolver(store, ChainFolder(place.audit), journal)


def finals(place: Place) -> list[str]:
    return [record["outcome"] for record in place.of("outcome") if record["final"] and record["task"] == "t-1"]


@pytest.mark.parametrize(
    ("phase", "lives", "message"),
    [
        pytest.param(Phase.HELD, True, "still runs", id="held by a node that lives"),
        pytest.param(Phase.SENT, True, "still runs", id="sent by a node that lives"),
        pytest.param(Phase.HELD, False, "nothing of Task t-3 was sent", id="held by a dead one"),
        pytest.param(Phase.SENT, False, None, id="sent by a dead one"),
    ],
)
def test_what_still_runs_is_left_alone(place: Place, phase: Phase, lives: bool, message: str | None) -> None:
    async def filed(store: Store) -> None:
        task = replace(UNKNOWN, id="t-3", status=TaskStatus.REQUESTED)
        assert await store.hold(task, {("box", "a-3"): 0}, "gateway")
        if phase is Phase.SENT:
            assert await store.send(task)
        if not lives:
            await store.database.change("UPDATE node SET expires = 0")

    place.ask(filed)

    told = place.resolve("t-3")

    assert told.exit_code == (0 if message is None else 1), told.output
    assert message is None or message in told.output
    assert place.filed("t-3").phase is (Phase.ENDED if message is None else phase)


def test_the_records_repeat_what_the_write_remembers(place: Place) -> None:
    record = {"request_id": "r-3", "correlation_id": "c-3", "grant": "g", "patient": {"kid": "k"}, "decision": "permit"}
    upstream = {"route": "box", "status": None, "version_before": "7", "collateral": ["labels"]}
    place.keep(replace(UNKNOWN, id="t-3", repeated={}, trace={"record": record, "upstream": upstream, "intent": 9}))

    assert place.resolve("t-3").exit_code == 0

    for told in (place.of("task-resolved")[0], place.of("outcome")[0]):
        assert {name: told[name] for name in record} == record
        assert (told["intent"], told["upstream"]) == (9, {**upstream, "collateral": []})


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

    done = place.resolve()

    assert done.exit_code == code
    assert ("on record already" in done.output) is bool(code)
    assert finals(place) == [recorded]
    assert place.of("task-resolved") == []
    ended = place.filed()
    assert (ended.phase, ended.owed, ended.task.status, ended.task.outcome) == (Phase.ENDED, None, status, recorded)


def test_outcomes_that_were_not_final_and_those_of_others_are_no_end(place: Place) -> None:
    about = {"task": "t-1", "event": "outcome"}
    place.write({**about, "final": False, "outcome": "unknown"}, {**about, "task": "t-10", "final": True})

    assert place.resolve().exit_code == 0

    assert finals(place) == ["rejected"]


def test_the_appointment_is_free_and_nothing_is_owed_afterwards(place: Place) -> None:
    place.resolve()

    assert place.ask(lambda store: store.owing()) == []
    assert place.ask(lambda store: store.look([("box", "a-1")])) == [Turn(1)]


@pytest.mark.parametrize("written", [pytest.param(0, id="no record"), pytest.param(1, id="the record")])
def test_what_a_process_that_died_owes_is_recorded_once(place: Place, written: int) -> None:
    place.write(*[RECORD] * written)
    if not written:
        place.write()
    chain = place.records[0]["chain"]
    place.ask(lambda store: store.end(replace(UNKNOWN, outcome="applied"), RECORD, chain))

    for _ in range(2):
        told = place.resolve(outcome="rejected")
        assert "Task t-1 has ended: applied" in told.output

    assert finals(place) == ["applied"]
    assert place.of("outcome")[0]["operator"] == "B Operator"
    assert place.filed().owed is None


def test_what_a_chain_elsewhere_owes_is_left_to_those_who_see_it(place: Place) -> None:
    place.ask(lambda store: store.end(UNKNOWN, RECORD, "elsewhere"))

    assert place.resolve().exit_code == 1

    assert place.records == []
    assert place.filed().owed == "elsewhere"


async def _raced(place: Place) -> list[list[bool]]:
    gateways = [await open_store(place.url, f"gateway-{number}", timedelta(days=30)) for number in range(2)]
    visitor = await open_store(place.url, "visitor", timedelta(days=30))

    async def person(task: str) -> bool:
        try:
            await resolver(place, visitor).resolve(replace(WISH, task=task))
        except NotResolved:
            return False
        return True

    rounds = []
    for number in range(8):
        task = replace(UNKNOWN, id=f"r-{number}")
        await gateways[0].restore(Filed(task, Phase.OPEN, "gateway-0"), [("box", task.id)])
        seen = replace(ENDED, id=task.id, updated=NOW)
        tries = [each.end(seen, {}, each.nodes.name) for each in gateways] + [person(task.id)]
        # Each gets its chance to come first.
        order = [tries[(number + n) % 3] for n in range(3)]
        won = await asyncio.gather(*order)
        rounds.append([won[(n - number) % 3] for n in range(3)])
    for store in (*gateways, visitor):
        await store.close()
    return rounds


def test_of_gateways_and_persons_at_the_same_moment_one_ends_the_write(place: Place) -> None:
    rounds = asyncio.run(_raced(place))

    assert [sum(won) for won in rounds] == [1] * 8
    by_persons = sum(won[2] for won in rounds)
    assert len(place.of("outcome")) == len(place.of("task-resolved")) == by_persons


def test_a_gateway_that_ends_it_at_the_last_moment_is_left_to_it(place: Place) -> None:
    async def person(store: Store) -> None:
        usual = resolver(place, store)

        @asynccontextmanager
        async def journal() -> AsyncIterator[Journal]:
            await store.end_on_record(replace(UNKNOWN, outcome="applied"))
            async with usual.journal() as opened:
                yield opened

        with pytest.raises(NotResolved, match="just ended it itself"):
            await replace(usual, journal=journal).resolve(WISH)

    place.ask(person)

    assert [record["event"] for record in place.records] == ["start", "stop"]


def test_a_record_that_could_not_be_written_is_kept_for_a_gateway(place: Place) -> None:
    async def person(store: Store) -> None:
        usual = resolver(place, store)

        @asynccontextmanager
        async def journal() -> AsyncIterator[Journal]:
            async with usual.journal() as opened:
                await opened.close()
                yield opened

        with pytest.raises(JournalUnavailable, match="has ended, its record waits"):
            await replace(usual, journal=journal).resolve(WISH)

    place.ask(person)

    filed = place.filed()
    assert (filed.phase, filed.owed, filed.task.outcome) == (Phase.ENDED, place.records[0]["chain"], "applied")
    assert filed.record is not None
    assert {name: filed.record[name] for name in ("event", "final", "operator", "intent")} == {
        "event": "outcome", "final": True, "operator": "A Operator", "intent": REPEATED["intent"],
    }  # fmt: skip
    place.resolve()
    assert finals(place) == ["applied"]
