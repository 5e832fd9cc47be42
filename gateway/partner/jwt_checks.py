"""Strict reading of a signed token, before anything in it is believed.

PyJWT tolerates padding, repeated members, any `typ` and a missing or textual `exp`; none of them gets past here.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from gateway.domain import strict_json

TOKEN_LENGTH: Final = 8 * 1024
"""Characters; checked before anything is split or decoded, so that ten thousand dots cost nothing."""

AHEAD: Final = 60
"""Seconds a signer's clock may run ahead of ours."""

ID_LENGTH: Final = 128
JSON_DEPTH: Final = 32

_CANONICAL: Final = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)


class Fault(StrEnum):
    """What was wrong with a token. For the audit only: whoever sent it is never told."""

    TOO_LARGE = "token-too-large"
    NOT_THREE_PARTS = "token-not-three-parts"
    NOT_BASE64URL = "token-not-base64url"
    NOT_JSON = "token-not-json"
    ALGORITHM = "token-algorithm"
    TYPE = "token-type"
    EXTENSION = "token-extension"
    ISSUER = "token-issuer"
    KEY = "token-key"
    SIGNATURE = "token-signature"
    SUBJECT = "token-subject"
    AUDIENCE = "token-audience"
    EXPIRY = "token-expiry"
    EXPIRED = "token-expired"
    FROM_THE_FUTURE = "token-from-the-future"
    LIFETIME = "token-lifetime"
    CLAIMS = "token-claims"
    PARTNER = "token-partner"
    REPLAYED = "token-replayed"


@dataclass(frozen=True, slots=True)
class Unproven:
    """A well-formed token whose signature nobody has looked at yet."""

    header: strict_json.Object
    claims: strict_json.Object
    signing_input: bytes
    signature: bytes
    digest: bytes
    """SHA-256 of the whole text."""

    @property
    def algorithm(self) -> str | None:
        """The `alg` the sender claims to have used."""
        return text(self.header.get("alg"))

    @property
    def kid(self) -> str | None:
        """The name of the key the sender claims to have used."""
        return text(self.header.get("kid"))


def read(token: str) -> Unproven | Fault:
    """A JWS in compact form (RFC 7515 §7.1): size, three parts, canonical base64url, strict JSON objects."""
    if len(token) > TOKEN_LENGTH:
        return Fault.TOO_LARGE
    parts = token.split(".")
    if len(parts) != 3:
        return Fault.NOT_THREE_PARTS
    header, claims, signature = (base64url(part) for part in parts)
    if header is None or claims is None or signature is None:
        return Fault.NOT_BASE64URL
    try:
        header_value = strict_json.read(header, depth=JSON_DEPTH)
        claims_value = strict_json.read(claims, depth=JSON_DEPTH)
    except strict_json.MalformedJson:
        return Fault.NOT_JSON
    if not isinstance(header_value, dict) or not isinstance(claims_value, dict):
        return Fault.NOT_JSON
    return Unproven(
        header_value,
        claims_value,
        f"{parts[0]}.{parts[1]}".encode("ascii"),
        signature,
        hashlib.sha256(token.encode("ascii")).digest(),
    )


def base64url(part: str) -> bytes | None:
    """The bytes, or None unless `part` is their one canonical spelling: no padding, no stray trailing bits."""
    if not _CANONICAL.fullmatch(part) or len(part) % 4 == 1:
        return None
    data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    return data if unpadded(data) == part else None


def unpadded(data: bytes) -> str:
    """Base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def text(value: strict_json.Value) -> str | None:
    """A string, or None."""
    return value if isinstance(value, str) else None


def short_text(value: strict_json.Value, longest: int = ID_LENGTH) -> str | None:
    """A printable string of 1 to `longest` characters: fit for the audit and the state file, or None."""
    return value if isinstance(value, str) and 0 < len(value) <= longest and value.isprintable() else None


def whole_seconds(value: strict_json.Value) -> int | None:
    """A NumericDate (RFC 7519 §2) written as an integer, or None. Strings, floats and exponents are none."""
    return value.integer() if isinstance(value, strict_json.Number) else None


def algorithm_is_allowed(token: Unproven, allowed: Collection[str]) -> bool:
    """Whether `alg`, exactly as spelt, is on the receiver's own list (RFC 8725 §3.1)."""
    return token.algorithm is not None and token.algorithm in allowed


def type_is(token: Unproven, allowed: Collection[str]) -> bool:
    """Whether `typ` is one of `allowed` (RFC 7515 §4.1.9: case-insensitive, `application/` may be left out)."""
    typ = text(token.header.get("typ"))
    return typ is not None and typ.isascii() and typ.lower().removeprefix("application/") in allowed


def has_extensions(token: Unproven) -> bool:
    """Whether the header asks for more than a plain signature: `crit`, `b64`, compression, a token in a token."""
    header = token.header
    if any(name in header for name in ("crit", "b64", "zip", "enc")):
        return True
    cty = header.get("cty")
    return cty is not None and (not isinstance(cty, str) or cty.lower().removeprefix("application/") == "jwt")


def expiry_fault(token: Unproven) -> Fault | None:
    """`exp` must be there and be a time; whether it has come is asked last, see `is_expired`."""
    return Fault.EXPIRY if whole_seconds(token.claims.get("exp")) is None else None


def is_expired(token: Unproven, now: datetime) -> bool:
    """`exp` at or before `now`; no leeway."""
    expires = whole_seconds(token.claims.get("exp"))
    return expires is None or expires <= now.timestamp()


def future_fault(token: Unproven, now: datetime) -> Fault | None:
    """`nbf` and `iat`, where present, are times at most `AHEAD` seconds in the future."""
    latest = now.timestamp() + AHEAD
    for name in ("nbf", "iat"):
        if name in token.claims:
            moment = whole_seconds(token.claims[name])
            if moment is None or moment > latest:
                return Fault.FROM_THE_FUTURE
    return None


def first_fault(*checks: Callable[[], Fault | None]) -> Fault | None:
    """The first fault in order; later checks do not run."""
    for check in checks:
        fault = check()
        if fault is not None:
            return fault
    return None
