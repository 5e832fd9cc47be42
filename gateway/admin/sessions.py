"""Who somebody at the admin side is: by an operator's token, or by the session that a browser got for one.

A session is kept nowhere: its cookie names the operator and its end, authenticated under a key that every worker and
node derives from the same secret, and bound to the operator's token. Without that operator it is worth nothing.
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

LIFETIME: Final = timedelta(hours=8)
LONGEST: Final = 1024
"""Characters of a cookie; ours are shorter."""
FAILED_AT_ONE: Final = 10
FAILED_IN_ALL: Final = 100
FAILED_SECONDS: Final = 60.0
"""How many log-ins may fail from one address, and in all, in so many seconds, before nobody's is looked at."""
ADDRESSES: Final = 1000

_PURPOSE: Final = b"pkb-gateway console session 1"
_WORDS: Final = "words"
"""Stands where a session has the digest of its operator's token, which is hexadecimal."""


@dataclass(frozen=True, slots=True)
class Operators:
    """Names by the SHA-256 of their token."""

    names: Mapping[str, str]

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self.names)

    def named(self, token: str) -> tuple[str, str] | None:
        """Find whose token it is: the digest and the name. Every one is compared, whichever it is."""
        digest = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
        found = None
        for known, name in self.names.items():
            if hmac.compare_digest(known, digest):
                found = (known, name)
        return found

    def digest_of(self, name: str) -> str | None:
        """Find the digest of an operator's token."""
        return next((digest for digest, known in self.names.items() if known == name), None)


@dataclass(frozen=True, slots=True)
class Sessions:
    """Makes and reads the cookies of sessions."""

    operators: Operators
    clock: Callable[[], datetime]
    _key: bytes = field(repr=False)

    @classmethod
    def of(cls, secret: bytes, operators: Operators, clock: Callable[[], datetime]) -> Self:
        """Derive the key from a secret that all nodes share (RFC 5869)."""
        return cls(operators, clock, HKDF(SHA256(), 32, None, _PURPOSE).derive(secret))

    def begin(self, token: str) -> str | None:
        """Give the cookie of a new session; None for a token that is nobody's."""
        found = self.operators.named(token)
        if found is None:
            return None
        digest, name = found
        until = int((self.clock() + LIFETIME).timestamp())
        told = json.dumps([name, until], separators=(",", ":")).encode()
        return f"{_written(told)}.{_written(self._mark(told, digest))}"

    def holder(self, cookie: str) -> str | None:
        """Name the operator of a session; None for one that has ended, was altered, or whose operator is gone."""
        if len(cookie) > LONGEST or not cookie.isascii():
            return None
        first, _, second = cookie.partition(".")
        try:
            told, mark = _read(first), _read(second)
            match json.loads(told):
                case [str(name), int(until)] if (digest := self.operators.digest_of(name)) is not None:
                    pass
                case _:
                    return None
        except (binascii.Error, ValueError, RecursionError):
            return None
        good = hmac.compare_digest(mark, self._mark(told, digest))
        return name if good and self.clock().timestamp() < until else None

    def vouch(self, words: str) -> str:
        """Mark words as this console's own, so that no link from elsewhere can put others into a page."""
        return _written(self._mark(words.encode(), _WORDS))

    def vouched(self, words: str, mark: str) -> bool:
        """Whether words bear the mark."""
        return hmac.compare_digest(self.vouch(words).encode(), mark.encode("utf-8", "replace"))

    def _mark(self, told: bytes, digest: str) -> bytes:
        return hmac.digest(self._key, told + b"|" + digest.encode(), "sha256")


@dataclass(slots=True)
class Failures:
    """Log-ins that failed of late, by address. `clock` is monotonic, in seconds."""

    clock: Callable[[], float] = time.monotonic
    _all: deque[float] = field(default_factory=deque)
    _by: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)

    def too_many(self, address: str) -> bool:
        """Whether another try has to wait."""
        own = self._by.get(address, deque())
        for each in (self._all, own):
            while each and each[0] <= self.clock() - FAILED_SECONDS:
                each.popleft()
        return len(own) >= FAILED_AT_ONE or len(self._all) >= FAILED_IN_ALL

    def add(self, address: str) -> None:
        """Count one."""
        self._all.append(self.clock())
        self._by.setdefault(address, deque(maxlen=FAILED_AT_ONE)).append(self.clock())
        self._by.move_to_end(address)
        if len(self._by) > ADDRESSES:
            self._by.popitem(last=False)


def _written(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _read(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
