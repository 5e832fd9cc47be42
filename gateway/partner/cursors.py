"""Where a search goes on, as an opaque text: only this gateway can make one, read one, or tell two apart.

AES-256-GCM under a key that every node derives from the same secret, so that a page may come from another node.
"""

import base64
import binascii
import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.domain.appointment import Status
from gateway.domain.grant import Coding
from gateway.domain.search import Query
from gateway.flow.search import Place

LIFETIME: Final = timedelta(minutes=10)
LONGEST: Final = 4096
"""Characters; ours are shorter."""

_PURPOSE: Final = b"pkb-gateway search cursor 1"
"""Another form of what is inside needs another purpose: a node of another version then refuses it."""
_NONCE: Final = 12
_BLOCK: Final = 64
"""What is inside is filled up to a multiple of this, so that the length does not tell how far PKB's list was read."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Whose cursor it is: nobody else's, at no other customer, and under no other grants."""

    partner: str
    customer: str
    digest: str

    def as_bytes(self) -> bytes:
        """Tell it apart from every other."""
        return json.dumps([self.partner, self.customer, self.digest]).encode()


@dataclass(frozen=True, slots=True)
class Cursor:
    """A search, and the place in PKB's list where its next page begins."""

    query: Query
    place: Place


@dataclass(frozen=True, slots=True)
class Cursors:
    """Makes and reads cursors."""

    _cipher: AESGCM = field(repr=False)

    @classmethod
    def of(cls, secret: bytes) -> Self:
        """Derive the key from a secret that all nodes share (RFC 5869)."""
        return cls(AESGCM(HKDF(SHA256(), 32, None, _PURPOSE).derive(secret)))

    def seal(self, cursor: Cursor, bound: Bound, now: datetime) -> str:
        """Make the text of a cursor that is good for ten minutes."""
        plain = json.dumps(_told(cursor, now + LIFETIME), separators=(",", ":")).encode()
        nonce = secrets.token_bytes(_NONCE)
        sealed = self._cipher.encrypt(nonce, plain + b" " * (-len(plain) % _BLOCK), bound.as_bytes())
        return _written(nonce + sealed)

    def open(self, text: str, bound: Bound, now: datetime) -> Cursor | None:
        """Read a cursor; None for one that was altered, is another's, or is older than ten minutes."""
        if len(text) > LONGEST or not text.isascii():
            return None
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
            if _written(sealed) != text:
                # One cursor has one spelling.
                return None
            plain = self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], bound.as_bytes())
        except (binascii.Error, InvalidTag, ValueError):
            return None
        # Only this gateway can have written what is inside.
        return _read(json.loads(plain), now)


def _written(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def _told(cursor: Cursor, until: datetime) -> list[object]:
    query = cursor.query
    return [
        until.timestamp(),
        cursor.place.page,
        cursor.place.offset,
        query.count,
        _pair(query.patient),
        _pair(query.identifier),
        query.since and query.since.astimezone(UTC).isoformat(),
        query.before and query.before.astimezone(UTC).isoformat(),
        sorted(query.statuses),
    ]


def _read(told: list[object], now: datetime) -> Cursor | None:
    match told:
        case [float(until), int(page), int(offset), int(count), patient, identifier, since, before, list(statuses)]:
            if now.timestamp() >= until:
                return None
            query = Query(
                _coding(patient),
                _coding(identifier),
                _moment(since),
                _moment(before),
                frozenset(Status(status) for status in statuses),
                count,
            )
            return Cursor(query, Place(page, offset))
    raise AssertionError("a cursor of this gateway has another form")


def _pair(coding: Coding | None) -> list[str] | None:
    return None if coding is None else [coding.system, coding.code]


def _coding(pair: object) -> Coding | None:
    match pair:
        case [str(system), str(code)]:
            return Coding(system, code)
    return None


def _moment(text: object) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None
