"""PKB behind bad TLS, a shut door, silence or no name: what a partner gets, and what PKB sees (nothing)."""

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import pytest
from yarl import URL

from tests.edges.raw_network import authority
from tests.journeys import hospital
from tests.journeys.hospital import booked
from tests.journeys.network_place import Door, World, bent_gateway, door
from tests.journeys.partner import Client, Reply, reason, until
from tests.journeys.processes import Place

LONG_AGO = (timedelta(days=-30), timedelta(days=-1))
LIMITS = '[limits]\ndeadline = "3s"\nnot_found_step = "0s"'


@dataclass
class Network:
    """What stands between the gateway and PKB."""

    place: Place
    door: Door
    world: World

    def trouble(self, kind: str, *, keep: bool, answers: int | None = None) -> None:
        """Let every new connection to PKB fail in this way; `keep` leaves those that are there alone.

        After so many `answers` PKB hangs up, as it may do with idle connections at any time.
        """
        self.world.say("names", kind.removeprefix("name ") if kind.startswith("name ") else "")
        self.door.set("good" if kind.startswith("name ") else kind, keep=keep, answers=answers)


@pytest.fixture(scope="module")
def network(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    ca = authority(tmp_path_factory.mktemp("authority"))
    contexts = {
        "good": ca.server("localhost"),
        "expired": ca.server("localhost", valid=LONG_AGO),
        "other name": ca.server("other.example"),
        "self-signed": ca.server("localhost", self_signed=True),
        "old TLS": ca.server("localhost", newest=ssl.TLSVersion.TLSv1_1),
    }
    behind = URL(place.told["pkb_url"]).port
    assert behind is not None
    with door(ca, behind, contexts) as opened, bent_gateway(place, "bent", LIMITS, through=opened) as (own, world, _):
        yield Network(own, opened, world)


@pytest.fixture
async def gateway(network: Network, client: Client) -> AsyncIterator[Client]:
    speaking = client.at(network.place)
    await open_again(network, speaking)
    yield speaking
    await open_again(network, speaking)


async def open_again(network: Network, gateway: Client) -> None:
    """Leave no breaker open and no row of failures to the next test, and connections to both of PKB's doors."""
    network.trouble("good", keep=True)
    for customer in ("airedale", hospital.CUSTOMER):
        await until(partial(read_any, gateway, customer), lambda status: status != 503)


async def read_any(gateway: Client, customer: str) -> int:
    known = next(each for each in gateway.place.told["appointments"] if each["customer"] == customer)
    return (await gateway.read(known["id"], customer=customer)).status


READS: Final = 2
"""What a cancel of a box reads before it writes: the appointment and its patient."""

TROUBLES = [
    *("refused", "reset", "silent", "expired", "other name", "self-signed", "old TLS"),
    *("name gone", "name hang"),
]


@pytest.mark.parametrize("kind", TROUBLES)
async def test_a_read_without_a_connection_is_unavailable(kind: str, network: Network, gateway: Client) -> None:
    id_ = await gateway.fresh()
    network.trouble(kind, keep=False)
    reply = await gateway.read(id_)
    assert (reply.status, reply.code) == (503, "upstream-unavailable")
    assert int(reply.headers["Retry-After"]) > 0
    assert reply.seconds < 7
    (record,) = await gateway.audit_of(reply.request_id)
    assert (record["event"], record["code"]) == ("refused", reply.code)
    network.trouble("good", keep=True)
    assert (await gateway.read(id_)).status == 200


@pytest.mark.parametrize("kind", TROUBLES)
async def test_a_write_to_a_box_without_a_connection_is_not_attempted(
    kind: str, network: Network, gateway: Client
) -> None:
    id_ = await gateway.fresh()
    assert (await gateway.read(id_)).status == 200
    network.trouble(kind, keep=True, answers=READS)
    reply = await gateway.cancel(id_)
    network.trouble("good", keep=True)
    await not_attempted(gateway, reply)
    assert await gateway.writes(id_) == []
    assert (await gateway.cancel(id_)).status == 200
    assert [each["applied"] for each in await gateway.writes(id_)] == [True]


async def test_a_write_to_a_box_needs_no_new_connection_right_after_its_reads(
    network: Network, gateway: Client
) -> None:
    id_ = await gateway.fresh()
    assert (await gateway.read(id_)).status == 200
    network.trouble("refused", keep=True)
    assert (await gateway.cancel(id_)).status == 200
    assert [each["applied"] for each in await gateway.writes(id_)] == [True]


@pytest.mark.parametrize("kind", TROUBLES)
async def test_a_message_without_a_connection_is_not_attempted(kind: str, network: Network, gateway: Client) -> None:
    booking = await booked(gateway)
    assert (await gateway.read(booking.id, customer=hospital.CUSTOMER)).status == 200
    network.trouble(kind, keep=True)
    reply = await gateway.cancel(booking.id, *booking.who, reason(), customer=hospital.CUSTOMER)
    network.trouble("good", keep=True)
    await not_attempted(gateway, reply)
    assert await hospital.messages(gateway, booking.placer) == []
    again = await gateway.cancel(booking.id, *booking.who, reason(), customer=hospital.CUSTOMER)
    assert again.status in {200, 202}
    assert len(await hospital.messages(gateway, booking.placer)) == 1


async def test_a_process_that_was_stopped_until_a_write_was_late_does_not_send_it(
    network: Network, gateway: Client
) -> None:
    id_ = await gateway.fresh()
    assert (await gateway.read(id_)).status == 200
    network.trouble("paused", keep=True, answers=READS)
    writing = asyncio.create_task(gateway.cancel(id_))
    assert await asyncio.to_thread(network.door.paused.wait, 10)
    os.kill(network.place.pid, signal.SIGSTOP)
    network.door.resumed.set()
    await asyncio.sleep(3.2)
    os.kill(network.place.pid, signal.SIGCONT)
    reply = await writing
    network.trouble("good", keep=True)
    await not_attempted(gateway, reply)
    assert await gateway.writes(id_) == []
    assert (await gateway.cancel(id_)).status == 200


async def not_attempted(gateway: Client, reply: Reply) -> None:
    """A 503 that says when to come again, and on record one intent with one final end: rejected, so not applied."""
    assert (reply.status, reply.code) == (503, "upstream-unavailable")
    assert int(reply.headers["Retry-After"]) > 0
    assert reply.seconds < 7
    assert "Content-Location" not in reply.headers
    intent, outcome = await gateway.audit_of(reply.request_id, count=2)
    assert (intent["event"], outcome["event"]) == ("intent", "outcome")
    assert (outcome["outcome"], outcome["final"], outcome["code"]) == ("rejected", True, "upstream-unavailable")
