"""The gateway's own keys while they change: a key that no longer signs verifies until its last token has ended."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from gateway.partner.keys import KeySet, KeySource, SigningKey, SigningKeys, VerifyingKey

SPREAD: Final = timedelta(seconds=60)
"""How much later than here another process may have noticed the same change, and signed with the old key until then."""


@dataclass(frozen=True, slots=True)
class Retired:
    """A key that has signed, and until when a token of it may be under way."""

    key: SigningKey
    until: datetime


class SigningRing:
    """Keys that can be replaced. `lifetime` is that of the tokens they sign.

    `look` looks at once whether other keys are there, for tokens that another process signed with a newer one.
    """

    def __init__(
        self,
        keys: SigningKeys,
        lifetime: timedelta,
        clock: Callable[[], datetime],
        look: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._keys = keys
        self._lifetime, self._clock, self._look = lifetime, clock, look
        self._retired: dict[str, Retired] = {}
        self._set = keys.key_set()

    @property
    def first(self) -> SigningKey:
        """The key that signs."""
        return self._keys.first

    def source(self) -> KeySource:
        """What verifies the gateway's tokens, now and after every change."""
        return self

    def replace(self, keys: SigningKeys) -> bool:
        """Take other keys; whether they are others. A key that signed until now verifies on, though it be gone."""
        if keys == self._keys:
            return False
        now, signed = self._clock(), self._keys.first
        self._retired = {kid: each for kid, each in self._retired.items() if each.until > now}
        if keys.first.kid != signed.kid:
            self._retired[signed.kid] = Retired(signed, now + self._lifetime + SPREAD)
        self._keys = keys
        self._set = self._joined()
        return True

    def key_set(self) -> KeySet:
        """What verifies tokens at this moment."""
        if self._retired:
            self._let_go()
        return self._set

    async def seek(self, kid: str, deadline: float, known: VerifyingKey | None = None) -> bool:
        """Whether another process signs with a key that is there, but was not noticed here yet."""
        del deadline
        # Our kids are thumbprints: another key has another one.
        if self._look is not None and known is None:
            await self._look()
        return self.key_set().has(kid, known)

    def public_jwks(self) -> dict[str, list[dict[str, str]]]:
        """The document at `/.well-known/jwks.json` (RFC 7517 §5): all keys that verify, the one that signs first."""
        self.key_set()
        return SigningKeys((*self._keys.keys, *self._leavers())).public_jwks()

    def _let_go(self) -> None:
        """Forget the keys whose last token has ended."""
        now = self._clock()
        if any(each.until <= now for each in self._retired.values()):
            self._retired = {kid: each for kid, each in self._retired.items() if each.until > now}
            self._set = self._joined()

    def _leavers(self) -> tuple[SigningKey, ...]:
        here = {key.kid for key in self._keys.keys}
        return tuple(each.key for kid, each in self._retired.items() if kid not in here)

    def _joined(self) -> KeySet:
        keys = {key.kid: key.verifying for key in (*self._keys.keys, *self._leavers())}
        return KeySet(MappingProxyType(keys))
