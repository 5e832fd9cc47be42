import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa

from gateway.partner.jwt_checks import unpadded
from gateway.partner.keys import (
    ALGORITHMS,
    KEYS_PER_SET,
    KeySetProblem,
    SigningKeyProblem,
    load_key_set,
    read_key_set,
    read_signing_keys,
    thumbprint,
)
from tests.edges.tokens import jwk, jwks, pem, private_key

GOOD = jwk(private_key("P-256", 7), kid="good")


@pytest.mark.parametrize(
    ("kind", "algorithms"),
    [
        ("RSA", {"RS256", "RS384", "RS512", "PS256"}),
        ("P-256", {"ES256"}),
        ("P-384", {"ES384"}),
        ("Ed25519", {"EdDSA"}),
    ],
)
def test_a_key_may_be_used_with_the_algorithms_that_fit_it_and_no_other(kind: str, algorithms: set[str]) -> None:
    key = read_key_set(jwks(jwk(private_key(kind)))).find("k1")
    assert key is not None
    assert key.algorithms == algorithms


def test_a_key_that_names_its_algorithm_is_used_with_that_one_only() -> None:
    key = read_key_set(jwks(jwk(private_key("RSA"), alg="PS256"))).find("k1")
    assert key is not None
    assert key.algorithms == {"PS256"}


def test_a_good_signature_with_an_algorithm_the_key_is_not_for_is_none() -> None:
    private: Any = private_key("RSA")
    signature = jwt.get_algorithm_by_name("RS256").sign(b"message", private)
    both = read_key_set(jwks(jwk(private, kid="any"), jwk(private, kid="pinned", alg="PS256"))).keys
    assert both["any"].verifies(b"message", signature, "RS256")
    assert not both["any"].verifies(b"other", signature, "RS256")
    assert not both["pinned"].verifies(b"message", signature, "RS256")
    assert not both["any"].verifies(b"message", signature, "none")


def test_a_set_may_hold_32_keys_and_an_rsa_key_8192_bits() -> None:
    largest = jwk(private_key("RSA"), n=unpadded(((1 << 8191) + 1).to_bytes(1024, "big")))
    others = [{**GOOD, "kid": str(number)} for number in range(31)]
    assert len(read_key_set(jwks(largest, *others)).keys) == 32


def test_every_algorithm_has_a_kind_of_key_that_may_use_it() -> None:
    entries = [jwk(private_key(kind), kid=kind) for kind in ("RSA", "P-256", "P-384", "Ed25519")]
    allowed = [key.algorithms for key in read_key_set(jwks(*entries)).keys.values()]
    assert frozenset().union(*allowed) == set(ALGORITHMS)


def _weak(bits: int) -> Any:
    return rsa.generate_private_key(65537, bits)


def _private() -> dict[str, Any]:
    numbers: Any = private_key("P-256").private_numbers()  # type: ignore[union-attr]  # an EC key has them
    return jwk(private_key("P-256"), d=f"{numbers.private_value:043x}")


