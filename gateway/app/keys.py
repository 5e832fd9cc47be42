"""Keys that change while the gateway runs: its own, from their file, and those that others publish at a URL."""

import asyncio
import random
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import __version__
from gateway.app.background import run_beside
from gateway.configuration.reload import Identity, identity
from gateway.configuration.secret import Secret, read_again
from gateway.configuration.settings import Settings
from gateway.partner.access_tokens import Issuer
from gateway.partner.key_servers import KeyClient
from gateway.partner.keys import SigningKeyProblem, SigningKeys, read_signing_keys
from gateway.partner.remote_keys import KeyUrls, RemoteKeys, Room
from gateway.partner.signing_ring import SigningRing
from gateway.storage.journal_chain import Signer

LOOK_EVERY: Final = 0.2
"""Seconds between two looks at the file of signing keys, and at which URLs the grants in force name."""

SETTLE: Final = 0.1
"""Seconds a new content must have stood before it counts: half of a file may well be one good key of two."""

RESTLESS: Final = 20
"""Times in a row the file may change while it is read, before that is reported."""

TRY_AGAIN: Final = 5.0
"""Seconds after which a refused file is read again: what it lacked may have been a right, not a change."""

_log = structlog.get_logger("pkb_gateway")


def read_audit_key(pem: str) -> Signer:
    """Read the Ed25519 key that signs checkpoints. Raises ValueError."""
    try:
        key = read_signing_keys(pem).first
    except SigningKeyProblem as problem:
        raise ValueError(f"audit.signing_key: {problem}") from problem
    if not isinstance(key.private, Ed25519PrivateKey):
        raise ValueError("audit.signing_key: an Ed25519 key is needed")  # noqa: TRY004 - a wrong file, not a bug
    return Signer(key.kid, key.private)


@dataclass(slots=True)
class SigningKeyFile:
    """Follows the file of signing keys; a bad one leaves the last good keys in use. `count` is told every surprise."""

    secret: Secret
    ring: SigningRing
    count: Callable[[str], None]
    problem: str | None = None
    """Why the file as it is now is not in use."""
    _seen: tuple[Identity | None, ...] = ()
    """What the file was at the last reading; empty before the first."""
    _tried: float = 0.0
    _looking: asyncio.Task[None] | None = field(default=None, repr=False)
    _asked: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def look_now(self) -> None:
        """Read the file again whether it looks changed or not, and report it again if it is bad (SIGHUP)."""
        self._asked.set()

    async def run(self) -> None:
        """Follow the file until cancelled."""
        while self.secret.path is not None:
            await self.look()
            try:
                await asyncio.wait_for(self._asked.wait(), LOOK_EVERY)
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Look whether the file holds other keys; one look serves all who wait for it."""
        if self.secret.path is None:
            return
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        await asyncio.wait({self._looking})

    async def _look(self) -> None:
        try:
            asked = self._asked.is_set()
            self._asked.clear()
            clock = asyncio.get_running_loop().time
            again = asked or (self.problem is not None and clock() >= self._tried + TRY_AGAIN)
            if not again and await asyncio.to_thread(self._identity) == self._seen:
                return
            found = await self._read()
            self._tried = clock()
            self._take(found, asked=asked)
        except Exception:  # noqa: BLE001 - a task's error would be lost, and following the file must outlive it
            _log.exception("signing keys not read")
        finally:
            self._looking = None

    def _identity(self) -> tuple[Identity | None, ...]:
        return () if self.secret.path is None else (identity(self.secret.path),)

    async def _read(self) -> SigningKeys | str:
        """The keys in the file once it stands still, or why it is no use."""
        for _ in range(RESTLESS):
            self._seen = await asyncio.to_thread(self._identity)
            before = await asyncio.to_thread(self._content)
            await asyncio.sleep(SETTLE)
            if await asyncio.to_thread(self._content) != before:
                continue
            if isinstance(before, Problem):
                return before.text
            try:
                return read_signing_keys(before)
            except SigningKeyProblem as problem:
                return str(problem)
        return "the file keeps changing while it is read"

    def _content(self) -> "str | Problem":
        try:
            return read_again(self.secret)
        except ValueError as problem:
            return Problem(str(problem))

    def _take(self, found: SigningKeys | str, *, asked: bool) -> None:
        if isinstance(found, str):
            if asked or found != self.problem:
                _log.error("signing keys refused", problem=found, in_use=self.ring.first.kid)
                self.count("signing-key-refused")
            self.problem = found
            return
        self.problem = None
        if self.ring.replace(found):
            _log.info("signing keys loaded", signs=found.first.kid, verify=[key.kid for key in found.keys])


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a file could not be read."""

    text: str


