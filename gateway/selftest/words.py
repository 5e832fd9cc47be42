"""The words that vectors leave open: where a gateway is, what its public key is called, and made-up signatures."""

import base64
import functools
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.selftest.judging import MARK

NOBODY: Final = "selftest-nobody"
"""A customer and a partner that no deployment has."""
_CURVES: Final[Mapping[str, ec.EllipticCurve]] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}


def words(host: str, issuer: str, key: Mapping[str, Any], token: str, now: datetime) -> Mapping[str, str]:
    """Say where to aim. `key` is a JWK that the gateway publishes, `token` may be empty."""
    moment = int(now.timestamp())
    header = {"alg": _algorithm(key), "typ": "at+jwt", "kid": key["kid"]}
    base = f"/{NOBODY}/fhir"
    claims = {
        "iss": issuer,
        "sub": NOBODY,
        "aud": issuer,
        "iat": moment,
        "exp": moment + 300,
        "jti": secrets.token_hex(8),
        "scope": "system/Appointment.rus",
    }
    return {
        "host": host,
        "customer": NOBODY,
        "base": base,
        "path": f"{base}/Appointment/1",
        "issuer": issuer,
        "partner": NOBODY,
        "token": f"Bearer {token or MARK}",
        "now": str(moment),
        "soon": str(moment + 300),
        "kid": str(key["kid"]),
        "header": json.dumps(header),
        "claims": json.dumps(claims),
        "mark": MARK,
        "jwk": json.dumps(dict(key)),
        "stranger-jwk": json.dumps(stranger_jwk()),
    }


def _algorithm(key: Mapping[str, Any]) -> str:
    usual = {"RSA": "PS256", "OKP": "EdDSA", "P-256": "ES256", "P-384": "ES384"}
    return str(key.get("alg") or usual[key.get("crv", "") if key["kty"] == "EC" else key["kty"]])


def sign(who: str, signed: bytes, given: Mapping[str, str]) -> bytes:
    """Sign as somebody without a key of the gateway's can. Raises KeyError for anybody else."""
    match who:
        case "nothing":
            return b""
        case "zeros":
            return bytes(64)
        case "junk":
            return hashlib.sha512(signed).digest()
        case "hmac-jwk":
            return hmac.new(given["jwk"].encode(), signed, hashlib.sha256).digest()
        case "hmac-pem":
            return hmac.new(_pem(json.loads(given["jwk"])), signed, hashlib.sha256).digest()
        case "stranger":
            return es256(_stranger(), signed)
    raise KeyError(who)


def es256(key: ec.EllipticCurvePrivateKey, signed: bytes) -> bytes:
    """A signature as JWS wants it (RFC 7518, 3.4)."""
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@functools.cache
def _stranger() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def stranger_jwk() -> Mapping[str, str]:
    """The public key of somebody nobody knows."""
    numbers = _stranger().public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(part.to_bytes(32, "big")).rstrip(b"=").decode() for part in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y}


def _pem(jwk: Mapping[str, str]) -> bytes:
    """A public key as the text that libraries took for a shared secret once."""
    parts = {name: base64.urlsafe_b64decode(jwk[name] + "==") for name in ("x", "y", "n", "e") if name in jwk}
    whole = {name: int.from_bytes(part, "big") for name, part in parts.items()}
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
    match jwk["kty"]:
        case "EC":
            public = ec.EllipticCurvePublicNumbers(whole["x"], whole["y"], _CURVES[jwk["crv"]]).public_key()
        case "RSA":
            public = rsa.RSAPublicNumbers(whole["e"], whole["n"]).public_key()
        case _:
            public = ed25519.Ed25519PublicKey.from_public_bytes(parts["x"])
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
