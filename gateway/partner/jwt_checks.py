"""Strict reading of a signed token, before anything in it is believed.

PyJWT tolerates padding, repeated members, any `typ` and a missing or textual `exp`; none of them gets past here.
"""

import base64
import hashlib
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
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
class Said:
    """What a token says, by its bytes alone: compared with no clock, no key and no policy, and not to be believed."""

    header: strict_json.Object
    claims: strict_json.Object
    algorithm: str | None
    """The `alg` the sender claims to have used."""
    kid: str | None
    """The name of the key the sender claims to have used."""
    kind: str | None
    """`typ` in its one spelling (RFC 7515 §4.1.9: case-insensitive, `application/` may be left out)."""
    issuer: str
    issued: int | None
    expires: int | None
    begins: float
    """The later of `iat` and `nbf`, of those that are there; infinity where one of them is no time."""
    jti: str | None
    """The token's own name, if it is fit for the audit."""
    scope: str
    extended: bool
    """Whether the header asks for more than a plain signature."""


@dataclass(frozen=True, slots=True)
class Unproven:
    """A well-formed token whose signature nobody has looked at yet."""

    said: Said
    text: str = field(repr=False)
    digest: bytes
    """SHA-256 of the whole text."""

    @property
    def signing_input(self) -> bytes:
        """What the signature is over (RFC 7515 §5.2)."""
        return self.text.rpartition(".")[0].encode("ascii")

    @property
    def signature(self) -> bytes:
        """The signature; a token with one that is not base64url was not read."""
        return base64url(self.text.rpartition(".")[2]) or b""


def read(token: str, known: Mapping[bytes, Said] = MappingProxyType({})) -> Unproven | Fault:
    """A JWS in compact form (RFC 7515 §7.1): size, three parts, canonical base64url, strict JSON objects.

    `known` holds what was read already, by the SHA-256 of the whole text: the same bytes say the same again.
    """
    if len(token) > TOKEN_LENGTH:
        return Fault.TOO_LARGE
    digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
    said = known.get(digest) or _read(token)
    return said if isinstance(said, Fault) else Unproven(said, token, digest)


def _read(token: str) -> Said | Fault:
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
    begins = [whole_seconds(claims_value[name]) for name in ("iat", "nbf") if name in claims_value]
    return Said(
        header=header_value,
        claims=claims_value,
        algorithm=text(header_value.get("alg")),
        kid=text(header_value.get("kid")),
        kind=_kind(header_value),
        issuer=text(claims_value.get("iss")) or "",
        issued=whole_seconds(claims_value.get("iat")),
        expires=whole_seconds(claims_value.get("exp")),
        begins=max((math.inf if moment is None else moment for moment in begins), default=-math.inf),
        jti=short_text(claims_value.get("jti")),
        scope=text(claims_value.get("scope")) or "",
        extended=_is_extended(header_value),
    )


def _kind(header: strict_json.Object) -> str | None:
    typ = text(header.get("typ"))
    return typ.lower().removeprefix("application/") if typ is not None and typ.isascii() else None


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


def algorithm_is_allowed(said: Said, *allowed: Collection[str]) -> bool:
    """Whether `alg`, exactly as spelt, is on every list of the receiver's own (RFC 8725 §3.1)."""
    for names in allowed:
        if said.algorithm not in names:
            return False
    return said.algorithm is not None


def type_is(said: Said, allowed: Collection[str]) -> bool:
    """Whether `typ` is one of `allowed`."""
    return said.kind is not None and said.kind in allowed


def has_extensions(said: Said) -> bool:
    """Whether the header asks for more than a plain signature."""
    return said.extended


def _is_extended(header: strict_json.Object) -> bool:
    """Look for `crit`, `b64`, compression, a token in a token."""
    if not header.keys().isdisjoint(("crit", "b64", "zip", "enc")):
        return True
    cty = header.get("cty")
    return cty is not None and (not isinstance(cty, str) or cty.lower().removeprefix("application/") == "jwt")


def expiry_fault(said: Said) -> Fault | None:
    """`exp` must be there and be a time; whether it has come is asked last, see `is_expired`."""
    return Fault.EXPIRY if said.expires is None else None


def is_expired(said: Said, now: datetime) -> bool:
    """`exp` at or before `now`; no leeway."""
    return said.expires is None or said.expires <= now.timestamp()


def future_fault(said: Said, now: datetime) -> Fault | None:
    """`nbf` and `iat`, where present, are times at most `AHEAD` seconds in the future."""
    return Fault.FROM_THE_FUTURE if said.begins > now.timestamp() + AHEAD else None
