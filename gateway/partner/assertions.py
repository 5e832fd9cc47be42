"""Client assertions: a partner proves who it is with its own key (RFC 7523, SMART `private_key_jwt`)."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from gateway.partner.jwt_checks import (
    Fault,
    Unproven,
    algorithm_is_allowed,
    expiry_fault,
    first_fault,
    future_fault,
    has_extensions,
    is_expired,
    read,
    short_text,
    text,
    type_is,
    whole_seconds,
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
    issuer, kid = short_text(token.claims.get("iss")), short_text(token.header.get("kid"), KID_LENGTH)
    partner = None if issuer is None else registered(issuer)
    if partner is None or kid is None or _claims_fault(token, token_url, now) is not None:
        return False
    return await partner.keys.seek(kid, deadline, partner.keys.key_set().find(kid))


def check(
    assertion: str, token_url: str, registered: Callable[[str], Registered | None], now: datetime
) -> Proven | Fault:
    """Everything about an assertion but whether it was used before."""
    token = read(assertion)
    if isinstance(token, Fault):
        return token
    issuer = short_text(token.claims.get("iss"))
    partner = None if issuer is None else registered(issuer)
    key = None if partner is None else partner.keys.key_set().find(token.kid)
    fault = first_fault(
        lambda: _algorithm_fault(token, key),
        lambda: None if "typ" not in token.header or type_is(token, _TYPES) else Fault.TYPE,
        lambda: Fault.EXTENSION if has_extensions(token) else None,
        lambda: Fault.ISSUER if partner is None else None,
        lambda: Fault.KEY if key is None else None,
        lambda: _signature_fault(token, key),
        lambda: _claims_fault(token, token_url, now),
    )
    if fault is not None:
        return fault
    jti = short_text(token.claims.get("jti"))
    expires = whole_seconds(token.claims.get("exp"))
    assert partner is not None
    assert key is not None
    assert jti is not None
    assert expires is not None
    return Proven(partner, jti, key.kid, expires)


def _algorithm_fault(token: Unproven, key: VerifyingKey | None) -> Fault | None:
    allowed = frozenset(ALGORITHMS) if key is None else key.algorithms
    return None if algorithm_is_allowed(token, allowed) else Fault.ALGORITHM


def _signature_fault(token: Unproven, key: VerifyingKey | None) -> Fault | None:
    algorithm = text(token.header.get("alg")) or ""
    signed = key is not None and key.verifies(token.signing_input, token.signature, algorithm)
    return None if signed else Fault.SIGNATURE


def _claims_fault(token: Unproven, token_url: str, now: datetime) -> Fault | None:
    return first_fault(
        lambda: Fault.SUBJECT if token.claims.get("sub") != token.claims.get("iss") else None,
        lambda: _audience_fault(token, token_url),
        lambda: expiry_fault(token) or (Fault.EXPIRED if is_expired(token, now) else None),
        lambda: future_fault(token, now),
        lambda: _lifetime_fault(token, now),
        lambda: Fault.CLAIMS if short_text(token.claims.get("jti")) is None else None,
    )


def _audience_fault(token: Unproven, token_url: str) -> Fault | None:
    """The token URL alone: an assertion that also names another server could be replayed there."""
    aud = token.claims.get("aud")
    named = aud if isinstance(aud, list) else [aud]
    return None if named == [token_url] else Fault.AUDIENCE


def _lifetime_fault(token: Unproven, now: datetime) -> Fault | None:
    expires, issued = whole_seconds(token.claims.get("exp")), whole_seconds(token.claims.get("iat"))
    if expires is None or expires - now.timestamp() > LIFETIME:
        return Fault.LIFETIME
    return Fault.LIFETIME if issued is not None and expires - issued > LIFETIME else None
