"""A guard that breaks lets nobody through: whatever raises at whichever step, nothing is sent and nothing is told."""

import pytest

from gateway.selftest.sending import send
from gateway.selftest.vectors import Vector
from tests.adversarial.guards import FAILING
from tests.adversarial.stage import Nursery, target
from tests.journeys.processes import Place

CHANGE = Vector(
    name="a good change",
    family="",
    expect=("200",),
    method="POST",
    target="@{path}/$change",
    headers=("Content-Type: application/fhir+json",),
    body='{"resourceType":"Parameters","parameter":[{"name":"comment","valueString":"@{jti}"}]}',
)


@pytest.mark.parametrize("step", FAILING)
async def test_a_guard_that_breaks_lets_nobody_through(place: Place, forks: Nursery, step: str) -> None:
    with target(place, forks, f"breaks-{step.replace(' ', '-')}", f"breaks: {step}") as gateway:
        heard = await send(CHANGE, gateway.aim)
        assert [(answer.status, answer.code) for answer in heard.answers] == [(500, "internal")]
        assert b"PUT" not in gateway.relay.heard
        assert b"made to break" not in heard.raw
        assert [answer.status for answer in (await send(PING, gateway.aim)).answers] == [200]


PING = Vector(name="ping", family="", expect=("200",), target="/_ping", token="")
