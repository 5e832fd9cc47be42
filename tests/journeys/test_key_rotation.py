"""Keys change at the issuer, the partner and in the gateway while requests keep coming: no good one is refused."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway.partner.keys import read_signing_keys
from tests.edges.key_server import KeyServer
from tests.edges.tokens import pem, private_key
from tests.journeys.issuing import (
    PUBLIC_URL,
    assertion_of,
    by_url,
    client_of,
    copied,
    in_background,
    issued,
    issuer_settings,
    node,
    public,
)
from tests.journeys.partner import Client, replace_file, until
from tests.journeys.processes import Place
from tests.journeys.test_tokens_journey import post

RATE = 50
SECONDS = 10.0
FIRST = pem(private_key("P-256", 30))


@dataclass
class Signers:
    """Who signs with which key just now: (number of the key, its kid)."""

    issuer: tuple[int, str] = (20, "i1")
    partner: tuple[int, str] = (25, "p1")


@dataclass
class Load:
    """A steady stream of good requests, and what became of each kind."""

    nodes: tuple[Client, Client]
    issuer: KeyServer
    appointment: str
    signers: Signers = field(default_factory=Signers)
    seen: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    slowest: float = 0.0
    tokens: list[str] = field(default_factory=list)
    """Tokens of the gateway, the newest last; each is used again and again until its end."""

    async def run(self) -> None:
        """Send `RATE` requests a second for `SECONDS`, whatever becomes of the ones before."""
        kinds: list[Callable[[int], Coroutine[Any, Any, None]]] = [
            self.with_issuer,
            self.with_newest,
            self.with_any,
            self.ask,
        ]
        begun = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for number in range(int(RATE * SECONDS)):
                await asyncio.sleep(max(0.0, begun + number / RATE - time.monotonic()))
                tasks.create_task(kinds[number % len(kinds)](number // len(kinds)))

    def issuer_signs(self, number: int, kid: str, beside: tuple[int, str]) -> None:
        self.issuer.give(public(*beside), public(number, kid))
        self.signers.issuer = (number, kid)

    def partner_signs(self, server: KeyServer, number: int, kid: str, beside: tuple[int, str]) -> None:
        server.give(public(*beside), public(number, kid))
        self.signers.partner = (number, kid)

    async def read(self, kind: str, number: int, token: str) -> None:
        reply = await self.nodes[number % 2].read(self.appointment, token=token)
        self.note(kind, reply.status, reply.code, reply.seconds)

    def note(self, kind: str, status: int, code: str, seconds: float) -> None:
        self.seen[kind, status, code] += 1
        self.slowest = max(self.slowest, seconds)

    async def with_issuer(self, number: int) -> None:
        await self.read("issuer", number, issued(self.issuer, *self.signers.issuer))

    async def with_newest(self, number: int) -> None:
        await self.read("newest", number, self.tokens[-1])

    async def with_any(self, number: int) -> None:
        await self.read("any", number, self.tokens[number % len(self.tokens)])

    async def ask(self, number: int) -> None:
        """Get a token at one node and use it at once at the other."""
        here = self.nodes[number % 2]
        begun = time.monotonic()
        got = await post(here, assertion_of(PUBLIC_URL, "swiftbook", *self.signers.partner))
        self.note("token", got.status, got.body.get("error", ""), time.monotonic() - begun)
        if got.status == 200:
            self.tokens.append(got.body["access_token"])
            await self.read("elsewhere", number + 1, got.body["access_token"])


@dataclass
class World:
    issuer: KeyServer
    partner: KeyServer
    nodes: tuple[Place, Place]

    @property
    def key_file(self) -> Path:
        """Both nodes read the same one."""
        return self.nodes[0].directory / "keys" / "tokens.pem"


@pytest.fixture(scope="module")
def world(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    issuer, partner = KeyServer(), KeyServer()
    issuer.give(public(20, "i1"))
    partner.give(public(25, "p1"))
    with in_background(issuer, partner):
        folder = tmp_path_factory.mktemp("rotation")
        own = copied(place, folder, {"swiftbook": f"{by_url(partner)}, {client_of(issuer, 'client')}"})
        (folder / "keys" / "tokens.pem").write_text(FIRST)
        settings = issuer_settings(issuer)
        with node(own, "one", settings) as one, node(own, "two", settings) as two:
            yield World(issuer, partner, (one, two))


@pytest.fixture
async def load(client: Client, world: World) -> Load:
    one, two = (client.at(each) for each in world.nodes)
    # An appointment that PKB holds only for this.
    return Load((one, two), world.issuer, await client.fresh())


def kids_in(text: str) -> list[str]:
    return [key.kid for key in read_signing_keys(text).keys]


async def published(node: Client) -> list[str]:
    return [key["kid"] for key in (await node.ask("GET", "/.well-known/jwks.json", token="")).body["keys"]]


async def readiness(node: Client) -> Any:
    async with node.session.get(f"{node.place.admin_url}/health/ready") as response:
        return response.status, (await response.json())["degraded"]


async def rotate(load: Load, world: World) -> None:
    """Everything that may happen to keys in ten seconds, at the issuer, the partner and the gateway."""
    second, third = (pem(private_key("P-256", number)) for number in (31, 32))
    steps: list[Callable[[], None]] = [
        # The issuer and the partner sign with a new key the moment they publish it.
        lambda: load.issuer_signs(21, "i2", beside=(20, "i1")),
        lambda: load.partner_signs(world.partner, 26, "p2", beside=(25, "p1")),
        # The gateway's key is replaced by another without any overlap in the file.
        lambda: replace_file(world.key_file, second),
        # A broken file, and a good one of two keys.
        lambda: replace_file(world.key_file, second[: len(second) // 2]),
        lambda: replace_file(world.key_file, third + second),
        # The issuer's server fails; when it is back the keys change again and the old ones go.
        lambda: setattr(world.issuer, "status", 503),
        lambda: setattr(world.issuer, "status", 200),
        lambda: load.issuer_signs(22, "i3", beside=(21, "i2")),
        lambda: world.issuer.give(public(22, "i3")),
        lambda: world.partner.give(public(26, "p2")),
        lambda: replace_file(world.key_file, third),
    ]
    for step in steps:
        await asyncio.sleep(SECONDS / (len(steps) + 1))
        step()


async def test_no_good_request_is_refused_while_every_key_changes(load: Load, world: World) -> None:
    await load.ask(0)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.run())
        tasks.create_task(rotate(load, world))
    assert {(status, code) for _, status, code in load.seen} == {(200, "")}
    assert sum(load.seen.values()) >= RATE * SECONDS
    kids = {jwt.get_unverified_header(token)["kid"] for token in load.tokens}
    assert kids == {kids_in(pem(private_key("P-256", number)))[0] for number in (30, 31, 32)}
    # Whoever waited for a key waited for one look, not for the pace of looks.
    assert load.slowest < 5.0


async def test_what_is_published_follows_the_file_and_a_bad_file_is_told(client: Client, world: World) -> None:
    one = client.at(world.nodes[0])
    new, next_ = (pem(private_key("P-256", number)) for number in (33, 34))
    replace_file(world.key_file, new + next_)
    before = kids_in(new + next_)
    await until(lambda: published(one), lambda kids: kids[:2] == before)
    # The key that signed until now is published until its last token has ended.
    assert len(await published(one)) > 2
    for bad in ("", "no key\n", new + new):
        replace_file(world.key_file, bad)
        assert await until(lambda: readiness(one), lambda told: told[1] != []) == (200, ["signing-key"])
        assert (await published(one))[:2] == before
        replace_file(world.key_file, new + next_)
        await until(lambda: readiness(one), lambda told: told[1] == [])
    log = (world.nodes[0].directory / "one.log").read_text(encoding="utf-8")
    assert log.count('"signing keys refused"') >= 3
    assert "PRIVATE" not in log
