"""Tokens of other issuers, and partners whose keys are at a URL, against the real gateway."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.edges.key_server import KeyServer
from tests.journeys.issuing import (
    assertion_of,
    authenticated,
    by_url,
    client_of,
    copied,
    in_background,
    issued,
    issuer_settings,
    public,
)
from tests.journeys.partner import Client, until
from tests.journeys.processes import Place, free_port, gateway_process
from tests.journeys.test_tokens_journey import post


@dataclass
class Servers:
    """Two issuers that call their key alike, one that is away at first, and the key server of a partner."""

    one: KeyServer
    two: KeyServer
    away: KeyServer
    partner: KeyServer


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    every = Servers(*(KeyServer() for _ in range(4)))
    every.one.give(public(1, "k"))
    every.two.give(public(2, "k"))
    every.partner.give(public(4, "p1"), {"kty": "oct", "kid": "weak", "k": "c2VjcmV0"})
    every.away.port = free_port()
    with in_background(every.one, every.two, every.partner):
        yield every


@pytest.fixture(scope="module")
def gateway(place: Place, servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    own = copied(
        place,
        tmp_path_factory.mktemp("issuers"),
        {
            "swiftbook": f"{client_of(servers.one, 'client')}, {client_of(servers.away, 'client')}",
            "viewonly": client_of(servers.two, "client"),
            "newcomer": by_url(servers.partner),
            "suspended": client_of(servers.one, "suspended"),
        },
    )
    settings = "\n".join(issuer_settings(each) for each in (servers.one, servers.two, servers.away))
    with gateway_process(own, "issuers", settings) as running:
        yield running


@pytest.fixture
async def there(gateway: Place) -> AsyncIterator[Client]:
    async with Client(gateway) as speaking:
        yield speaking
        await speaking.clear()


async def test_a_token_of_an_issuer_is_as_good_as_our_own(there: Client, servers: Servers) -> None:
    id_ = await there.fresh()
    reply = await there.read(id_, token=issued(servers.one, 1, "k"))
    assert reply.status == 200
    assert (await there.cancel(id_, token=issued(servers.one, 1, "k"))).status == 200
    (record,) = await there.audit_of(reply.request_id, "read")
    assert (record["partner"], record["token"]["iss"], record["token"]["kid"]) == (
        "swiftbook",
        f"http://127.0.0.1:{servers.one.port}/realm",
        "k",
    )


async def test_two_issuers_with_one_kid_and_one_client_id_are_kept_apart(there: Client, servers: Servers) -> None:
    id_ = await there.fresh()
    for server, number, partner in ((servers.one, 1, "swiftbook"), (servers.two, 2, "viewonly")):
        reply = await there.read(id_, token=issued(server, number, "k"))
        assert reply.status == 200
        assert [each["partner"] for each in await there.audit_of(reply.request_id)] == [partner]
    for server, number in ((servers.one, 2), (servers.two, 1)):
        assert (await there.read(id_, token=issued(server, number, "k"))).code == "token-invalid"


async def test_an_issuer_may_put_another_key_under_the_same_name(there: Client, servers: Servers) -> None:
    id_ = await there.fresh()
    try:
        assert (await there.read(id_, token=issued(servers.two, 2, "k"))).status == 200
        servers.two.give(public(8, "k"))
        assert (await there.read(id_, token=issued(servers.two, 8, "k"))).status == 200
        assert (await there.read(id_, token=issued(servers.two, 2, "k"))).code == "token-invalid"
    finally:
        servers.two.give(public(2, "k"))
    assert (await there.read(id_, token=issued(servers.two, 2, "k"))).status == 200


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "for somebody else": ({"aud": "https://elsewhere.example"}, "token-invalid"),
    "for nobody": ({"aud": None}, "token-invalid"),
    "a client that is no partner": ({"azp": "nobody"}, "token-invalid"),
    "the partner's id instead of its client id": ({"azp": "swiftbook"}, "token-invalid"),
    "no client": ({"azp": None}, "token-invalid"),
    "no end": ({"exp": None}, "token-invalid"),
    "ended": ({"iat": int(time.time()) - 400, "exp": int(time.time()) - 100}, "token-expired"),
    "too long": ({"exp": int(time.time()) + 7200}, "token-invalid"),
    "from the future": ({"nbf": int(time.time()) + 600}, "token-invalid"),
    "no scope of ours": ({"scope": "openid system/*.rus"}, "scope-insufficient"),
    "an issuer that is none": ({"iss": "http://127.0.0.1:1/realm"}, "token-invalid"),
    "suspended": ({"azp": "suspended"}, "partner-suspended"),
}


@pytest.mark.parametrize("fault", REFUSED)
async def test_a_token_of_an_issuer_with_anything_wrong_is_refused(fault: str, there: Client, servers: Servers) -> None:
    changes, code = REFUSED[fault]
    assert (await there.read("x", token=issued(servers.one, 1, "k", **changes))).code == code


async def test_our_own_tokens_stay_good_beside_and_an_issuer_cannot_make_any(there: Client, servers: Servers) -> None:
    id_ = await there.fresh()
    assert (await there.read(id_)).status == 200
    forged = issued(servers.one, 1, "k", iss=there.place.gateway_url, sub="swiftbook", aud=there.place.gateway_url)
    assert (await there.read(id_, token=forged)).code == "token-invalid"


async def test_a_partner_known_by_an_issuer_only_gets_no_token_here(there: Client) -> None:
    got = await post(there, assertion_of(there.place.gateway_url, "swiftbook", 1, "k"))
    assert (got.status, got.body["error"]) == (401, "invalid_client")


async def test_a_partner_whose_keys_are_at_a_url_gets_tokens_and_changes_its_key_by_itself(
    there: Client, servers: Servers
) -> None:
    assert (await post(there, assertion_of(there.place.gateway_url, "newcomer", 4, "p1"))).status == 200
    servers.partner.give(public(4, "p1"), public(5, "p2"))
    assert (await post(there, assertion_of(there.place.gateway_url, "newcomer", 5, "p2"))).status == 200
    assert (await post(there, assertion_of(there.place.gateway_url, "newcomer", 4, "p1"))).status == 200
    servers.partner.give(public(5, "p2"))
    os.kill(there.place.pid, signal.SIGHUP)

    async def old() -> int:
        return (await post(there, assertion_of(there.place.gateway_url, "newcomer", 4, "p1"))).status

    assert await until(old, lambda status: status == 401) == 401
    assert (await post(there, assertion_of(there.place.gateway_url, "newcomer", 5, "p2"))).status == 200


async def test_strangers_do_not_make_the_gateway_hammer_an_issuer(there: Client, servers: Servers) -> None:
    asked, begun = len(servers.one.asked), time.monotonic()
    id_ = await there.fresh()
    strangers = [there.read("x", token=issued(servers.one, 9, f"stranger-{number}")) for number in range(120)]
    good = [there.read(id_, token=issued(servers.one, 1, "k")) for _ in range(20)]
    replies = await asyncio.gather(*strangers, *good)
    assert {each.code for each in replies[:120]} == {"token-invalid"}
    assert {each.status for each in replies[120:]} == {200}
    took = time.monotonic() - begun
    assert len(servers.one.asked) - asked <= 2 + took / 2


async def test_an_issuer_that_is_away_at_the_start_stops_nothing_and_may_come_later(
    there: Client, servers: Servers
) -> None:
    async def readiness() -> Any:
        async with there.session.get(f"{there.place.admin_url}/health/ready") as response:
            return response.status, (await response.json())["degraded"]

    id_ = await there.fresh()
    token = issued(servers.away, 6, "late")
    assert (await there.read(id_, token=token)).code == "token-invalid"
    assert await until(readiness, lambda told: "keys" in told[1]) == (200, ["keys"])
    servers.away.give(public(6, "late"))
    with in_background(servers.away):
        assert (await there.read(id_, token=token)).status == 200
        assert await until(readiness, lambda told: told[1] == []) == (200, [])
    # It is away again: what is known of it stays good.
    os.kill(there.place.pid, signal.SIGHUP)
    await until(readiness, lambda told: "keys" in told[1])
    assert (await there.read(id_, token=token)).status == 200


async def test_what_is_taken_from_a_partner_counts_at_once_though_its_token_was_found_good(
    there: Client, servers: Servers
) -> None:
    id_ = await there.fresh()
    token = issued(servers.one, 1, "k")
    assert (await there.read(id_, token=token)).status == 200
    text = there.place.grants.read_text(encoding="utf-8")
    before, after = text.split("[partners.swiftbook]\n")
    try:
        await there.regrant(f"{before}[partners.swiftbook]\n{after.replace('active', 'suspended', 1)}")
        assert (await there.read(id_, token=token)).code == "partner-suspended"
        await there.regrant(text.replace('client_id = "client"', 'client_id = "renamed"'))
        assert (await there.read(id_, token=token)).code == "token-invalid"
    finally:
        await there.regrant(text)
    assert (await there.read(id_, token=token)).status == 200


async def test_a_url_that_a_changed_grants_file_names_is_followed(there: Client, servers: Servers) -> None:
    text = there.place.grants.read_text(encoding="utf-8")
    try:
        await there.regrant(authenticated(text, "cardiolink", by_url(servers.partner)))
        assert (await post(there, assertion_of(there.place.gateway_url, "cardiolink", 5, "p2"))).status == 200
    finally:
        await there.regrant(text)
    assert (await post(there, assertion_of(there.place.gateway_url, "cardiolink", 5, "p2"))).status == 401


def test_the_log_tells_of_a_weak_key_and_never_of_a_token(gateway: Place) -> None:
    log = Path(gateway.told["config_file"]).parent / "issuers.log"
    text = log.read_text(encoding="utf-8")
    assert '"key refused"' in text
    assert "shared secret" in text
    assert "eyJ" not in text