@dataclass(slots=True)
class Keys:
    """All keys that change while the gateway runs. `named` gives the URLs that the grants in force name."""

    ring: SigningRing
    file: SigningKeyFile
    urls: KeyUrls
    issuers: frozenset[str]
    """The URLs of the issuers' keys, which are settings and stay."""
    named: Callable[[], Collection[str]]

    @property
    def degraded(self) -> tuple[str, ...]:
        """What asks for a look: `signing-key`, a file that is not in use; `keys`, a URL that does not give any."""
        own = ("signing-key",) if self.file.problem is not None else ()
        return (*own, "keys") if self.urls.failing else own

    def look_now(self) -> None:
        """Look at the file and at every URL at once (SIGHUP)."""
        self.file.look_now()
        self.urls.refresh_now()

    async def run(self) -> None:
        """Follow the URLs in use until cancelled."""
        seen: Collection[str] | None = None
        while True:
            named = self.named()
            # The same object until other grants are in force.
            if named is not seen:
                seen = named
                await self.urls.follow(self.issuers | frozenset(named))
            await asyncio.sleep(LOOK_EVERY)


async def open_keys(
    settings: Settings,
    named: Callable[[], Collection[str]],
    clock: Callable[[], datetime],
    count: Callable[[str], None],
    stack: AsyncExitStack,
) -> Keys:
    """Read the signing keys, and begin to follow them and every key set by URL.

    A URL that gives no keys stops nothing: tokens signed with them are refused until it does. `count` is told the name
    of every surprise. Raises SigningKeyProblem.
    """
    tokens = settings.tokens
    first = read_signing_keys(tokens.signing_key.reveal())
    client = await stack.enter_async_context(KeyClient(f"pkb-gateway/{__version__}"))

    def tell(keys: RemoteKeys) -> None:
        _tell(keys, count)

    room = Room()
    urls = KeyUrls(lambda url: RemoteKeys(url, client.fetch, tell, random.random, room=room))
    stack.push_async_callback(urls.close)

    async def look() -> None:
        await file.look()

    ring = SigningRing(first, tokens.lifetime, clock, look)
    file = SigningKeyFile(tokens.signing_key, ring, count)
    issuers = frozenset(issuer.jwks_url for issuer in tokens.issuers.values())
    keys = Keys(ring, file, urls, issuers, named)
    run_beside(keys.run(), stack)
    run_beside(file.run(), stack)
    return keys


def foreign_issuers(settings: Settings, urls: KeyUrls) -> dict[str, Issuer]:
    """Give the issuers of the settings as those who verify their tokens know them."""
    return {
        name: Issuer(urls.at(each.jwks_url), each.audience, frozenset(each.algorithms), each.partner_claim)
        for name, each in settings.tokens.issuers.items()
    }


def _tell(keys: RemoteKeys, count: Callable[[str], None]) -> None:
    known = len(keys.key_set().keys)
    if keys.problem is not None:
        # A failing server can put anything into a key set; a line of the log has its limit.
        _log.error("keys not loaded", url=keys.url, problem=keys.problem[:500], in_use=known)
        count("keys-not-loaded")
        return
    _log.info("keys loaded", url=keys.url, kids=sorted(keys.key_set().keys))
    for reason in keys.refused:
        _log.warning("key refused", url=keys.url, problem=reason)
    if keys.refused:
        count("key-refused")
