"""Every stage of a request is told once, with its time; one that fails is told too."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import pytest

from gateway.domain.outcome import TaskStatus
from gateway.flow.ports import JournalUnavailable
from gateway.flow.watching import Stage
from tests.flow.fakes import SILENCE, Bench, spin
from tests.makers import NOW, SECOND, appointment


@dataclass
class Clockings:
    """Hears of stages."""

    told: list[tuple[Stage, float]] = field(default_factory=list)

    def __call__(self, stage: Stage, seconds: float) -> None:
        self.told.append((stage, seconds))

    @property
    def stages(self) -> list[Stage]:
        return [stage for stage, _ in self.told]


@pytest.fixture
def stages(bench: Bench) -> Clockings:
    heard = Clockings()
    bench.writes.stages = heard
    return heard


async def test_a_write_goes_through_every_stage_once(bench: Bench, stages: Clockings) -> None:
    await bench.run()

    assert stages.stages == [Stage.READ, Stage.DECIDE, Stage.INTENT, Stage.WRITE, Stage.OUTCOME]
    assert all(seconds >= 0 for _, seconds in stages.told)


async def test_the_time_of_a_stage_is_that_which_it_took(bench: Bench, stages: Clockings) -> None:
    bench.hospital.hold = asyncio.Event()
    running = asyncio.create_task(bench.run())
    await spin()
    await asyncio.sleep(0.05)
    bench.hospital.hold.set()
    await running

    took = dict(stages.told)
    assert took[Stage.WRITE] >= 0.04
    assert took[Stage.DECIDE] < 0.04


async def test_a_refused_write_is_read_and_decided(bench: Bench, stages: Clockings) -> None:
    bench.hospital.copies["a-1"] = appointment(start=NOW - SECOND)

    await bench.run()

    assert stages.stages == [Stage.READ, Stage.DECIDE]


async def test_a_read_that_fails_is_a_stage_all_the_same(bench: Bench, stages: Clockings) -> None:
    bench.hospital.down = SILENCE

    await bench.run()

    assert stages.stages == [Stage.READ]


async def test_an_intent_that_could_not_be_recorded_is_a_stage_all_the_same(bench: Bench, stages: Clockings) -> None:
    bench.paper.full = True

    with pytest.raises(JournalUnavailable):
        await bench.run()

    assert stages.stages == [Stage.READ, Stage.DECIDE, Stage.INTENT]


async def test_a_write_in_doubt_is_read_back(bench: Bench, stages: Clockings) -> None:
    bench.doubt(applies=True)

    await bench.run()

    assert Counter(stages.stages)[Stage.READ] == 2


async def test_a_write_being_sent_and_one_in_doubt_are_told_with_their_age(bench: Bench) -> None:
    bench.hospital.hold = asyncio.Event()
    bench.doubt(applies=False)
    running = asyncio.create_task(bench.run())
    await spin()
    assert list(bench.writes.sending) == ["t-1"]
    assert list(bench.open_writes.ages()) == []

    bench.hospital.hold.set()
    await running
    bench.clock.passes(5 * SECOND)

    assert bench.writes.sending == {}
    assert list(bench.open_writes.ages()) == [(TaskStatus.IN_PROGRESS, 5.0)]
