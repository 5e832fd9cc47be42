"""Each guard, taken out, is missed: at least one of the vectors that are its witnesses is not refused any more."""

import pytest

from gateway.selftest.sending import send
from tests.adversarial.corpus import whole
from tests.adversarial.guards import GUARDS
from tests.adversarial.stage import GOOD, Nursery, attack, target
from tests.journeys.processes import Place

VECTORS = {vector.name: vector for vector in whole().vectors}


@pytest.mark.parametrize("name", GUARDS)
async def test_a_guard_that_is_missing_is_missed(place: Place, forks: Nursery, name: str) -> None:
    guard = GUARDS[name]
    with target(place, forks, f"without-{name.replace(' ', '-').replace('/', '-')}", name) as gateway:
        # Without this guard it serves all the same: what is missed is the guard, not the gateway.
        before = await send(GOOD, gateway.aim)
        assert [answer.status for answer in before.answers] == [200]
        wrong = {each: (await attack(gateway, VECTORS[each]))[1] for each in guard.witnesses}
    assert all(wrong.values()), wrong


def test_every_guard_has_witnesses_that_there_are() -> None:
    assert {each for guard in GUARDS.values() for each in guard.witnesses} <= set(VECTORS)
