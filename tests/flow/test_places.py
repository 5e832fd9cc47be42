"""A turn among processes: whoever holds an appointment elsewhere is waited for, and never decided past."""

import asyncio
from typing import Any

from gateway.domain.codes import Code
from gateway.flow.request import Refused, Shown
from tests.flow.fakes import Bench, spin
from tests.makers import DAY, NOW, appointment, move


async def test_a_write_of_another_node_is_waited_for(bench: Bench) -> None:
    other = bench.beside()
    bench.hospital.hold = asyncio.Event()
    first = asyncio.create_task(bench.run(command=move(NOW + 40 * DAY)))
    await spin()
    second = asyncio.create_task(other.run(command=move(NOW + 41 * DAY), task="t-2"))
    await asyncio.sleep(0.06)
    assert len(bench.hospital.sent) == 1

    bench.hospital.hold.set()

    assert isinstance(await first, Shown)
    assert isinstance(await second, Shown)
    assert bench.hospital.most_under_way == 1
    assert bench.hospital.reads == ["a-1", "a-1"]


async def test_one_that_takes_too_long_leaves_the_appointment_busy(bench: Bench) -> None:
    other = bench.beside()
    other.writes.places.patience = 0.01
    bench.hospital.hold = asyncio.Event()
    first = asyncio.create_task(bench.run())
    await spin()

    assert await other.run(task="t-2") == Refused(Code.APPOINTMENT_BUSY)

    bench.hospital.hold.set()
    await first


async def test_one_in_doubt_elsewhere_keeps_it_busy_and_names_its_task(bench: Bench) -> None:
    bench.doubt(applies=False)
    await bench.run()
    other = bench.beside()

    assert await other.run(task="t-2") == Refused(Code.APPOINTMENT_BUSY, task="t-1")
    await bench.open_writes.close()


async def overtaken(bench: Bench, other: Bench, times: int) -> None:
    """Let another node write between this one's reading and its taking the appointment."""
    original = bench.shelf.hold

    async def late(task: Any, turns: Any, chain: str) -> bool:
        nonlocal times
        if times:
            times -= 1
            await other.run(command=move(NOW + (50 + times) * DAY), task=f"t-other-{times}")
        return await original(task, turns, chain)

    bench.shelf.hold = late  # type: ignore[method-assign] # the same fake, a moment later


async def test_what_was_read_before_another_nodes_write_is_read_again(bench: Bench) -> None:
    other = bench.beside()
    await overtaken(bench, other, 1)

    answer = await bench.run(command=move(NOW + 40 * DAY))

    assert isinstance(answer, Shown)
    assert bench.hospital.reads == ["a-1", "a-1", "a-1"]
    assert answer.sighting.appointment.version == "9"


async def test_one_that_is_overtaken_until_its_patience_ends_is_busy(bench: Bench) -> None:
    other = bench.beside()
    bench.writes.places.patience = 0.0
    await overtaken(bench, other, 1)

    assert await bench.run(command=move(NOW + 40 * DAY)) == Refused(Code.APPOINTMENT_BUSY)

    assert len(bench.hospital.sent) == 1
    assert bench.shelf.held == set()


async def test_revoked_between_the_decisions_nothing_is_intended(bench: Bench) -> None:
    original = bench.shelf.hold

    async def revoking(task: Any, turns: Any, chain: str) -> bool:
        held = await original(task, turns, chain)
        bench.policy = bench.policy.with_blocks(frozenset({("swiftbook", None)}))
        return held

    bench.shelf.hold = revoking  # type: ignore[method-assign] # the same fake, at the worst moment

    assert await bench.run() == Refused(Code.PARTNER_SUSPENDED)

    assert bench.paper.events == ["refused"]
    assert bench.shelf.held == set()
    assert bench.shelf.phase() is None


async def test_what_is_dropped_late_is_dropped(bench: Bench) -> None:
    bench.paper.full_for = frozenset({"intent"})
    bench.shelf.deaf_to = {"drop"}
    running = asyncio.create_task(bench.run())
    await spin()
    assert bench.shelf.held == {"t-1"}
    assert len(bench.arrears) == 1
    await bench.later(seconds=1)
    bench.shelf.deaf_to = set()
    await bench.later(seconds=1)

    assert bench.shelf.held == set()
    assert (await asyncio.gather(running, return_exceptions=True))[0] is not None
    assert len(bench.arrears) == 0


async def test_a_store_that_breaks_is_told_again_and_heard_of(bench: Bench) -> None:
    told: list[int] = []

    async def telling() -> None:
        told.append(1)
        if len(told) == 1:
            raise ZeroDivisionError

    await bench.arrears.tell(telling)
    await bench.later(seconds=1)

    assert len(told) == 2
    assert [type(fault) for fault in bench.faults] == [ZeroDivisionError]


async def test_no_more_wait_than_there_is_room_for(bench: Bench) -> None:
    told: list[int] = []
    bench.arrears.room = 3
    bench.shelf.down = True

    def telling(number: int) -> Any:
        async def tell() -> None:
            await bench.shelf.free_key("t-9")
            told.append(number)

        return tell

    for number in range(5):
        await bench.arrears.tell(telling(number))
    await bench.later(seconds=1)
    assert (len(bench.arrears), bench.shelf.calls.count("free_key")) == (3, 6)
    bench.shelf.down = False
    await bench.later(seconds=1)

    assert sorted(told) == [2, 3, 4]


async def test_closing_gives_up_what_the_store_was_to_be_told(bench: Bench) -> None:
    bench.shelf.down = True
    await bench.arrears.tell(lambda: bench.shelf.drop("t-1"))
    await bench.arrears.close()
    bench.shelf.down = False
    await bench.later(seconds=5)

    assert bench.shelf.calls.count("drop") == 1


async def test_an_appointment_that_is_gone_when_read_again_is_not_found(bench: Bench) -> None:
    other = bench.beside()
    bench.hospital.copies["a-1"] = appointment()
    await overtaken(bench, other, 1)
    original = bench.hospital.read

    async def vanishing(*args: Any, **named: Any) -> Any:
        if len(bench.hospital.reads) == 2:
            bench.hospital.copies.clear()
        return await original(*args, **named)

    bench.hospital.read = vanishing  # type: ignore[method-assign] # the same fake, losing one

    assert await bench.run(command=move(NOW + 40 * DAY)) == Refused(Code.NOT_FOUND)
