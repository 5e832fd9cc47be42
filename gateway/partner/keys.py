"""Public keys of partners and the gateway's own signing keys: what is let in, and why the rest is not."""

import asyncio
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm, get_default_algorithms

from gateway.domain import strict_json
from gateway.partner.jwt_checks import base64url, short_text, text, unpadded

ALGORITHMS: Final = ("ES256", "ES384", "PS256", "RS256", "RS384", "RS512", "EdDSA")
"""Every signature algorithm taken. All are asymmetric: a public key can never serve as a shared secret."""

KEY_SET_BYTES: Final = 64 * 1024
KEYS_PER_SET: Final = 32
KID_LENGTH: Final = 256
RSA_BITS: Final = range(2048, 8192 + 1)
"""Shorter is breakable; longer makes every check of a signature a slow one."""
RSA_EXPONENT: Final = 65537

_FITTING: Final[Mapping[str, tuple[str, ...]]] = {
    "RSA": ("RS256", "RS384", "RS512", "PS256"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "Ed25519": ("EdDSA",),
}
_SIGNS_WITH: Final[Mapping[str, str]] = {"RSA": "PS256", "P-256": "ES256", "P-384": "ES384", "Ed25519": "EdDSA"}
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {"RSA": ("n", "e"), "EC": ("x", "y"), "OKP": ("x",)}
_CURVES: Final[Mapping[str, tuple[str, ...]]] = {"EC": ("P-256", "P-384"), "OKP": ("Ed25519",)}
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_CHECKERS: Final = {name: get_default_algorithms()[name] for name in ALGORITHMS}

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class KeySource(Protocol):
    """Where the keys of one party are known from. They may change at any moment."""

    def key_set(self) -> "KeySet":
        """The keys that are good now."""
        ...

    async def seek(self, kid: str, deadline: float, known: "VerifyingKey | None" = None) -> bool:
        """Look once more for a key other than the one `known`, until `deadline` (event loop time); whether it is there.

        The time is short, or nothing is looked at, where many ask: False says that there is no such key yet.
        """
        ...


class KeySetProblem(Exception):
    """No usable key in a partner's key set; `reasons` says why, one plain sentence each."""

    def __init__(self, reasons: tuple[str, ...]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class SigningKeyProblem(Exception):
    """The gateway's signing key cannot be used. The message never holds a part of it."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """One public key, with the algorithms it may be used with and no other."""

    kid: str
    algorithms: frozenset[str]
    public: PublicKey
    jwk: Mapping[str, str] = field(hash=False)
    """The members that make up the key (RFC 7638 §3.2)."""

    def verifies(self, message: bytes, signature: bytes, algorithm: str) -> bool:
        """Whether `signature` is this key's over `message`; never so with an algorithm it is not for."""
        return algorithm in self.algorithms and _CHECKERS[algorithm].verify(message, self.public, signature)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of one party by `kid`, and why others were refused."""

    keys: Mapping[str, VerifyingKey] = field(hash=False)
    refused: tuple[str, ...] = ()
    generation: str = field(init=False)
    """Changes with any key: a verdict reached under one set says nothing under the next."""

    def __post_init__(self) -> None:
        content = [(kid, sorted(key.algorithms), dict(key.jwk)) for kid, key in sorted(self.keys.items())]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        object.__setattr__(self, "generation", digest)

    def find(self, kid: str | None) -> VerifyingKey | None:
        """The one key of that name. A plain look-up: `kid` is an attacker's to choose."""
        return None if kid is None else self.keys.get(kid)

    def key_set(self) -> "KeySet":
        """Itself: a set is a source that never changes."""
        return self

    def has(self, kid: str, known: VerifyingKey | None = None) -> bool:
        """Whether there is a key of that name other than the one `known`."""
        return self.keys.get(kid, known) != known

    async def seek(self, kid: str, deadline: float, known: VerifyingKey | None = None) -> bool:
        """There is nowhere else to look."""
        del deadline
        return self.has(kid, known)


@dataclass(frozen=True, slots=True)
class JoinedKeys:
    """The keys of a party that is known from several places."""

    sources: tuple[KeySource, ...]

    def key_set(self) -> KeySet:
        """The keys of all places, but for a `kid` that means different keys in two of them."""
        if len(self.sources) == 1:
            return self.sources[0].key_set()
        return _joined(source.key_set() for source in self.sources)

    async def seek(self, kid: str, deadline: float, known: VerifyingKey | None = None) -> bool:
        """Look in all places at the same time."""
        await asyncio.gather(*(source.seek(kid, deadline, known) for source in self.sources))
        return self.key_set().has(kid, known)


def _joined(sets: Iterable[KeySet]) -> KeySet:
    found: dict[str, VerifyingKey] = {}
    contested: set[str] = set()
    for keys in sets:
        for kid, key in keys.keys.items():
            if found.setdefault(kid, key) != key:
                contested.add(kid)
    return KeySet(MappingProxyType({kid: key for kid, key in found.items() if kid not in contested}))


def load_key_set(path: Path) -> KeySet:
    """The keys in a JWKS file. Raises KeySetProblem when it cannot be read or holds no usable key."""
    try:
        with path.open("rb") as file:
            data = file.read(KEY_SET_BYTES + 1)
    except OSError as error:
        raise KeySetProblem((f"cannot read {path.name}: {error.strerror or 'it is not a plain file'}",)) from error
    return read_key_set(data)


def read_key_set(data: bytes) -> KeySet:
    """The usable keys of a JWKS (RFC 7517 §5). Raises KeySetProblem when there is none."""
    if len(data) > KEY_SET_BYTES:
        raise KeySetProblem((f"the key set is larger than {KEY_SET_BYTES // 1024} KiB",))
    try:
        document = strict_json.read(data)
    except strict_json.MalformedJson as error:
        raise KeySetProblem((f"the key set is not strict JSON: {error}",)) from error
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise KeySetProblem(('the key set must be a JSON object with a list "keys"',))
    if not 0 < len(entries) <= KEYS_PER_SET:
        raise KeySetProblem((f"the key set must hold 1 to {KEYS_PER_SET} keys, it holds {len(entries)}",))
    found = [_read_key(entry, f"key {place}") for place, entry in enumerate(entries, start=1)]
    counts = Counter(key.kid for key in found if isinstance(key, VerifyingKey))
    refused = [reason for reason in found if isinstance(reason, str)]
    refused += [
        f'the kid "{kid}" names {count} keys; none of them is used' for kid, count in counts.items() if count > 1
    ]
    usable = {key.kid: key for key in found if isinstance(key, VerifyingKey) and counts[key.kid] == 1}
    if not usable:
        raise KeySetProblem(tuple(refused))
    return KeySet(MappingProxyType(usable), tuple(refused))


def _read_key(entry: strict_json.Value, place: str) -> VerifyingKey | str:
    """A usable key, or the plain reason why it is not."""
    if not isinstance(entry, dict):
        return f"{place} is not a JSON object"
    kid = short_text(entry.get("kid"), KID_LENGTH)
    if kid is None:
        return f'{place} has no "kid" (a string of 1 to {KID_LENGTH} printable characters)'
    place = f'{place} (kid "{kid}")'
    reason = _unfit(entry)
    if reason is not None:
        return f"{place} {reason}"
    fitting = _FITTING["RSA" if entry["kty"] == "RSA" else str(entry["crv"])]
    algorithms = [name for name in fitting if entry.get("alg", name) == name]
    if not algorithms:
        return f'{place} has an "alg" that is unknown or does not fit: {", ".join(fitting)} would'
    members = _public_members(entry)
    public = "lacks a public part, or one is not base64url" if members is None else _public_key(members)
    if members is None or isinstance(public, str):
        return f"{place} {public}"
    return VerifyingKey(kid, frozenset(algorithms), public, MappingProxyType(members))


def _unfit(entry: strict_json.Object) -> str | None:
    """Why an entry is not even the right kind of key."""
    kty, operations = text(entry.get("kty")), entry.get("key_ops", ["verify"])
    if kty == "oct":
        return "is a shared secret (kty oct); only public keys are accepted"
    if kty is None or kty not in _NEEDED:
        return 'has no usable "kty": RSA, EC and OKP are accepted'
    if _PRIVATE & set(entry):
        return "holds private parts; make a new pair, because this one has been seen, and register its public part"
    if entry.get("use", "sig") != "sig":
        return 'is not for signatures ("use" must be "sig" or left out)'
    if not isinstance(operations, list) or "verify" not in operations:
        return 'is not for verifying signatures ("key_ops" must hold "verify" or be left out)'
    if kty in _CURVES and text(entry.get("crv")) not in _CURVES[kty]:
        return f"has a curve other than {' and '.join(_CURVES[kty])}"
    return None


def _public_members(entry: strict_json.Object) -> dict[str, str] | None:
    kty = str(entry["kty"])
    members = {"kty": kty} if kty == "RSA" else {"kty": kty, "crv": str(entry["crv"])}
    for name in _NEEDED[kty]:
        part = text(entry.get(name))
        if not part or base64url(part) is None:
            return None
        members[name] = part
    return members


def _public_key(members: Mapping[str, str]) -> PublicKey | str:
    """The key made of `members`, or what is wrong with it. Points off the curve are refused by cryptography."""
    parts: dict[str, Any] = dict(members)
    try:
        match members["kty"]:
            case "RSA":
                return _fit_rsa(RSAAlgorithm.from_jwk(parts))
            case "EC":
                curve = ECAlgorithm.from_jwk(parts)
                assert isinstance(curve, ec.EllipticCurvePublicKey)
                return curve
            case _:
                edwards = OKPAlgorithm.from_jwk(parts)
                assert isinstance(edwards, ed25519.Ed25519PublicKey)
                return edwards
    except (jwt.InvalidKeyError, UnsupportedAlgorithm, ValueError):
        return "is not a valid public key"


def _fit_rsa(key: rsa.RSAPublicKey | rsa.RSAPrivateKey) -> PublicKey | str:
    assert isinstance(key, rsa.RSAPublicKey)
    if key.key_size not in RSA_BITS:
        return f"is an RSA key of {key.key_size} bits; {RSA_BITS[0]} to {RSA_BITS[-1]} are accepted"
    if key.public_numbers().e < RSA_EXPONENT:
        return f"is an RSA key with a public exponent under {RSA_EXPONENT}"
    return key


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key of the gateway, named by its RFC 7638 thumbprint."""

    kid: str
    algorithm: str
    private: PrivateKey = field(repr=False, hash=False, compare=False)
    verifying: VerifyingKey

    def sign(self, claims: Mapping[str, Any], typ: str) -> str:
        """A JWS in compact form with this `typ`."""
        headers = {"kid": self.kid, "typ": typ}
        return jwt.encode(dict(claims), self.private, algorithm=self.algorithm, headers=headers)


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The gateway's keys during a rotation: the first signs, all are published and verify."""

    keys: tuple[SigningKey, ...]

    @property
    def first(self) -> SigningKey:
        """The key that signs."""
        return self.keys[0]

    def key_set(self) -> KeySet:
        """What verifies tokens signed with any of them."""
        return KeySet(MappingProxyType({key.kid: key.verifying for key in self.keys}))

    def source(self) -> KeySource:
        """The same as a source, which never changes."""
        return self.key_set()

    def public_jwks(self) -> dict[str, list[dict[str, str]]]:
        """The document at `/.well-known/jwks.json` (RFC 7517 §5)."""
        return {
            "keys": [{**key.verifying.jwk, "kid": key.kid, "use": "sig", "alg": key.algorithm} for key in self.keys]
        }


class Signing(Protocol):
    """The gateway's own keys, which may change while it runs."""

    @property
    def first(self) -> SigningKey:
        """The key that signs."""
        ...

    def source(self) -> KeySource:
        """What verifies tokens signed with any of them."""
        ...


def read_signing_keys(*secrets: str) -> SigningKeys:
    """The private keys in PEM texts, one or several to a text, in order. Raises SigningKeyProblem."""
    blocks = [match for secret in secrets for match in _PEM.finditer(secret)]
    # `openssl ecparam -genkey` writes the name of the curve in a block of its own before the key.
    keys = tuple(_read_signing_key(match[0]) for match in blocks if match[1] != "EC PARAMETERS")
    if not keys:
        raise SigningKeyProblem("no private key in PEM form found")
    if len({key.kid for key in keys}) != len(keys):
        raise SigningKeyProblem("the same private key is there twice")
    return SigningKeys(keys)


def _read_signing_key(pem: str) -> SigningKey:
    try:
        private = serialization.load_pem_private_key(pem.encode(), password=None)
    except TypeError as error:
        raise SigningKeyProblem("the private key is protected by a pass phrase; store it without one") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SigningKeyProblem("a PEM block is not a private key") from error
    public: PublicKey | None = None
    if isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        public = private.public_key()
    members = None if public is None else _members_of(public)
    if members is None or public is None or isinstance(_public_key(members), str):
        raise SigningKeyProblem("use an EC key on P-256 or P-384, an Ed25519 key, or RSA of 2048 bits or more")
    algorithm = _SIGNS_WITH[members.get("crv", members["kty"])]
    kid = thumbprint(members)
    verifying = VerifyingKey(kid, frozenset({algorithm}), public, MappingProxyType(members))
    assert isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey)
    return SigningKey(kid, algorithm, private, verifying)


def _members_of(public: PublicKey) -> dict[str, str] | None:
    match public:
        case rsa.RSAPublicKey():
            jwk = RSAAlgorithm.to_jwk(public, as_dict=True)
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1() | ec.SECP384R1()):
            jwk = ECAlgorithm.to_jwk(public, as_dict=True)
        case ed25519.Ed25519PublicKey():
            jwk = OKPAlgorithm.to_jwk(public, as_dict=True)
        case _:
            return None
    names = ("kty", *(("crv",) if jwk["kty"] in _CURVES else ()), *_NEEDED[jwk["kty"]])
    return {name: str(jwk[name]) for name in names}


def thumbprint(members: Mapping[str, str]) -> str:
    """RFC 7638: SHA-256 over the required members in lexical order, without white space."""
    canonical = json.dumps(dict(members), sort_keys=True, separators=(",", ":"))
    return unpadded(hashlib.sha256(canonical.encode()).digest())
