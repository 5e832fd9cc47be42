"""Behind a proxy of ours the audit says who called, and nobody else can make it say so."""

import json

import pytest

from gateway.selftest.sending import send
from gateway.selftest.vectors import Vector
from tests.adversarial.stage import Nursery, target
from tests.journeys.processes import Place


def from_behind(*headers: str) -> Vector:
    return Vector(name="", family="", expect=("401",), headers=headers, token="Bearer nobody")


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        pytest.param(
            ("X-Forwarded-For: 198.51.100.1, 203.0.113.9",), "203.0.113.9", id="the last hop that is not ours"
        ),
        pytest.param(("Forwarded: for=203.0.113.9",), "203.0.113.9", id="Forwarded"),
        pytest.param(
            ("Forwarded: for=198.51.100.1", "X-Forwarded-For: 203.0.113.9"), "127.0.0.1", id="both, and differ"
        ),
        pytest.param(("X-Real-IP: 203.0.113.9",), "127.0.0.1", id="another header"),
    ],
)
async def test_the_audit_names_the_caller_behind_a_proxy_of_ours(
    place: Place, forks: Nursery, headers: tuple[str, ...], client: str
) -> None:
    name = f"behind-{abs(hash(headers))}"
    with target(place, forks, name, listen='trusted_proxies = ["127.0.0.1"]') as gateway:
        heard = await send(from_behind(*headers), gateway.aim)
        assert [answer.status for answer in heard.answers] == [401]
        found = [json.loads(line) for line in await gateway.settled()]
    assert [each["client"] for each in found if each["event"] == "authentication-refused"] == [client]
