"""Access tokens: what is refused, and in which order."""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from gateway.partner.access_tokens import (
    Identity,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
)
from gateway.partner.jwt_checks import Fault, unpadded
from tests.edges.tokens import (
    NOW,
    PARTNER,
    PUBLIC_URL,
    SECONDS,
    access_claims,
    access_header,
    access_token,
    access_tokens,
    assertion,
    jwk,
    part,
    private_key,
    signed,
    tampered,
    verdict,
)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(None, id="no header"),
        pytest.param("", id="empty"),
        pytest.param("Bearer", id="no token"),
        pytest.param("Bearer ", id="an empty token"),
        pytest.param("Basic c3dpZnRib29rOng=", id="Basic"),
        pytest.param("DPoP abc", id="DPoP"),
        pytest.param("Bearer\tabc", id="a tab"),
        pytest.param("BearerToken abc", id="a longer word"),
    ],
)
def test_without_a_bearer_token_it_is_missing(header: str | None) -> None:
    assert access_tokens().verify(header, NOW) == TokenMissing()


def _hmac_token(secret: bytes) -> str:
    signing_input = f"{part(access_header(alg='HS256'))}.{part(access_claims())}"
    return f"{signing_input}.{unpadded(hmac.digest(secret, signing_input.encode(), hashlib.sha256))}"


def _public_pem(kind: str) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private_key(kind).public_key().public_bytes(serialization.Encoding.PEM, form)


def _stray_bits() -> str:
    """The same signature with the unused last bits of its text set."""
    text = access_token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) + 1]


def _raw(header: bytes | None = None, claims: bytes | None = None) -> str:
    return access_token(
        json.dumps(access_header()).encode() if header is None else header,
        json.dumps(access_claims()).encode() if claims is None else claims,
    )