REFUSED = {
    "a shared secret": ({"kty": "oct", "kid": "bad", "k": "c2VjcmV0"}, "shared secret"),
    "private parts": (_private() | {"kid": "bad"}, "private parts"),
    "a private part of RSA": (jwk(private_key("RSA"), kid="bad", dp="AQAB"), "private parts"),
    "RSA of 1024 bits": (jwk(_weak(1024), kid="bad"), "1024 bits"),
    "RSA of 8193 bits": (
        jwk(private_key("RSA"), kid="bad", n=unpadded(((1 << 8192) + 1).to_bytes(1025, "big"))),
        "8193 bits",
    ),
    "RSA with exponent 3": (jwk(rsa.generate_private_key(3, 2048), kid="bad"), "exponent"),
    "an even RSA exponent": (jwk(private_key("RSA"), kid="bad", e="AQAA"), "not a valid public key"),
    "P-521": (jwk(ec.generate_private_key(ec.SECP521R1()), kid="bad"), "curve"),
    "secp256k1": (jwk(ec.generate_private_key(ec.SECP256K1()), kid="bad"), "curve"),
    "Ed448": (jwk(ed448.Ed448PrivateKey.generate(), kid="bad"), "curve"),
    "P-256 as OKP": (jwk(private_key("P-256"), kid="bad", kty="OKP"), "curve"),
    "a curve as a list": (jwk(private_key("P-256"), kid="bad", crv=["P-256"]), "curve"),
    "no kty": (jwk(private_key("P-256"), kid="bad", kty=None), "kty"),
    "an unknown kty": (jwk(private_key("P-256"), kid="bad", kty="AKP"), "kty"),
    "kty in other case": (jwk(private_key("RSA"), kid="bad", kty="rsa"), "kty"),
    "no kid": (jwk(private_key("P-256"), kid=None), "kid"),
    "an empty kid": (jwk(private_key("P-256"), kid=""), "kid"),
    "a kid that is a number": (jwk(private_key("P-256"), kid=1), "kid"),
    "a kid with a line feed": (jwk(private_key("P-256"), kid="a\nb"), "kid"),
    "for encryption": (jwk(private_key("P-256"), kid="bad", use="enc"), "not for signatures"),
    "key_ops without verify": (jwk(private_key("P-256"), kid="bad", key_ops=["deriveKey"]), "key_ops"),
    "an unknown alg": (jwk(private_key("P-256"), kid="bad", alg="ES256K"), "alg"),
    "HS256 on an RSA key": (jwk(private_key("RSA"), kid="bad", alg="HS256"), "alg"),
    "none as alg": (jwk(private_key("RSA"), kid="bad", alg="none"), "alg"),
    "ES384 on P-256": (jwk(private_key("P-256"), kid="bad", alg="ES384"), "alg"),
    "alg as a list": (jwk(private_key("P-256"), kid="bad", alg=["ES256"]), "alg"),
    "no y": (jwk(private_key("P-256"), kid="bad", y=None), "lacks a public part"),
    "x with padding": (jwk(private_key("P-256"), kid="bad", x=GOOD["x"] + "="), "base64url"),
    "a point off the curve": (jwk(private_key("P-256"), kid="bad", y=GOOD["y"]), "not a valid public key"),
    "a short coordinate": (jwk(private_key("P-256"), kid="bad", x="AQAB"), "not a valid public key"),
    "P-384 points called P-256": (jwk(private_key("P-384"), kid="bad", crv="P-256"), "not a valid public key"),
    "a short Ed25519 key": (jwk(private_key("Ed25519"), kid="bad", x="AQAB"), "not a valid public key"),
    "not an object": ("key", "not a JSON object"),
}


