"""What PKB does not have takes as long to be told as what it has and hides."""

import asyncio
import time
from collections.abc import Callable

import pytest

from gateway.pkb.resources import Absences, Recent
from tests.edges.pkb_bench import GET, box
from tests.edges.raw_upstream import reply

READ = 0.08


def absences(clock: Callable[[], float] | None = None) -> Absences:
    clock = clock or asyncio.get_running_loop().time
    return Absences(clock, Recent[bool](clock, 30.0, 10))


async def lingered(at: Absences, id_: str = "a1", *, fresh: bool, deadline: float = 1e9) -> float:
    begun = time.monotonic()
    await at.linger(id_, at.clock() - READ, deadline, fresh=fresh)
    return time.monotonic() - begun


@pytest.mark.parametrize("fresh", [True, False], ids=["for a write", "for a read"])
async def test_an_absence_takes_as_long_again_as_its_own_read(*, fresh: bool) -> None:
    assert await lingered(absences(), fresh=fresh) + 0.01 >= READ


async def test_a_read_of_a_known_absence_waits_as_little_as_one_with_a_known_patient() -> None:
    now = [100.0]
    at = absences(lambda: now[0])
    await lingered(at, fresh=False)
    assert await lingered(at, fresh=False) < READ / 2
    assert await lingered(at, "a2", fresh=False) + 0.01 >= READ
    now[0] += 31
    assert await lingered(at, fresh=False) + 0.01 >= READ


async def test_a_write_waits_each_time_because_it_reads_the_patient_each_time() -> None:
    at = absences()
    await lingered(at, fresh=True)
    assert await lingered(at, fresh=True) + 0.01 >= READ


async def test_no_absence_waits_beyond_the_deadline() -> None:
    at = absences()
    assert await lingered(at, fresh=True, deadline=at.clock() + 0.01) < READ / 2
    assert await lingered(at, fresh=True, deadline=at.clock() - 1) < READ / 2


async def test_a_box_lets_an_absent_appointment_take_two_reads() -> None:
    async with box() as bench:
        bench.upstream.on(GET, reply(404, wait=READ))
        begun = time.monotonic()
        assert await bench.read() is None
        assert time.monotonic() - begun + 0.01 >= 2 * READ
