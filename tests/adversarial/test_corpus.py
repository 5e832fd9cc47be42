"""Every vector against a real gateway process, with either parser of aiohttp's."""

import asyncio

import pytest

from gateway.selftest.judging import complaints
from gateway.selftest.sending import send
from gateway.selftest.vectors import Vector
from tests.adversarial.corpus import whole
from tests.adversarial.stage import Target, attack

QUICK = [vector for vector in whole().vectors if not vector.slow]
SLOW = [vector for vector in whole().vectors if vector.slow]


@pytest.mark.parametrize("vector", QUICK, ids=lambda vector: vector.name)
async def test_an_attack_is_answered_as_it_must_be_and_leaves_no_more_than_its_record(
    gateway: Target, vector: Vector
) -> None:
    _, wrong = await attack(gateway, vector)
    assert wrong == []


async def test_who_takes_his_time_is_cut_off(gateway: Target) -> None:
    before = len(gateway.relay.heard)
    every = await asyncio.gather(*(send(vector, gateway.aim) for vector in SLOW))
    wrong = {vector.name: complaints(vector, heard) for vector, heard in zip(SLOW, every, strict=True)}
    assert wrong == {vector.name: [] for vector in SLOW}
    assert len(gateway.relay.heard) == before