@pytest.mark.parametrize(("entry", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_bad_key_is_refused_with_its_reason_and_the_others_are_kept(entry: Any, reason: str) -> None:
    found = read_key_set(jwks(GOOD, entry))
    assert set(found.keys) == {"good"}
    assert len(found.refused) == 1
    assert reason in found.refused[0]
    assert found.refused[0].startswith("key 2 ")


@pytest.mark.parametrize(("entry", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_set_of_nothing_but_bad_keys_is_a_problem(entry: Any, reason: str) -> None:
    with pytest.raises(KeySetProblem) as caught:
        read_key_set(jwks(entry))
    assert reason in caught.value.reasons[0]


def test_no_reason_repeats_the_private_part_of_a_key() -> None:
    with pytest.raises(KeySetProblem) as caught:
        read_key_set(jwks(_private()))
    assert _private()["d"] not in str(caught.value)


def test_a_kid_that_names_two_keys_names_none() -> None:
    twice = [jwk(private_key("P-256", number), kid="twice") for number in (1, 2)]
    found = read_key_set(jwks(*twice, GOOD))
    assert set(found.keys) == {"good"}
    assert "twice" in found.refused[0]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>", id="not JSON"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"{}", id="no keys"),
        pytest.param(b'{"keys": {}}', id="keys is an object"),
        pytest.param(b'{"keys": []}', id="no key"),
        pytest.param(jwks(GOOD)[:-1] + b', "keys": []}', id="keys twice"),
        pytest.param(
            json.dumps({"keys": [{**GOOD, "kid": str(n)} for n in range(KEYS_PER_SET + 1)]}).encode(), id="many"
        ),
        pytest.param(jwks(GOOD) + b" " * 70_000, id="large"),
    ],
)
def test_a_broken_set_is_a_problem(data: bytes) -> None:
    with pytest.raises(KeySetProblem):
        read_key_set(data)


def test_a_key_set_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "swiftbook.jwks.json"
    path.write_bytes(jwks(GOOD))
    assert load_key_set(path) == read_key_set(jwks(GOOD))


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeySetProblem, match="cannot read"):
        load_key_set(tmp_path / name)


def test_the_generation_changes_with_any_key_and_with_nothing_else() -> None:
    other = jwk(private_key("P-256", 8), kid="good")
    narrow = jwk(private_key("RSA"), alg="RS256")
    sets = [jwks(GOOD), jwks(other), jwks(GOOD, other | {"kid": "k2"}), jwks(narrow), jwks(jwk(private_key("RSA")))]
    assert len({read_key_set(data).generation for data in sets}) == len(sets)
    assert read_key_set(jwks(GOOD, narrow)).generation == read_key_set(jwks(narrow, GOOD)).generation


def test_a_thumbprint_is_the_one_of_rfc_7638() -> None:
    members = {
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWK"
        "RXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8"
        "KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBni"
        "Iqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB",
    }
    assert thumbprint(members) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize(
    ("kind", "algorithm"), [("P-256", "ES256"), ("P-384", "ES384"), ("RSA", "PS256"), ("Ed25519", "EdDSA")]
)
def test_a_signing_key_is_published_under_its_thumbprint_without_its_private_part(kind: str, algorithm: str) -> None:
    keys = read_signing_keys(pem(private_key(kind)))
    (entry,) = keys.public_jwks()["keys"]
    assert entry["alg"] == keys.first.algorithm == algorithm
    assert entry["use"] == "sig"
    assert entry["kid"] == keys.first.kid == thumbprint(keys.first.verifying.jwk)
    assert not {"d", "p", "q"} & set(entry)
    published = read_key_set(jwks(entry)).find(keys.first.kid)
    assert published is not None
    assert published.jwk == keys.first.verifying.jwk


def test_during_a_rotation_the_first_key_signs_and_all_are_published() -> None:
    new, old = pem(private_key("P-256", 2)), pem(private_key("P-256", 1))
    for keys in (read_signing_keys(new, old), read_signing_keys(new + old)):
        assert keys.first.kid == read_signing_keys(new).first.kid
        assert len(keys.public_jwks()["keys"]) == 2
        assert set(keys.key_set().keys) == {key.kid for key in keys.keys}


def test_the_block_openssl_writes_before_an_ec_key_is_skipped() -> None:
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert len(read_signing_keys(parameters + pem(private_key())).keys) == 1


def _public_pem() -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private_key().public_key().public_bytes(serialization.Encoding.PEM, form).decode()


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param("", id="empty"),
        pytest.param("hunter2", id="a password"),
        pytest.param(_public_pem(), id="a public key"),
        pytest.param(pem(private_key(), b"pass"), id="a locked key"),
        pytest.param(pem(private_key()) * 2, id="the same key twice"),
        pytest.param(pem(_weak(1024)), id="RSA of 1024 bits"),
        pytest.param(pem(ec.generate_private_key(ec.SECP521R1())), id="P-521"),
        pytest.param(pem(ed448.Ed448PrivateKey.generate()), id="Ed448"),
        pytest.param(pem(private_key()).replace("M", "N"), id="a damaged key"),
    ],
)
def test_a_useless_signing_key_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(SigningKeyProblem) as caught:
        read_signing_keys(secret)
    assert not secret or secret not in str(caught.value)


def test_a_signing_key_does_not_show_itself() -> None:
    key = read_signing_keys(pem(private_key())).first
    assert "private" not in repr(key)
