"""Key pairs, tokens and small stand-ins for the tests of tokens."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.flow.ports import StateUnavailable
from gateway.partner.access_tokens import AccessTokens, TokenPress
from gateway.partner.assertions import Registered
from gateway.partner.jwt_checks import unpadded
from gateway.partner.keys import PrivateKey, SigningKeys, read_key_set, read_signing_keys

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
PUBLIC_URL = "https://gateway.example"
TOKEN_URL = f"{PUBLIC_URL}/oauth2/token"
PARTNER = "swiftbook"
KIND_OF = {
    "ES256": "P-256",
    "ES384": "P-384",
    "PS256": "RSA",
    "RS256": "RSA",
    "RS384": "RSA",
    "RS512": "RSA",
    "EdDSA": "Ed25519",
}


def private_key(kind: str = "P-256", number: int = 0) -> PrivateKey:
    """A key pair by kind; another `number`, another pair."""
    return _private_key(kind, number)


@cache
def _private_key(kind: str, number: int) -> PrivateKey:
    match kind:
        case "RSA":
            return rsa.generate_private_key(65537, 2048)
        case "P-384":
            return ec.generate_private_key(ec.SECP384R1())
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return ec.generate_private_key(ec.SECP256R1())


def pem(key: Any, password: bytes | None = None) -> str:
    lock: Any = serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    text: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    return text.decode()


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    """A public JWK; members given as None are left out."""
    public = key.public_key() if hasattr(key, "public_key") else key
    if isinstance(public, rsa.RSAPublicKey):
        entry = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        entry = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        entry = OKPAlgorithm.to_jwk(public, as_dict=True)
    entry.pop("key_ops", None)
    return {name: value for name, value in {**entry, "kid": "k1", "use": "sig", **more}.items() if value is not None}


def jwks(*entries: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": list(entries)}).encode()


def part(value: Any) -> str:
    """One part of a token: bytes as they are, anything else as JSON."""
    return unpadded(value if isinstance(value, bytes) else json.dumps(value).encode())


def signed(header: Any, claims: Any, key: Any, algorithm: str) -> str:
    """A token with a good signature over whatever it says. `algorithm` is the one used, not the one named."""
    signing_input = f"{part(header)}.{part(claims)}"
    signature = jwt.get_algorithm_by_name(algorithm).sign(signing_input.encode(), key)
    return f"{signing_input}.{unpadded(signature)}"


def changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`; a change to None takes the member out."""
    return {name: value for name, value in {**base, **changes}.items() if value is not None}


def signing_keys(kind: str = "P-256", number: int = 0) -> SigningKeys:
    return read_signing_keys(pem(private_key(kind, number)))


def press(kind: str = "P-256") -> TokenPress:
    return TokenPress(PUBLIC_URL, signing_keys(kind))


def access_tokens() -> AccessTokens:
    """A verifier of our own tokens that knows one partner."""
    return AccessTokens({PUBLIC_URL: press().issuer()}, lambda _issuer, name: name if name == PARTNER else None)


def access_header(**changes: Any) -> dict[str, Any]:
    return changed({"alg": "ES256", "typ": "at+jwt", "kid": signing_keys().first.kid}, changes)


def access_claims(**changes: Any) -> dict[str, Any]:
    base = {
        "iss": PUBLIC_URL,
        "sub": PARTNER,
        "client_id": PARTNER,
        "aud": PUBLIC_URL,
        "iat": SECONDS,
        "exp": SECONDS + 300,
        "jti": "token-1",
        "scope": "system/Appointment.rus",
    }
    return changed(base, changes)


def access_token(header: Any = None, claims: Any = None, key: Any = None, algorithm: str = "ES256") -> str:
    return signed(
        access_header() if header is None else header,
        access_claims() if claims is None else claims,
        key or private_key(),
        algorithm,
    )


def assertion_header(**changes: Any) -> dict[str, Any]:
    return changed({"alg": "ES256", "typ": "JWT", "kid": "k1"}, changes)


def assertion_claims(**changes: Any) -> dict[str, Any]:
    base = {
        "iss": PARTNER,
        "sub": PARTNER,
        "aud": TOKEN_URL,
        "iat": SECONDS,
        "exp": SECONDS + 300,
        "jti": "assertion-1",
    }
    return changed(base, changes)


def assertion(header: Any = None, claims: Any = None, key: Any = None, algorithm: str = "ES256") -> str:
    return signed(
        assertion_header() if header is None else header,
        assertion_claims() if claims is None else claims,
        key or private_key(number=1),
        algorithm,
    )


def registered(partner: str = PARTNER, *, kind: str = "P-256", suspended: bool = False) -> Registered:
    return Registered(partner, suspended, read_key_set(jwks(jwk(private_key(kind, 1)))))


@dataclass
class Seen:
    """What was remembered, in order; `down` is a store that cannot answer."""

    remembered: list[tuple[str, str, int]] = field(default_factory=list)
    down: bool = False

    async def remember_jti(self, issuer: str, jti: str, expires: int, now: datetime) -> bool:
        if self.down:
            raise StateUnavailable("down")
        new = all((issuer, jti) != (seen[0], seen[1]) for seen in self.remembered)
        self.remembered.append((issuer, jti, expires))
        return new


def verdict(token: str) -> Any:
    return access_tokens().verify(f"Bearer {token}", NOW)


def tampered() -> str:
    header, _, signature = access_token().split(".")
    return f"{header}.{part(access_claims(sub='viewonly', client_id='viewonly'))}.{signature}"
