"""Client assertions: a partner proves who it is with its own key (RFC 7523, SMART `private_key_jwt`)."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from gateway.partner.jwt_checks import (
    Fault,
    Said,
    Unproven,
    algorithm_is_allowed,
    expiry_fault,
    future_fault,
    has_extensions,
    is_expired,
    read,
    short_text,
    type_is,
)
from gateway.partner.keys import ALGORITHMS, KID_LENGTH, KeySource, VerifyingKey

LIFETIME: Final = 300
"""Seconds; SMART lets an assertion expire at most five minutes in the future."""

_TYPES: Final = ("jwt", "client-authentication+jwt")


@dataclass(frozen=True, slots=True)
class Registered:
    """A partner of the grants file, with the keys its assertions are checked against."""

    partner: str
    suspended: bool
    keys: KeySource


class SeenAssertions(Protocol):
    """Remembers what was used, for every process of the gateway."""

    async def remember_jti(self, issuer: str, jti: str, expires: int, now: datetime) -> bool:
        """True if it was new. Raises StateUnavailable when that cannot be known."""
        ...


@dataclass(frozen=True, slots=True)
class Proven:
    """The partner that signed, and the names of its assertion for the audit. `expires`: seconds since the epoch."""

    registered: Registered
    jti: str
    kid: str
    expires: int


async def prove(
    assertion: str,
    token_url: str,
    registered: Callable[[str], Registered | None],
    seen: SeenAssertions,
    now: datetime,
    deadline: float = math.inf,
) -> Proven | Fault:
    """Who signed `assertion` for `token_url`; it is used up by this, and only when all of it was good.

    Where only the key is unknown or another, the partner's key server is asked, until `deadline` (event loop time).
    Raises StateUnavailable when nobody can say whether it was used before.
    """
    proven = check(assertion, token_url, registered, now)
    if proven in (Fault.KEY, Fault.SIGNATURE):
        clock = asyncio.get_running_loop().time
        begun = clock()
        if await _seek(assertion, token_url, registered, now, deadline):
            now += timedelta(seconds=clock() - begun)
            proven = check(assertion, token_url, registered, now)
    if isinstance(proven, Fault):
        return proven
    partner = proven.registered.partner
    fresh = await seen.remember_jti(partner, proven.jti, proven.expires, now)
    return proven if fresh else Fault.REPLAYED


async def _seek(
    assertion: str, token_url: str, registered: Callable[[str], Registered | None], now: datetime, deadline: float
) -> bool:
    """Whether looking once more found the key of an assertion that is good in all that needs no key."""
    token = read(assertion)
    assert isinstance(token, Unproven), "its key was looked for"
    said = token.said
    issuer, kid = short_text(said.claims.get("iss")), short_text(said.header.get("kid"), KID_LENGTH)
    partner = None if issuer is None else registered(issuer)
    if partner is None or kid is None or _claims_fault(said, token_url, now) is not None:
        return False
    return await partner.keys.seek(kid, deadline, partner.keys.key_set().find(kid))


def check(
    assertion: str, token_url: str, registered: Callable[[str], Registered | None], now: datetime
) -> Proven | Fault:
    """Everything about an assertion but whether it was used before."""
    token = read(assertion)
    if isinstance(token, Fault):
        return token
    said = token.said
    issuer = short_text(said.claims.get("iss"))
    partner = None if issuer is None else registered(issuer)
    key = None if partner is None else partner.keys.key_set().find(said.kid)
    fault = _head_fault(said, key)
    if fault is not None:
        return fault
    if partner is None:
        return Fault.ISSUER
    if key is None:
        return Fault.KEY
    if not key.verifies(token.signing_input, token.signature, said.algorithm or ""):
        return Fault.SIGNATURE
    fault = _claims_fault(said, token_url, now)
    if fault is not None:
        return fault
    jti = said.jti
    assert jti is not None
    assert said.expires is not None
    return Proven(partner, jti, key.kid, said.expires)


def _head_fault(said: Said, key: VerifyingKey | None) -> Fault | None:
    if not algorithm_is_allowed(said, ALGORITHMS if key is None else key.algorithms):
        return Fault.ALGORITHM
    if "typ" in said.header and not type_is(said, _TYPES):
        return Fault.TYPE
    return Fault.EXTENSION if has_extensions(said) else None


def _claims_fault(said: Said, token_url: str, now: datetime) -> Fault | None:
    return (
        (Fault.SUBJECT if said.claims.get("sub") != said.claims.get("iss") else None)
        or _audience_fault(said, token_url)
        or expiry_fault(said)
        or (Fault.EXPIRED if is_expired(said, now) else None)
        or future_fault(said, now)
        or _lifetime_fault(said, now)
        or (Fault.CLAIMS if said.jti is None else None)
    )


def _audience_fault(said: Said, token_url: str) -> Fault | None:
    """The token URL alone: an assertion that also names another server could be replayed there."""
    aud = said.claims.get("aud")
    named = aud if isinstance(aud, list) else [aud]
    return None if named == [token_url] else Fault.AUDIENCE


def _lifetime_fault(said: Said, now: datetime) -> Fault | None:
    if said.expires is None or said.expires - now.timestamp() > LIFETIME:
        return Fault.LIFETIME
    return Fault.LIFETIME if said.issued is not None and said.expires - said.issued > LIFETIME else None
