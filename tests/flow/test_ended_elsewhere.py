"""A person may end an open write in another process: of all who could record its end exactly one does."""

from dataclasses import replace

from gateway.domain.codes import Code
from gateway.domain.outcome import TaskStatus
from gateway.flow.open_writes import WATCH_PAUSE
from gateway.flow.request import Refused, Shown
from tests.flow.fakes import ROUTE, Bench, done
from tests.makers import appointment, cancel

KEY = (ROUTE, "a-1")
BUG = ZeroDivisionError("a bug")


async def in_doubt(bench: Bench, task: str = "t-1", appointment_id: str = "a-1") -> None:
    bench.doubt(applies=False)
    answer = await bench.run(task=task, appointment=appointment_id)
    assert answer == Refused(Code.OUTCOME_UNKNOWN, task=task)


def resolve(bench: Bench, task: str = "t-1") -> None:
    """End a Task as a person does in another process."""
    bench.drawer.claims[task] = "person"
    kept = next(each for each in reversed(bench.drawer.kept) if each.id == task)
    bench.drawer.elsewhere.append(replace(kept, status=TaskStatus.REJECTED, outcome="rejected"))


async def test_an_open_task_keeps_what_the_record_of_its_end_repeats(bench: Bench) -> None:
    await in_doubt(bench)

    repeated = bench.drawer.kept[-1].repeated

    first = bench.paper.of("outcome")[0]
    assert repeated == {
        name: first[name] for name in ("request_id", "correlation_id", "grant", "grants_digest", "intent", "upstream")
    }


async def test_what_a_person_ended_is_let_go_and_not_recorded_again(bench: Bench) -> None:
    await in_doubt(bench)
    resolve(bench)

    await bench.later(seconds=WATCH_PAUSE)

    assert not bench.open_writes.hold((KEY,))
    assert bench.paper.outcomes == [("unknown", False, False)]
    assert bench.drawer.kept[-1].status is TaskStatus.REJECTED
    bench.hospital.answer, bench.hospital.applies = None, True
    assert isinstance(await bench.run(task="t-2"), Shown)


async def test_nobody_follows_what_a_person_ended(bench: Bench) -> None:
    await in_doubt(bench)
    resolve(bench)
    await bench.later(seconds=1)
    reads = len(bench.hospital.reads)

    await bench.later(hours=48)

    assert len(bench.hospital.reads) == reads
    assert bench.open_writes._running == set()
    assert bench.paper.outcomes == [("unknown", False, False)]


async def test_a_write_that_a_person_is_ending_stays_open_until_that_is_done(bench: Bench) -> None:
    await in_doubt(bench)
    bench.drawer.claims["t-1"] = "person"
    bench.hospital.copies["a-1"] = done(cancel(), appointment())

    await bench.later(hours=1)
    await bench.later(hours=1)

    assert bench.open_writes.hold((KEY,))
    assert bench.paper.outcomes == [("unknown", False, False)]
    resolve(bench)
    await bench.later(seconds=WATCH_PAUSE)
    assert not bench.open_writes.hold((KEY,))


async def test_the_others_stay_open(bench: Bench) -> None:
    bench.hospital.copies["a-2"] = appointment(id="a-2")
    await in_doubt(bench)
    await in_doubt(bench, "t-2", "a-2")
    resolve(bench)

    await bench.later(seconds=WATCH_PAUSE)

    assert not bench.open_writes.hold((KEY,))
    assert bench.open_writes.hold(((ROUTE, "a-2"),))
    resolve(bench, "t-2")
    await bench.later(seconds=WATCH_PAUSE)
    assert len(bench.open_writes) == 0


async def test_a_state_file_that_is_down_ends_nothing(bench: Bench) -> None:
    await in_doubt(bench)
    bench.hospital.copies["a-1"] = done(cancel(), appointment())
    bench.drawer.down = True

    await bench.later(hours=48)
    await bench.later(hours=48)

    assert bench.open_writes.hold((KEY,))
    assert bench.paper.outcomes == [("unknown", False, False)]
    assert bench.faults == []
    bench.drawer.down = False
    await bench.later(hours=1)
    assert bench.paper.outcomes[1:] == [("applied", True, True)]


async def test_a_state_file_that_breaks_ends_nothing_and_is_reported(bench: Bench) -> None:
    await in_doubt(bench)
    bench.hospital.copies["a-1"] = done(cancel(), appointment())
    bench.drawer.torn = BUG

    await bench.later(hours=1)

    assert bench.open_writes.hold((KEY,))
    assert bench.paper.outcomes == [("unknown", False, False)]
    assert bench.faults == [BUG, BUG]


async def test_one_that_ends_while_the_watch_looks_is_let_go_once(bench: Bench) -> None:
    await in_doubt(bench)
    looked = bench.drawer.ended

    async def overtaken(_: object) -> object:
        found = await looked(("t-1",))
        bench.open_writes._open.clear()
        return found

    resolve(bench)
    bench.drawer.ended = overtaken  # type: ignore[method-assign, assignment] # the same fake, too late
    kept = len(bench.drawer.kept)

    await bench.later(seconds=WATCH_PAUSE)

    assert len(bench.drawer.kept) == kept
