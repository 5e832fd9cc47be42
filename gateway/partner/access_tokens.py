"""Access tokens: issued by the gateway, verified on every call.

Only the verdict on a signature is remembered, and how a token with a good one reads. What it says is weighed on every
call: issuer, keys, audience, times, partner.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

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
from gateway.partner.keys import ALGORITHMS, KID_LENGTH, KeySet, KeySource, Signing, VerifyingKey

LIFETIME: Final = 3600
"""Seconds from `iat` to `exp` that any issuer may give."""

REMEMBERED: Final = 4096
"""Signature verdicts kept. Only good ones are, so that made-up tokens cannot push them out."""

READ: Final = 1024
"""Tokens kept as they were read, of those whose signature was good; their text is not."""

ACCESS_TOKEN_TYPE: Final = "at+jwt"  # noqa: S105 - a media type, not a secret

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

_SCOPE: Final = re.compile(r"system/Appointment\.(?=.)(c?r?u?d?s?)")


@dataclass(frozen=True, slots=True)
class Scopes:
    """The known part of a scope text: what a token lets its holder ask for, before any grant is looked at."""

    known: tuple[str, ...] = ()
    letters: frozenset[str] = field(init=False, repr=False, compare=False)
    """The letters of all of them, each one of `cruds`."""

    def __post_init__(self) -> None:
        letters = frozenset("".join(word.rpartition(".")[2] for word in self.known))
        object.__setattr__(self, "letters", letters)

    @staticmethod
    @lru_cache(maxsize=64)
    def read(scope: str) -> "Scopes":
        """Scopes are `system/Appointment.` and letters of `cruds` in order (SMART 2); others are ignored."""
        return Scopes(tuple(dict.fromkeys(word for word in scope.split(" ") if _SCOPE.fullmatch(word))))

    def allows(self, letter: str) -> bool:
        """Whether any of the scopes holds `letter`, one of `cruds`."""
        return letter in self.letters

    def __str__(self) -> str:
        return " ".join(self.known)


class Identity(NamedTuple):
    """Who calls, proven by a token. `expires` is in seconds since the epoch."""

    partner: str
    scopes: Scopes
    jti: str | None
    issuer: str
    kid: str
    expires: int


@dataclass(frozen=True, slots=True)
class TokenMissing:
    """No Authorization, or not Bearer."""


@dataclass(frozen=True, slots=True)
class TokenExpired:
    """A token that is good in everything but its time."""

    identity: Identity


@dataclass(frozen=True, slots=True)
class TokenInvalid:
    """`reason` is for the audit; the caller learns no more than that the token is invalid."""

    reason: Fault


Verdict = Identity | TokenMissing | TokenExpired | TokenInvalid


@dataclass(frozen=True, slots=True)
class Issuer:
    """One party whose access tokens are taken. `ours` turns on what the gateway promises of its own tokens."""

    keys: KeySource
    audience: str
    algorithms: frozenset[str] = frozenset(ALGORITHMS)
    partner_claim: str = "sub"
    ours: bool = False


@dataclass(slots=True)
class AccessTokens:
    """Verifies access tokens of every issuer in `issuers`.

    `partner_of(issuer, value of its partner claim)` names the registered partner, or None.
    """

    issuers: Mapping[str, Issuer]
    partner_of: Callable[[str, str], str | None]
    _good: OrderedDict[tuple[bytes, str, str], None] = field(default_factory=OrderedDict, repr=False)
    """Signatures found good, by the token's hash, its issuer and the generation of the issuer's keys."""
    _read: OrderedDict[bytes, Said] = field(default_factory=OrderedDict, repr=False)
    """By the token's hash."""

    def verify(self, authorization: str | None, now: datetime) -> Verdict:
        """What the value of the one Authorization header proves at `now`, checked in a fixed order."""
        token = self._bearer(authorization)
        return self._weigh(token, now) if isinstance(token, Unproven) else token

    async def identify(self, authorization: str | None, clock: Callable[[], datetime], deadline: float) -> Verdict:
        """As `verify`, and where only the key is unknown or another its issuer is asked for it.

        Nobody is waited for beyond `deadline`, a time of the event loop.
        """
        token = self._bearer(authorization)
        if not isinstance(token, Unproven):
            return token
        verdict = self._weigh(token, clock())
        if not isinstance(verdict, TokenInvalid) or verdict.reason not in (Fault.KEY, Fault.SIGNATURE):
            return verdict
        said, kid = token.said, short_text(token.said.header.get("kid"), KID_LENGTH)
        issuer = self.issuers[said.issuer]
        # A token that no signature could save is not worth asking anybody.
        if kid is None or not isinstance(self._believe(said, issuer, kid, clock()), Identity):
            return verdict
        # A key that does not fit: the issuer may have put another one under the same name.
        if not await issuer.keys.seek(kid, deadline, issuer.keys.key_set().find(kid)):
            return verdict
        return self._weigh(token, clock())

    def _bearer(self, authorization: str | None) -> Unproven | TokenMissing | TokenInvalid:
        if authorization is None:
            return TokenMissing()
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() != "bearer" or not credentials.strip():
            return TokenMissing()
        token = read(credentials, self._read)
        return TokenInvalid(token) if isinstance(token, Fault) else token

    def _weigh(self, token: Unproven, now: datetime) -> Verdict:
        said = token.said
        issuer = self.issuers.get(said.issuer)
        keys = None if issuer is None else issuer.keys.key_set()
        key = None if keys is None else keys.find(said.kid)
        fault = (
            _algorithm_fault(said, issuer, key)
            or _type_fault(said, issuer)
            or (Fault.EXTENSION if has_extensions(said) else None)
        )
        if fault is not None:
            return TokenInvalid(fault)
        if issuer is None or keys is None:
            return TokenInvalid(Fault.ISSUER)
        if key is None:
            return TokenInvalid(Fault.KEY)
        if not self._is_signed(token, keys, key):
            return TokenInvalid(Fault.SIGNATURE)
        return self._believe(said, issuer, key.kid, now)

    def _believe(self, said: Said, issuer: Issuer, kid: str, now: datetime) -> Verdict:
        """The claims, once the signature is proven. They are weighed on every call; no verdict on them is kept."""
        fault = (
            _audience_fault(said, issuer.audience)
            or expiry_fault(said)
            or future_fault(said, now)
            or _lifetime_fault(said)
            or (_claims_fault(said) if issuer.ours else None)
        )
        if fault is not None:
            return TokenInvalid(fault)
        subject = short_text(said.claims.get(issuer.partner_claim))
        partner = None if subject is None else self.partner_of(said.issuer, subject)
        if partner is None:
            return TokenInvalid(Fault.PARTNER)
        assert said.expires is not None
        identity = Identity(partner, Scopes.read(said.scope), said.jti, said.issuer, kid, said.expires)
        return TokenExpired(identity) if is_expired(said, now) else identity

    def _is_signed(self, token: Unproven, keys: KeySet, key: VerifyingKey) -> bool:
        place = (token.digest, token.said.issuer, keys.generation)
        if place not in self._good and not key.verifies(
            token.signing_input, token.signature, token.said.algorithm or ""
        ):
            return False
        _keep(self._good, place, None, REMEMBERED)
        _keep(self._read, token.digest, token.said, READ)
        return True