def _twice(member: str, value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode()[:-1] + b", " + member.encode() + b"}"


def _h(**changes: Any) -> Callable[[], str]:
    return lambda: access_token(access_header(**changes))


def _c(**changes: Any) -> Callable[[], str]:
    return lambda: access_token(claims=access_claims(**changes))


INVALID: dict[str, tuple[Callable[[], str], Fault]] = {
    "64 KB": (lambda: "a" * 65536, Fault.TOO_LARGE),
    "10,000 dots": (lambda: "." * 10_000, Fault.TOO_LARGE),
    "one part": (lambda: "abc", Fault.NOT_THREE_PARTS),
    "four dots": (lambda: access_token() + "..", Fault.NOT_THREE_PARTS),
    "a JWE": (lambda: "a.b.c.d.e", Fault.NOT_THREE_PARTS),
    "two tokens in one header": (lambda: f"{access_token()}, Bearer {access_token()}", Fault.NOT_THREE_PARTS),
    "a space before it": (lambda: " " + access_token(), Fault.NOT_BASE64URL),
    "a comma after it": (lambda: access_token() + ",", Fault.NOT_BASE64URL),
    "padding": (lambda: access_token() + "==", Fault.NOT_BASE64URL),
    "stray last bits": (_stray_bits, Fault.NOT_BASE64URL),
    "standard base64": (lambda: "+/+/" + access_token(), Fault.NOT_BASE64URL),
    "a line feed at the end": (lambda: access_token() + "\n", Fault.NOT_BASE64URL),
    "a letter that is not ASCII": (lambda: access_token() + "é", Fault.NOT_BASE64URL),
    "half of a surrogate pair": (lambda: access_token() + "\udce9", Fault.NOT_BASE64URL),
    "a length no base64 has": (lambda: "A" + access_token(), Fault.NOT_BASE64URL),
    "empty parts": (lambda: "..", Fault.NOT_JSON),
    "a header that is no JSON": (lambda: _raw(header=b"{"), Fault.NOT_JSON),
    "a header that is a list": (lambda: _raw(header=b"[]"), Fault.NOT_JSON),
    "claims that are a string": (lambda: _raw(claims=b'"x"'), Fault.NOT_JSON),
    "a repeated alg": (lambda: _raw(header=_twice('"alg": "none"', access_header())), Fault.NOT_JSON),
    "a repeated sub": (lambda: _raw(claims=_twice('"sub": "viewonly"', access_claims())), Fault.NOT_JSON),
    "a sub repeated by escapes": (lambda: _raw(claims=_twice(r'"\u0073ub": "x"', access_claims())), Fault.NOT_JSON),
    "NaN": (lambda: _raw(claims=_twice('"x": NaN', access_claims())), Fault.NOT_JSON),
    "deep nesting": (lambda: _raw(claims=_twice('"x": ' + "[" * 99 + "]" * 99, access_claims())), Fault.NOT_JSON),
    "bytes that are not UTF-8": (lambda: _raw(claims=b'{"sub": "\xff"}'), Fault.NOT_JSON),
    "alg none": (_h(alg="none"), Fault.ALGORITHM),
    "alg nOnE": (_h(alg="nOnE"), Fault.ALGORITHM),
    "alg none without signature": (
        lambda: f"{part(access_header(alg='none'))}.{part(access_claims())}.",
        Fault.ALGORITHM,
    ),
    "no alg": (_h(alg=None), Fault.ALGORITHM),
    "alg as a list": (_h(alg=["ES256"]), Fault.ALGORITHM),
    "alg in other case": (_h(alg="es256"), Fault.ALGORITHM),
    "HS256 with the public PEM": (lambda: _hmac_token(_public_pem("P-256")), Fault.ALGORITHM),
    "an algorithm of another kind of key": (_h(alg="RS256"), Fault.ALGORITHM),
    "an algorithm of another curve": (_h(alg="ES384"), Fault.ALGORITHM),
    "no typ": (_h(typ=None), Fault.TYPE),
    "typ JWT": (_h(typ="JWT"), Fault.TYPE),
    "typ of a DPoP proof": (_h(typ="dpop+jwt"), Fault.TYPE),
    "typ of an assertion": (_h(typ="client-authentication+jwt"), Fault.TYPE),
    "typ as a list": (_h(typ=["at+jwt"]), Fault.TYPE),
    "typ with a Kelvin sign": (_h(typ="at+jwt\u212a"), Fault.TYPE),
    "crit": (_h(crit=["x"]), Fault.EXTENSION),
    "crit of nothing": (_h(crit=[]), Fault.EXTENSION),
    "b64": (_h(b64=False), Fault.EXTENSION),
    "zip": (_h(zip="DEF"), Fault.EXTENSION),
    "a token in a token": (_h(cty="JWT"), Fault.EXTENSION),
    "a token in a token, in full": (_h(cty="application/jwt"), Fault.EXTENSION),
    "cty as a list": (_h(cty=["JWT"]), Fault.EXTENSION),
    "an unknown iss": (_c(iss="https://evil.example"), Fault.ISSUER),
    "iss in other case": (_c(iss=PUBLIC_URL.upper()), Fault.ISSUER),
    "iss with a slash": (_c(iss=PUBLIC_URL + "/"), Fault.ISSUER),
    "no iss": (_c(iss=None), Fault.ISSUER),
    "iss as a list": (_c(iss=[PUBLIC_URL]), Fault.ISSUER),
    "an unknown kid": (_h(kid="other"), Fault.KEY),
    "a kid that is a path": (_h(kid="../../etc/passwd"), Fault.KEY),
    "a kid that is SQL": (_h(kid="' OR 1=1 --"), Fault.KEY),
    "a kid that is a number": (_h(kid=1), Fault.KEY),
    "no kid": (_h(kid=None), Fault.KEY),
    "changed claims": (tampered, Fault.SIGNATURE),
    "another key": (lambda: access_token(key=private_key(number=5)), Fault.SIGNATURE),
    "another key, sent along": (
        lambda: access_token(access_header(jwk=jwk(private_key(number=5))), key=private_key(number=5)),
        Fault.SIGNATURE,
    ),
    "another key, by address": (
        lambda: access_token(access_header(jku="https://evil.example/jwks"), key=private_key(number=5)),
        Fault.SIGNATURE,
    ),
    "no signature": (lambda: access_token().rpartition(".")[0] + ".", Fault.SIGNATURE),
    "a signature of zeros": (
        lambda: access_token().rpartition(".")[0] + "." + unpadded(bytes(64)),
        Fault.SIGNATURE,
    ),
    "a signature cut short": (lambda: access_token()[:-2], Fault.SIGNATURE),
    "no aud": (_c(aud=None), Fault.AUDIENCE),
    "another aud": (_c(aud="https://other.example"), Fault.AUDIENCE),
    "aud with a slash": (_c(aud=PUBLIC_URL + "/"), Fault.AUDIENCE),
    "aud in other case": (_c(aud=PUBLIC_URL.upper()), Fault.AUDIENCE),
    "aud of nobody": (_c(aud=[]), Fault.AUDIENCE),
    "aud as an object": (_c(aud={PUBLIC_URL: True}), Fault.AUDIENCE),
    "aud in a list in a list": (_c(aud=[[PUBLIC_URL]]), Fault.AUDIENCE),
    "aud that contains ours as text": (_c(aud=f"x{PUBLIC_URL}x"), Fault.AUDIENCE),
    "no exp": (_c(exp=None), Fault.EXPIRY),
    "exp as text": (_c(exp=str(SECONDS + 300)), Fault.EXPIRY),
    "exp true": (_c(exp=True), Fault.EXPIRY),
    "exp with a fraction": (_c(exp=SECONDS + 300.5), Fault.EXPIRY),
    "exp 1e30": (_c(exp=1e30), Fault.EXPIRY),
    "exp of 40 digits": (_c(exp=10**40), Fault.EXPIRY),
    "nbf in two minutes": (_c(nbf=SECONDS + 120), Fault.FROM_THE_FUTURE),
    "nbf as text": (_c(nbf="0"), Fault.FROM_THE_FUTURE),
    "iat in 61 seconds": (_c(iat=SECONDS + 61), Fault.FROM_THE_FUTURE),
    "iat with a fraction": (_c(iat=SECONDS + 0.5), Fault.FROM_THE_FUTURE),
    "no iat": (_c(iat=None), Fault.LIFETIME),
    "a life of more than an hour": (_c(iat=SECONDS, exp=SECONDS + 3601), Fault.LIFETIME),
    "a very long life": (_c(exp=10**17), Fault.LIFETIME),
    "no sub": (_c(sub=None), Fault.CLAIMS),
    "an empty sub": (_c(sub="", client_id=""), Fault.CLAIMS),
    "sub as a list": (_c(sub=[PARTNER], client_id=[PARTNER]), Fault.CLAIMS),
    "another client_id": (_c(client_id="viewonly"), Fault.CLAIMS),
    "no jti": (_c(jti=None), Fault.CLAIMS),
    "jti as a number": (_c(jti=7), Fault.CLAIMS),
    "a jti of 129 characters": (_c(jti="j" * 129), Fault.CLAIMS),
    "a jti with a line feed": (_c(jti="a\nb"), Fault.CLAIMS),
    "an unknown partner": (_c(sub="stranger", client_id="stranger"), Fault.PARTNER),
    "an assertion": (assertion, Fault.ISSUER),
}


@pytest.mark.parametrize(("make", "fault"), INVALID.values(), ids=INVALID)
def test_a_bad_token_is_invalid(make: Callable[[], str], fault: Fault) -> None:
    assert verdict(make()) == TokenInvalid(fault)


def test_every_fault_of_an_access_token_is_reached() -> None:
    of_assertions = {Fault.SUBJECT, Fault.EXPIRED, Fault.REPLAYED}
    assert {fault for _, fault in INVALID.values()} == set(Fault) - of_assertions


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"aud": ["account", PUBLIC_URL]}, id="aud names others too"),
        pytest.param({"nbf": SECONDS + 60, "iat": SECONDS + 60}, id="a clock one minute ahead"),
        pytest.param({"iat": SECONDS - 3299}, id="a life of an hour less one second"),
        pytest.param({"iat": SECONDS - 3300}, id="a life of an hour"),
        pytest.param({"client_id": None}, id="no client_id"),
        pytest.param({"exp": SECONDS + 1}, id="its last second"),
        pytest.param({"custom": {"any": ["thing"]}}, id="claims of no interest"),
    ],
)
def test_what_is_just_within_bounds_is_taken(claims: dict[str, Any]) -> None:
    assert isinstance(verdict(access_token(claims=access_claims(**claims))), Identity)


