"""Client assertions: a partner proves who it is, once."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from gateway.flow.ports import StateUnavailable
from gateway.partner.access_tokens import Scopes
from gateway.partner.assertions import Proven, prove
from gateway.partner.jwt_checks import Fault, unpadded
from gateway.partner.keys import ALGORITHMS
from tests.edges.tokens import (
    KIND_OF,
    NOW,
    PARTNER,
    PUBLIC_URL,
    SECONDS,
    TOKEN_URL,
    Seen,
    access_token,
    assertion,
    assertion_claims,
    assertion_header,
    jwk,
    press,
    private_key,
    registered,
    signed,
)


async def proof(token: str, seen: Seen | None = None, **partner: Any) -> Proven | Fault:
    known = {PARTNER: registered(**partner), "viewonly": registered("viewonly")}
    return await prove(token, TOKEN_URL, known.get, seen or Seen(), NOW)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_every_algorithm_proves_a_partner(algorithm: str) -> None:
    kind = KIND_OF[algorithm]
    token = assertion(assertion_header(alg=algorithm), key=private_key(kind, 1), algorithm=algorithm)
    proven = await proof(token, kind=kind)
    assert isinstance(proven, Proven)
    assert (proven.registered.partner, proven.jti, proven.kid) == (PARTNER, "assertion-1", "k1")
    assert proven.expires == SECONDS + 300


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        pytest.param({}, {"aud": [TOKEN_URL]}, id="aud in a list of one"),
        pytest.param({"typ": None}, {}, id="no typ"),
        pytest.param({"typ": "jwt"}, {}, id="typ in lower case"),
        pytest.param({"typ": "client-authentication+jwt"}, {}, id="typ of an assertion"),
        pytest.param({"jku": "https://elsewhere.example/jwks"}, {}, id="an address nobody asks"),
        pytest.param({}, {"iat": None}, id="no iat"),
        pytest.param({}, {"iat": SECONDS + 60}, id="iat a minute ahead"),
        pytest.param({}, {"nbf": SECONDS + 60}, id="nbf a minute ahead"),
        pytest.param({}, {"exp": SECONDS + 1}, id="its last second"),
        pytest.param({}, {"jti": "j" * 128}, id="a jti of 128 characters"),
        pytest.param({}, {"jti": "j"}, id="a jti of one character"),
    ],
)
async def test_what_is_just_within_bounds_is_taken(header: dict[str, Any], claims: dict[str, Any]) -> None:
    token = assertion(assertion_header(**header), assertion_claims(**claims))
    assert isinstance(await proof(token), Proven)


def _h(**changes: Any) -> Callable[[], str]:
    return lambda: assertion(assertion_header(**changes))


def _c(**changes: Any) -> Callable[[], str]:
    return lambda: assertion(claims=assertion_claims(**changes))


REFUSED: dict[str, tuple[Callable[[], str], Fault]] = {
    "64 KB": (lambda: "a" * 65536, Fault.TOO_LARGE),
    "no token": (lambda: "hello", Fault.NOT_THREE_PARTS),
    "padding": (lambda: assertion() + "==", Fault.NOT_BASE64URL),
    "repeated members": (lambda: assertion(claims=b'{"iss":"swiftbook","iss":"viewonly"}'), Fault.NOT_JSON),
    "alg none": (_h(alg="none"), Fault.ALGORITHM),
    "HS256": (_h(alg="HS256"), Fault.ALGORITHM),
    "an algorithm of another kind of key": (_h(alg="RS384"), Fault.ALGORITHM),
    "typ of an access token": (_h(typ="at+jwt"), Fault.TYPE),
    "typ of an access token, in full": (_h(typ="application/AT+JWT"), Fault.TYPE),
    "typ of a DPoP proof": (_h(typ="dpop+jwt"), Fault.TYPE),
    "typ null": (lambda: assertion({**assertion_header(), "typ": None}), Fault.TYPE),
    "crit": (_h(crit=["x"]), Fault.EXTENSION),
    "zip": (_h(zip="DEF"), Fault.EXTENSION),
    "an unknown partner": (_c(iss="stranger", sub="stranger"), Fault.ISSUER),
    "no iss": (_c(iss=None), Fault.ISSUER),
    "iss as a list": (_c(iss=[PARTNER]), Fault.ISSUER),
    "an unknown kid": (_h(kid="other"), Fault.KEY),
    "no kid": (_h(kid=None), Fault.KEY),
    "another key": (lambda: assertion(key=private_key(number=5)), Fault.SIGNATURE),
    "another key, sent along": (
        lambda: assertion(assertion_header(jwk=jwk(private_key(number=5))), key=private_key(number=5)),
        Fault.SIGNATURE,
    ),
    "a signature of zeros": (lambda: f"{assertion().rpartition('.')[0]}.{unpadded(bytes(64))}", Fault.SIGNATURE),
    "another sub": (_c(sub="viewonly"), Fault.SUBJECT),
    "no sub": (_c(sub=None), Fault.SUBJECT),
    "no aud": (_c(aud=None), Fault.AUDIENCE),
    "aud of the gateway, not of its token endpoint": (_c(aud=PUBLIC_URL), Fault.AUDIENCE),
    "aud with a slash": (_c(aud=TOKEN_URL + "/"), Fault.AUDIENCE),
    "aud that names another server too": (_c(aud=[TOKEN_URL, "https://other.example"]), Fault.AUDIENCE),
    "aud twice": (_c(aud=[TOKEN_URL, TOKEN_URL]), Fault.AUDIENCE),
    "aud of nobody": (_c(aud=[]), Fault.AUDIENCE),
    "no exp": (_c(exp=None), Fault.EXPIRY),
    "exp as text": (_c(exp=str(SECONDS + 60)), Fault.EXPIRY),
    "exp with a fraction": (_c(exp=SECONDS + 60.5), Fault.EXPIRY),
    "exp now": (_c(exp=SECONDS), Fault.EXPIRED),
    "exp long ago": (_c(exp=0, iat=None), Fault.EXPIRED),
    "iat in 61 seconds": (_c(iat=SECONDS + 61), Fault.FROM_THE_FUTURE),
    "nbf in 61 seconds": (_c(nbf=SECONDS + 61), Fault.FROM_THE_FUTURE),
    "iat as text": (_c(iat="now"), Fault.FROM_THE_FUTURE),
    "exp 301 seconds ahead": (_c(exp=SECONDS + 301, iat=None), Fault.LIFETIME),
    "a life of 301 seconds": (_c(exp=SECONDS + 300, iat=SECONDS - 1), Fault.LIFETIME),
    "no jti": (_c(jti=None), Fault.CLAIMS),
    "an empty jti": (_c(jti=""), Fault.CLAIMS),
    "a jti of 129 characters": (_c(jti="j" * 129), Fault.CLAIMS),
    "jti as a number": (_c(jti=1), Fault.CLAIMS),
    "a jti with a line feed": (_c(jti="a\nb"), Fault.CLAIMS),
    "an access token": (access_token, Fault.TYPE),
    "a freshly issued access token": (
        lambda: press().issue(PARTNER, Scopes.read("system/Appointment.r"), NOW, "j").text,
        Fault.TYPE,
    ),
}


@pytest.mark.parametrize(("make", "fault"), REFUSED.values(), ids=REFUSED)
async def test_a_bad_assertion_is_refused_and_not_remembered(make: Callable[[], str], fault: Fault) -> None:
    seen = Seen()
    assert await proof(make(), seen) == fault
    assert seen.remembered == []


def test_every_fault_of_an_assertion_is_reached() -> None:
    elsewhere = {Fault.PARTNER, Fault.REPLAYED}
    assert {fault for _, fault in REFUSED.values()} == set(Fault) - elsewhere


async def test_an_assertion_is_good_once() -> None:
    seen = Seen()
    assert isinstance(await proof(assertion(), seen), Proven)
    assert await proof(assertion(), seen) is Fault.REPLAYED
    assert seen.remembered[0] == (PARTNER, "assertion-1", SECONDS + 300)


async def test_a_jti_is_used_up_for_the_partner_that_used_it_and_no_other() -> None:
    seen = Seen()
    assert isinstance(await proof(assertion(), seen), Proven)
    other = assertion(claims=assertion_claims(iss="viewonly", sub="viewonly"))
    assert isinstance(await proof(other, seen), Proven)


async def test_a_refused_assertion_does_not_use_up_its_jti() -> None:
    seen = Seen()
    assert await proof(assertion(key=private_key(number=5)), seen) is Fault.SIGNATURE
    assert isinstance(await proof(assertion(), seen), Proven)


async def test_without_the_store_nothing_is_proven() -> None:
    with pytest.raises(StateUnavailable):
        await proof(assertion(), Seen(down=True))


async def test_without_the_store_a_bad_assertion_is_still_bad() -> None:
    assert await proof(assertion(key=private_key(number=5)), Seen(down=True)) is Fault.SIGNATURE


async def test_an_assertion_ends_within_its_second() -> None:
    known = {PARTNER: registered()}
    end = NOW + timedelta(seconds=300)
    just_before = end - timedelta(microseconds=1)
    assert isinstance(await prove(assertion(), TOKEN_URL, known.get, Seen(), just_before), Proven)
    assert await prove(assertion(), TOKEN_URL, known.get, Seen(), end) is Fault.EXPIRED


IN_ORDER: tuple[tuple[Fault, Mapping[str, Any], Mapping[str, Any]], ...] = (
    (Fault.ALGORITHM, {"alg": "HS256"}, {}),
    (Fault.TYPE, {"typ": "at+jwt"}, {}),
    (Fault.EXTENSION, {"crit": ["x"]}, {}),
    (Fault.KEY, {"kid": "other"}, {}),
    (Fault.SUBJECT, {}, {"sub": "viewonly"}),
    (Fault.AUDIENCE, {}, {"aud": PUBLIC_URL}),
    (Fault.EXPIRY, {}, {"exp": None}),
    (Fault.FROM_THE_FUTURE, {}, {"nbf": SECONDS + 61}),
    (Fault.LIFETIME, {}, {"iat": SECONDS - 9}),
    (Fault.CLAIMS, {}, {"jti": None}),
)


@pytest.mark.parametrize(
    ("first", "second"),
    [pytest.param(first, second, id=f"{first[0]} before {second[0]}") for first, second in pairwise(IN_ORDER)],
)
async def test_of_two_faults_the_first_in_order_is_noted(first: Any, second: Any) -> None:
    header = assertion_header(**{**second[1], **first[1]})
    claims = assertion_claims(**{**second[2], **first[2]})
    assert await proof(signed(header, claims, private_key(number=1), "ES256")) == first[0]
