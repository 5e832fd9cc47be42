"""An idempotency key: of the same requests one is carried out, and all of them get its answer."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.domain.codes import Code
from gateway.domain.grant import Operation
from gateway.flow.orders import Once
from gateway.flow.ports import Acknowledged, JournalUnavailable, NotSent, Turned
from gateway.flow.request import Answer, Refused, Replayed, Shown, Taken, Unshown
from tests.flow.fakes import SILENCE, Bench, done, sighted, spin
from tests.makers import NOW, appointment, cancel, grant, move, policy

ONCE = Once("key-1", "print-1")
OTHERS = policy(grant(partner="viewonly"))
OTHER = Once("key-1", "print-2")


async def again(bench: Bench, **changes: Any) -> Answer:
    return await bench.run(**{"task": "t-2", "once": ONCE, **changes})


async def test_the_second_gets_the_answer_of_the_first_and_nothing_is_sent(bench: Bench) -> None:
    first = await bench.run(once=ONCE)

    second = await again(bench)

    assert isinstance(first, Shown)
    assert second == Replayed(Shown(sighted(bench.hospital.copies["a-1"]), task="t-1"))
    assert len(bench.hospital.sent) == 1
    (record,) = bench.paper.of("replayed")
    assert (record["task"], record["outcome"], record["decision"]) == ("t-1", "applied", "permit")
    assert record["patient"].startswith("k1:")


async def test_what_it_shows_is_read_afresh(bench: Bench) -> None:
    await bench.run(once=ONCE)
    bench.hospital.copies["a-1"] = replace(bench.hospital.copies["a-1"], version="99")

    second = await again(bench)

    assert isinstance(second, Replayed)
    assert isinstance(second.answer, Shown)
    assert second.answer.sighting.appointment.version == "99"


@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(lambda bench: bench.hospital.copies.clear(), id="PKB has it no more"),
        pytest.param(
            lambda bench: bench.hospital.copies.update({"a-1": appointment(labels=frozenset({"SEXUAL_HEALTH"}))}),
            id="it was relabelled",
        ),
        pytest.param(
            lambda bench: setattr(bench, "policy", policy(grant(partner="viewonly"))), id="the grant was revoked"
        ),
        pytest.param(lambda bench: setattr(bench.hospital, "down", SILENCE), id="PKB is silent"),
    ],
)
async def test_what_may_not_be_read_now_is_not_shown(bench: Bench, happens: Any) -> None:
    await bench.run(once=ONCE)
    happens(bench)

    assert await again(bench) == Replayed(Unshown("t-1"))
    assert bench.paper.events[-1] == "replayed"


async def test_another_request_with_the_key_is_refused(bench: Bench) -> None:
    await bench.run(once=ONCE)

    assert await again(bench, once=OTHER) == Refused(Code.IDEMPOTENCY_KEY_REUSED)
    assert bench.paper.of("refused")[-1]["code"] == "idempotency-key-reused"
    assert len(bench.hospital.sent) == 1


async def test_a_key_is_its_partners_own(bench: Bench) -> None:
    bench.policy = policy(grant(), grant(id="other", partner="cardiolink"))
    await bench.run(once=ONCE)

    second = await again(bench, partner="cardiolink")

    assert second == Refused(Code.ALREADY_CANCELLED)


async def test_of_many_at_once_one_is_carried_out(bench: Bench) -> None:
    bench.hospital.hold = asyncio.Event()
    first = asyncio.create_task(bench.run(once=ONCE))
    await spin()

    others = await asyncio.gather(*(again(bench, task=f"t-{n}") for n in range(2, 10)))

    assert set(map(repr, others)) == {repr(Refused(Code.REQUEST_IN_PROGRESS))}
    bench.hospital.hold.set()
    assert isinstance(await first, Shown)
    assert len(bench.hospital.sent) == 1


async def test_one_that_still_waits_for_its_turn_runs_too(bench: Bench) -> None:
    bench.hospital.hold = asyncio.Event()
    before = asyncio.create_task(bench.run(task="t-0"))
    await spin()
    first = asyncio.create_task(bench.run(once=ONCE))
    await spin()

    assert await again(bench) == Refused(Code.REQUEST_IN_PROGRESS)

    bench.hospital.hold.set()
    await asyncio.gather(before, first)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(Turned(Code.VERSION_CONFLICT, 412), Refused(Code.VERSION_CONFLICT), id="PKB had another version"),
        pytest.param(Turned(Code.UPSTREAM_REFUSED, 403), Refused(Code.UPSTREAM_REFUSED), id="PKB said no"),
    ],
)
async def test_a_rejection_is_told_again(bench: Bench, answer: Any, told: Refused) -> None:
    bench.hospital.answer, bench.hospital.applies = answer, False
    assert await bench.run(once=ONCE) == told
    bench.hospital.answer, bench.hospital.applies = None, True

    assert await again(bench) == Replayed(told)
    assert len(bench.hospital.sent) == 1


async def test_what_was_not_attempted_may_be_tried_again(bench: Bench) -> None:
    bench.hospital.answer, bench.hospital.applies = NotSent("no connection"), False
    assert await bench.run(once=ONCE) == Refused(Code.UPSTREAM_UNAVAILABLE)
    bench.hospital.answer, bench.hospital.applies = None, True

    assert isinstance(await again(bench), Shown)
    assert bench.paper.outcomes == [("rejected", True, False), ("applied", True, False)]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"expected_version": "6"}, id="another version"),
        pytest.param({"appointment": "a-9"}, id="no such appointment"),
    ],
)
async def test_a_refusal_before_the_intent_frees_the_key(bench: Bench, changes: dict[str, Any]) -> None:
    assert isinstance(await bench.run(once=OTHER, **changes), Refused)
    assert bench.shelf.cupboard.keys == {}

    assert isinstance(await again(bench), Shown)


async def test_an_intent_that_could_not_be_recorded_frees_key_and_appointment(bench: Bench) -> None:
    bench.paper.full_for = frozenset({"intent"})
    with pytest.raises(JournalUnavailable):
        await bench.run(once=ONCE)
    bench.paper.full_for = frozenset()

    assert (bench.shelf.held, bench.shelf.cupboard.keys) == (set(), {})
    assert isinstance(await again(bench), Shown)


async def test_a_key_that_could_not_be_freed_is_freed_later(bench: Bench) -> None:
    bench.shelf.deaf_to = {"free_key"}
    await bench.run(once=ONCE, expected_version="6")
    assert await again(bench) == Refused(Code.REQUEST_IN_PROGRESS)

    bench.shelf.deaf_to = set()
    await bench.later(seconds=1)

    assert isinstance(await again(bench), Shown)


async def test_unknown_is_found_out_first(bench: Bench) -> None:
    bench.doubt(applies=False)
    assert await bench.run(once=ONCE) == Refused(Code.OUTCOME_UNKNOWN, task="t-1")
    bench.hospital.copies["a-1"] = done(cancel(), appointment())

    second = await again(bench)

    assert isinstance(second, Replayed)
    assert isinstance(second.answer, Shown)
    assert bench.paper.outcomes == [("unknown", False, False), ("applied", True, True)]
    assert bench.shelf.phase() == "ended"
    await bench.later(hours=48)
    assert len(bench.paper.outcomes) == 2


async def test_what_stays_unknown_is_told_as_that(bench: Bench) -> None:
    bench.doubt(applies=False)
    await bench.run(once=ONCE)

    assert await again(bench) == Replayed(Refused(Code.OUTCOME_UNKNOWN, task="t-1"))


async def test_unknown_that_was_not_applied_is_told_as_rejected(bench: Bench) -> None:
    bench.doubt(applies=False)
    await bench.run(once=ONCE)
    bench.clock.passes(timedelta(seconds=31))

    assert await again(bench) == Replayed(Refused(Code.UPSTREAM_REFUSED))
    assert bench.paper.outcomes[-1] == ("rejected", True, True)


async def test_unknown_that_ends_elsewhere_meanwhile_is_told_as_it_ended(bench: Bench) -> None:
    bench.doubt(applies=False)
    await bench.run(once=ONCE)
    other = bench.beside()
    bench.hospital.copies["a-1"] = done(cancel(), appointment())
    filed = bench.shelf.cupboard.filed["t-1"]

    both = await asyncio.gather(again(bench), again(other, task="t-3"), other.open_writes.find_out(filed.task, 1e9))

    assert [type(each) for each in both[:2]] == [Replayed, Replayed]
    finals = [final for paper in (bench.paper, other.paper) for _, final, _ in paper.outcomes if final]
    assert finals == [True]


async def test_accepted_and_final_is_told_again(bench: Bench) -> None:
    bench.hospital.answer, bench.hospital.applies = Acknowledged("AA", "m-1"), False
    assert await bench.run(once=ONCE, command=move(NOW + timedelta(days=40))) == Taken("t-1")

    assert await again(bench) == Replayed(Taken("t-1"))


async def test_a_store_that_is_silent_carries_out_nothing(bench: Bench) -> None:
    bench.shelf.down = True

    assert await bench.run(once=ONCE) == Refused(Code.STATE_UNAVAILABLE)
    assert bench.hospital.reads == []
    assert bench.paper.of("refused")[0]["code"] == "state-unavailable"


@pytest.mark.parametrize("silent", ["look", "hold"])
async def test_a_store_that_falls_silent_leaves_nothing_behind(bench: Bench, silent: str) -> None:
    bench.shelf.deaf_to = {silent}

    assert await bench.run(once=ONCE) == Refused(Code.STATE_UNAVAILABLE)

    assert bench.hospital.sent == []
    assert (bench.shelf.held, bench.shelf.cupboard.keys) == (set(), {})


async def test_an_answer_that_the_store_kept_to_itself_sends_nothing_and_is_owed(bench: Bench) -> None:
    bench.shelf.deaf_to = {"send", "end"}

    assert await bench.run(once=ONCE) == Refused(Code.STATE_UNAVAILABLE)

    assert (bench.hospital.sent, bench.open_writes.owed) == ([], 1)
    assert bench.paper.events == ["intent"]
    await bench.later(seconds=1)
    bench.shelf.deaf_to = set()
    await bench.later(seconds=1)
    assert bench.paper.outcomes == [("rejected", True, True)]
    assert bench.open_writes.owed == 0
    assert isinstance(await again(bench), Shown)


async def test_a_read_only_grant_of_now_does_not_replay_a_cancel_of_before(bench: Bench) -> None:
    """The gate refuses it first; here only what is shown is at stake."""
    await bench.run(once=ONCE)
    bench.policy = policy(grant(operations=frozenset({Operation.READ})))

    second = await again(bench)

    assert isinstance(second, Replayed)
    assert isinstance(second.answer, Shown)