def test_a_token_of_exactly_the_longest_length_is_read() -> None:
    assert verdict("a" * 8192) == TokenInvalid(Fault.NOT_THREE_PARTS)
    assert verdict("a" * 8193) == TokenInvalid(Fault.TOO_LARGE)


def test_claims_may_be_nested_32_deep() -> None:
    deepest = _twice('"x": ' + "[" * 31 + "]" * 31, access_claims())
    deeper = _twice('"x": ' + "[" * 32 + "]" * 32, access_claims())
    assert isinstance(verdict(access_token(claims=deepest)), Identity)
    assert verdict(access_token(claims=deeper)) == TokenInvalid(Fault.NOT_JSON)


@pytest.mark.parametrize("exp", [SECONDS, SECONDS - 1, SECONDS - 3000, -1])
def test_a_token_that_is_good_in_all_but_time_is_expired(exp: int) -> None:
    found = verdict(access_token(claims=access_claims(exp=exp, iat=exp - 300)))
    assert isinstance(found, TokenExpired)
    assert found.identity.expires == exp
    assert found.identity.partner == PARTNER


def test_a_token_ends_within_its_second() -> None:
    end = NOW + timedelta(seconds=300)
    verifier, header = access_tokens(), f"Bearer {access_token()}"
    assert isinstance(verifier.verify(header, end - timedelta(microseconds=1)), Identity)
    assert isinstance(verifier.verify(header, end), TokenExpired)