def _keep(kept: OrderedDict[_Key, _Value], key: _Key, value: _Value, most: int) -> None:
    """Keep the ones used last."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)


def _algorithm_fault(said: Said, issuer: Issuer | None, key: VerifyingKey | None) -> Fault | None:
    granted = ALGORITHMS if issuer is None else issuer.algorithms
    fitting = ALGORITHMS if key is None else key.algorithms
    return None if algorithm_is_allowed(said, ALGORITHMS, granted, fitting) else Fault.ALGORITHM


def _type_fault(said: Said, issuer: Issuer | None) -> Fault | None:
    """Ours are `at+jwt` (RFC 9068 §4); other issuers set `typ` as they like."""
    if issuer is None or not issuer.ours or type_is(said, (ACCESS_TOKEN_TYPE,)):
        return None
    return Fault.TYPE


def _audience_fault(said: Said, audience: str) -> Fault | None:
    aud = said.claims.get("aud")
    named = [aud] if isinstance(aud, str) else aud
    return None if isinstance(named, list) and audience in named else Fault.AUDIENCE


def _lifetime_fault(said: Said) -> Fault | None:
    if said.issued is None or said.expires is None or said.expires - said.issued > LIFETIME:
        return Fault.LIFETIME
    return None


def _claims_fault(said: Said) -> Fault | None:
    """Ours name the partner and themselves; `client_id` (RFC 9068 §2.2) may be absent, but never another's."""
    claims = said.claims
    if said.jti is None or short_text(claims.get("sub")) is None:
        return Fault.CLAIMS
    return None if claims.get("client_id", claims["sub"]) == claims["sub"] else Fault.CLAIMS


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """`text` is the token itself and stays out of logs and audit; `lifetime` is in seconds."""

    text: str = field(repr=False)
    jti: str
    issuer: str
    kid: str
    lifetime: int
    scopes: Scopes


@dataclass(frozen=True, slots=True)
class TokenPress:
    """Makes the gateway's own access tokens (RFC 9068). `lifetime` is in seconds."""

    public_url: str
    keys: Signing
    lifetime: int = 300

    def __post_init__(self) -> None:
        if not 0 < self.lifetime <= LIFETIME:
            raise ValueError(f"an access token lives for 1 to {LIFETIME} seconds")

    def issue(self, partner: str, scopes: Scopes, now: datetime, jti: str) -> IssuedToken:
        """A token of `partner`, good from `now`; `jti` must be new."""
        moment = int(now.timestamp())
        claims = {
            "iss": self.public_url,
            "sub": partner,
            "client_id": partner,
            "aud": self.public_url,
            "iat": moment,
            "exp": moment + self.lifetime,
            "jti": jti,
            "scope": str(scopes),
        }
        key = self.keys.first
        return IssuedToken(key.sign(claims, ACCESS_TOKEN_TYPE), jti, self.public_url, key.kid, self.lifetime, scopes)

    def issuer(self) -> Issuer:
        """What verifies the tokens made here."""
        return Issuer(self.keys.source(), self.public_url, partner_claim="sub", ours=True)
