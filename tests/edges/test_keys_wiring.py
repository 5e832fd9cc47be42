"""Keys as the gateway follows them together: from its settings, the grants in force, and servers that come and go."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.app.keys import Keys, foreign_issuers, open_keys
from gateway.configuration.settings import Settings
from gateway.configuration.settings_file import load_settings
from gateway.partner.keys import SigningKeyProblem
from tests.edges.key_server import KeyServer
from tests.edges.settings_files import ENVIRON, GOOD, settings_file
from tests.edges.tokens import jwk, pem, private_key


@dataclass
class Force:
    """The URLs in the grants in force; replaced, never changed, as grants are."""

    named: frozenset[str]


@dataclass
class Wired:
    keys: Keys
    settings: Settings
    force: Force
    counted: list[str]

    def kids(self, server: KeyServer) -> set[str]:
        return set(self.keys.urls.at(server.url).key_set().keys)


@asynccontextmanager
async def wired(folder: Path, issuer: KeyServer, *named: str) -> AsyncIterator[Wired]:
    path = settings_file(folder, GOOD.replace("https://iam.example/certs", issuer.url))
    (folder / "tokens.pem").write_text(pem(private_key()))
    settings = load_settings(path, environ=ENVIRON)
    force, counted = Force(frozenset(named)), list[str]()
    async with AsyncExitStack() as stack:
        keys = await open_keys(settings, lambda: force.named, lambda: datetime.now(UTC), counted.append, stack)
        yield Wired(keys, settings, force, counted)


async def eventually(good: Callable[[], bool]) -> None:
    async with asyncio.timeout(3):
        while True:
            if good():
                return
            await asyncio.sleep(0.01)


async def test_the_keys_of_issuers_and_of_the_partners_in_force_are_followed(tmp_path: Path) -> None:
    async with KeyServer() as issuer, KeyServer() as partner, KeyServer() as later:
        for server in (issuer, partner, later):
            server.give(jwk(private_key(), kid=str(server.port)))
        async with wired(tmp_path, issuer, partner.url) as running:
            await eventually(lambda: len(issuer.asked) == len(partner.asked) == 1)
            running.force.named = frozenset({later.url})
            await eventually(lambda: len(later.asked) == 1)
            running.keys.look_now()
            await eventually(lambda: len(issuer.asked) == len(later.asked) == 2)
            assert len(partner.asked) == 1
            assert running.kids(later) == {str(later.port)}
            assert running.keys.degraded == ()


async def test_an_issuer_has_the_audience_algorithms_and_claim_of_the_settings(tmp_path: Path) -> None:
    async with KeyServer() as server, wired(tmp_path, server) as running:
        (issuer,) = foreign_issuers(running.settings, running.keys.urls).values()
        assert (issuer.audience, issuer.algorithms, issuer.partner_claim) == ("gateway", frozenset({"RS256"}), "azp")
        assert issuer.keys is running.keys.urls.at(server.url)
        assert not issuer.ours


async def test_it_is_told_which_keys_are_not_there_and_which_are_refused(tmp_path: Path) -> None:
    async with KeyServer(status=503) as server:
        with capture_logs() as logs:
            async with wired(tmp_path, server) as running:
                await eventually(lambda: running.keys.degraded == ("keys",))
                server.status = 200
                server.give(jwk(private_key(), kid="good"), {"kty": "oct", "kid": "weak", "k": "c2VjcmV0"})
                running.keys.look_now()
                await eventually(lambda: running.keys.degraded == ())
                (tmp_path / "tokens.pem").write_text("hunter2")
                await eventually(lambda: running.keys.degraded == ("signing-key",))
                counted = running.counted
        events = [(each["event"], each["log_level"]) for each in logs]
        assert events == [
            ("keys not loaded", "error"),
            ("keys loaded", "info"),
            ("key refused", "warning"),
            ("signing keys refused", "error"),
        ]
        assert counted == ["keys-not-loaded", "key-refused", "signing-key-refused"]
        assert "c2VjcmV0" not in str(logs)
        assert "hunter2" not in str(logs)


async def test_without_a_good_signing_key_nothing_is_opened(tmp_path: Path) -> None:
    settings = load_settings(settings_file(tmp_path), environ=ENVIRON)
    async with AsyncExitStack() as stack:
        with pytest.raises(SigningKeyProblem):
            await open_keys(settings, set, lambda: datetime.now(UTC), list[str]().append, stack)