EXPIRED = {"exp": SECONDS - 10, "iat": SECONDS - 310}


@pytest.mark.parametrize(
    ("header", "claims", "fault"),
    [
        pytest.param({"typ": "JWT"}, {}, Fault.TYPE, id="typ"),
        pytest.param({}, {"aud": "other"}, Fault.AUDIENCE, id="aud"),
        pytest.param({}, {"nbf": SECONDS + 600}, Fault.FROM_THE_FUTURE, id="nbf"),
        pytest.param({}, {"iat": SECONDS - 7200}, Fault.LIFETIME, id="lifetime"),
        pytest.param({}, {"jti": None}, Fault.CLAIMS, id="claims"),
        pytest.param({}, {"sub": "stranger", "client_id": "stranger"}, Fault.PARTNER, id="partner"),
    ],
)
def test_an_expired_token_with_another_fault_is_invalid(header: Any, claims: Any, fault: Fault) -> None:
    token = access_token(access_header(**header), access_claims(**{**EXPIRED, **claims}))
    assert verdict(token) == TokenInvalid(fault)


@dataclass(frozen=True)
class Broken:
    """One fault to put into a token that may have others."""

    fault: Fault
    header: Mapping[str, Any] | None = None
    claims: Mapping[str, Any] | None = None
    other_key: bool = False


IN_ORDER = (
    Broken(Fault.ALGORITHM, header={"alg": "ES384"}),
    Broken(Fault.TYPE, header={"typ": "JWT"}),
    Broken(Fault.EXTENSION, header={"crit": ["x"]}),
    Broken(Fault.KEY, header={"kid": "other"}),
    Broken(Fault.SIGNATURE, other_key=True),
    Broken(Fault.AUDIENCE, claims={"aud": "other"}),
    Broken(Fault.EXPIRY, claims={"exp": None}),
    Broken(Fault.FROM_THE_FUTURE, claims={"nbf": SECONDS + 61}),
    Broken(Fault.LIFETIME, claims={"iat": SECONDS - 9999}),
    Broken(Fault.CLAIMS, claims={"jti": None}),
    Broken(Fault.PARTNER, claims={"sub": "stranger", "client_id": "stranger"}),
)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(first, second, id=f"{first.fault} before {second.fault}")
        for place, first in enumerate(IN_ORDER)
        for second in IN_ORDER[place + 1 :]
    ],
)
def test_of_two_faults_the_first_in_order_answers(first: Broken, second: Broken) -> None:
    if first.fault is Fault.ALGORITHM and second.fault is Fault.KEY:
        first = replace(first, header={"alg": "HS256"})  # without its key only the general list can refuse
    header = access_header(**{**(second.header or {}), **(first.header or {})})
    claims = access_claims(**{**(second.claims or {}), **(first.claims or {})})
    key = private_key(number=5) if first.other_key or second.other_key else private_key()
    assert verdict(signed(header, claims, key, "ES256")) == TokenInvalid(first.fault)


def test_json_is_read_before_the_algorithm_and_the_algorithm_before_the_issuer() -> None:
    repeated = _twice('"sub": "x"', access_claims())
    assert verdict(access_token(access_header(alg="none"), repeated)) == TokenInvalid(Fault.NOT_JSON)
    elsewhere = access_token(access_header(alg="HS256"), access_claims(iss="https://evil.example"))
    assert verdict(elsewhere) == TokenInvalid(Fault.ALGORITHM)


@given(st.text(max_size=300))
def test_no_text_is_a_token_by_chance(text: str) -> None:
    assert isinstance(access_tokens().verify(f"Bearer {text}", NOW), TokenInvalid | TokenMissing)


@given(st.data())
def test_no_change_of_one_character_leaves_a_token_good(data: st.DataObject) -> None:
    token = access_token()
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCabc019-_.= ").filter(lambda character: character != token[place]))
    changed = token[:place] + other + token[place + 1 :]
    assert isinstance(access_tokens().verify(f"Bearer {changed}", NOW), TokenInvalid)
