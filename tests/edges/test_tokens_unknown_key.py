"""Tokens and assertions whose key is not known yet: who is asked for it, and for which of them nobody is."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.partner.access_tokens import AccessTokens, Identity, Issuer, TokenExpired, TokenInvalid, TokenMissing
from gateway.partner.assertions import Proven, Registered, prove
from gateway.partner.jwt_checks import Fault
from gateway.partner.keys import JoinedKeys, KeySet, VerifyingKey, read_key_set
from tests.edges.tokens import (
    NOW,
    PARTNER,
    PUBLIC_URL,
    SECONDS,
    TOKEN_URL,
    Seen,
    access_claims,
    assertion,
    assertion_claims,
    assertion_header,
    changed,
    jwk,
    jwks,
    press,
    private_key,
    signed,
)

ONE, TWO = "https://one.example", "https://two.example"
CLIENTS = {(ONE, "client"): PARTNER, (TWO, "client"): "cardiolink", (TWO, "other"): PARTNER}
FOR_EVER = 1e9


def keys(*pairs: tuple[str, int]) -> KeySet:
    return read_key_set(jwks(*(jwk(private_key("P-256", number), kid=kid) for kid, number in pairs)))


@dataclass
class Source:
    """Keys that become others once somebody seeks; `sought` is what was sought, with its deadline."""

    now: KeySet
    then: KeySet
    sought: list[tuple[str, float]] = field(default_factory=list)
    on_seek: Callable[[], None] = lambda: None

    def key_set(self) -> KeySet:
        return self.now

    async def seek(self, kid: str, deadline: float, known: VerifyingKey | None = None) -> bool:
        self.sought.append((kid, deadline))
        self.on_seek()
        self.now = self.then
        return self.now.has(kid, known)


def source() -> Source:
    return Source(keys(("old", 1)), keys(("old", 1), ("new", 2)))


def token(issuer: str = ONE, kid: str | None = "new", number: int = 2, *, alg: str = "ES256", **changes: Any) -> str:
    base = {"iss": issuer, "aud": "gateway", "azp": "client", "sub": "x", "client_id": None}
    header = changed({"alg": alg}, {"kid": kid})
    return signed(header, access_claims(**{**base, **changes}), private_key("P-256", number), "ES256")


def verifier(one: Source, two: Source | None = None) -> AccessTokens:
    issuers = {ONE: Issuer(one, "gateway", frozenset({"ES256"}), "azp"), PUBLIC_URL: press().issuer()}
    if two is not None:
        issuers[TWO] = Issuer(two, "gateway", partner_claim="azp")
    return AccessTokens(issuers, lambda issuer, claim: CLIENTS.get((issuer, claim)))


async def identify(tokens: AccessTokens, text: str, now: datetime = NOW) -> Any:
    return await tokens.identify(f"Bearer {text}", lambda: now, FOR_EVER)


async def test_a_token_of_a_key_not_known_yet_is_good_once_its_issuer_shows_the_key() -> None:
    one = source()
    found = await identify(verifier(one), token())
    assert isinstance(found, Identity)
    assert (found.partner, found.issuer, found.kid) == (PARTNER, ONE, "new")
    assert one.sought == [("new", FOR_EVER)]


async def test_nobody_is_asked_for_a_key_that_is_known() -> None:
    one = source()
    assert isinstance(await identify(verifier(one), token(kid="old", number=1)), Identity)
    assert one.sought == []


async def test_a_key_that_is_found_still_has_to_fit_the_signature() -> None:
    one = source()
    assert await identify(verifier(one), token(number=3)) == TokenInvalid(Fault.SIGNATURE)


async def test_another_key_under_the_same_name_is_found_when_a_signature_does_not_fit() -> None:
    one = Source(keys(("k", 1)), keys(("k", 2)))
    tokens = verifier(one)
    assert isinstance(await identify(tokens, token(kid="k", number=1)), Identity)
    assert isinstance(await identify(tokens, token(kid="k", number=2)), Identity)
    assert await identify(tokens, token(kid="k", number=1)) == TokenInvalid(Fault.SIGNATURE)


async def test_a_signature_that_no_key_fits_stays_a_bad_one() -> None:
    one = Source(keys(("k", 1)), keys(("k", 1)))
    assert await identify(verifier(one), token(kid="k", number=3)) == TokenInvalid(Fault.SIGNATURE)
    assert len(one.sought) == 1


async def test_a_key_that_nobody_knows_stays_unknown() -> None:
    one = source()
    assert await identify(verifier(one), token(kid="newest")) == TokenInvalid(Fault.KEY)


async def test_only_the_issuer_that_the_token_names_is_asked() -> None:
    one, two = source(), source()
    assert isinstance(await identify(verifier(one, two), token(TWO)), Identity)
    assert (one.sought, two.sought) == ([], [("new", FOR_EVER)])


async def test_time_that_passed_while_asking_counts() -> None:
    one, moment = source(), [NOW]
    one.on_seek = lambda: moment.__setitem__(0, NOW + timedelta(seconds=300))
    assert isinstance(
        await verifier(one).identify(f"Bearer {token()}", lambda: moment[0], FOR_EVER),
        TokenExpired,
    )


NOT_WORTH_ASKING: dict[str, tuple[str, Fault]] = {
    "expired": (token(iat=SECONDS - 600, exp=SECONDS), Fault.KEY),
    "for somebody else": (token(aud="other"), Fault.KEY),
    "of nobody": (token(azp="nobody"), Fault.KEY),
    "too long": (token(exp=SECONDS + 3601), Fault.KEY),
    "from the future": (token(nbf=SECONDS + 61), Fault.KEY),
    "without kid": (token(kid=None), Fault.KEY),
    "with an endless kid": (token(kid="k" * 257), Fault.KEY),
    "an algorithm the issuer does not use": (token(alg="ES384"), Fault.ALGORITHM),
    "an unknown issuer": (token("https://three.example"), Fault.ISSUER),
}


@pytest.mark.parametrize(("text", "fault"), NOT_WORTH_ASKING.values(), ids=NOT_WORTH_ASKING)
async def test_nobody_is_asked_about_a_token_that_no_key_could_save(text: str, fault: Fault) -> None:
    one = source()
    assert await identify(verifier(one), text) == TokenInvalid(fault)
    assert one.sought == []


@pytest.mark.parametrize("header", [None, "", "Basic x", "Bearer", "Bearer "])
async def test_no_token_is_missing(header: str | None) -> None:
    assert await verifier(source()).identify(header, lambda: NOW, FOR_EVER) == TokenMissing()


async def test_one_client_id_at_two_issuers_is_two_partners() -> None:
    one, two = source(), source()
    tokens = verifier(one, two)
    partners = [(await identify(tokens, token(issuer))).partner for issuer in (ONE, TWO)]
    assert partners == [PARTNER, "cardiolink"]


async def test_one_kid_at_two_issuers_is_two_keys() -> None:
    one, two = Source(keys(("k", 1)), keys(("k", 1))), Source(keys(("k", 2)), keys(("k", 2)))
    tokens = verifier(one, two)
    for issuer, number, good in ((ONE, 1, True), (ONE, 2, False), (TWO, 1, False), (TWO, 2, True)):
        found = await identify(tokens, token(issuer, "k", number))
        assert isinstance(found, Identity) is good, (issuer, number)


# What was found out about a signature holds for its issuer and these very keys.


async def test_a_key_that_is_gone_ends_its_tokens_at_once_though_their_signature_was_found_good() -> None:
    one = source()
    tokens = verifier(one)
    same = token(kid="old", number=1)
    assert isinstance(await identify(tokens, same), Identity)
    one.now = one.then = keys(("new", 2))
    assert await identify(tokens, same) == TokenInvalid(Fault.KEY)
    one.now = one.then = keys(("old", 3))
    assert await identify(tokens, same) == TokenInvalid(Fault.SIGNATURE)


async def test_a_partner_that_is_gone_has_no_token_though_its_signature_was_found_good() -> None:
    tokens, same = verifier(source()), token(kid="old", number=1)
    assert isinstance(await identify(tokens, same), Identity)
    tokens.partner_of = lambda _issuer, _claim: None
    assert await identify(tokens, same) == TokenInvalid(Fault.PARTNER)


# Assertions.


def registered(keys: Any) -> Callable[[str], Registered | None]:
    return {PARTNER: Registered(PARTNER, suspended=False, keys=keys)}.get


async def test_an_assertion_of_a_key_not_known_yet_is_good_once_the_partner_shows_the_key() -> None:
    one, seen = source(), Seen()
    proof = assertion(assertion_header(kid="new"), key=private_key("P-256", 2))
    assert isinstance(await prove(proof, TOKEN_URL, registered(one), seen, NOW, FOR_EVER), Proven)
    assert one.sought == [("new", FOR_EVER)]
    assert await prove(proof, TOKEN_URL, registered(one), seen, NOW) is Fault.REPLAYED


async def test_an_assertion_of_another_key_under_the_same_name_is_good_once_the_partner_shows_it() -> None:
    one = Source(keys(("k", 1)), keys(("k", 2)))
    proof = assertion(assertion_header(kid="k"), key=private_key("P-256", 2))
    assert isinstance(await prove(proof, TOKEN_URL, registered(one), Seen(), NOW, FOR_EVER), Proven)


async def test_an_assertion_whose_key_nobody_knows_is_not_used_up() -> None:
    one, seen = source(), Seen()
    proof = assertion(assertion_header(kid="newest"), key=private_key("P-256", 2))
    assert await prove(proof, TOKEN_URL, registered(one), seen, NOW) is Fault.KEY
    assert (len(one.sought), seen.remembered) == (1, [])


BAD_CLAIMS: dict[str, dict[str, Any]] = {
    "another's name": {"sub": "viewonly"},
    "another's address": {"aud": "https://elsewhere.example/token"},
    "expired": {"exp": SECONDS},
    "no end": {"exp": None},
    "too long": {"exp": SECONDS + 301},
    "from the future": {"nbf": SECONDS + 61},
    "no jti": {"jti": None},
}


@pytest.mark.parametrize("claims", BAD_CLAIMS.values(), ids=BAD_CLAIMS)
async def test_nobody_is_asked_about_an_assertion_that_no_key_could_save(claims: dict[str, Any]) -> None:
    one = source()
    proof = assertion(assertion_header(kid="new"), assertion_claims(**claims), key=private_key("P-256", 2))
    assert await prove(proof, TOKEN_URL, registered(one), Seen(), NOW) is Fault.KEY
    assert one.sought == []


@pytest.mark.parametrize("header", [{"kid": None}, {"kid": "k" * 257}], ids=["no kid", "an endless kid"])
async def test_nobody_is_asked_for_a_key_without_a_usable_name(header: dict[str, Any]) -> None:
    one = source()
    proof = assertion(assertion_header(**header), key=private_key("P-256", 2))
    assert await prove(proof, TOKEN_URL, registered(one), Seen(), NOW) is Fault.KEY
    assert one.sought == []


# A partner with keys in several places.


async def test_keys_of_all_places_are_good() -> None:
    one = source()
    joined = JoinedKeys((keys(("file", 5)), one))
    for kid, number in (("file", 5), ("old", 1), ("new", 2)):
        proof = assertion(assertion_header(kid=kid), assertion_claims(jti=kid), key=private_key("P-256", number))
        assert isinstance(await prove(proof, TOKEN_URL, registered(joined), Seen(), NOW), Proven), kid


def test_a_kid_that_means_two_keys_in_two_places_means_none() -> None:
    same = JoinedKeys((keys(("k", 1)), keys(("k", 1), ("l", 2)))).key_set()
    assert set(same.keys) == {"k", "l"}
    contested = JoinedKeys((keys(("k", 1)), keys(("k", 2), ("l", 2)), keys(("k", 1)))).key_set()
    assert set(contested.keys) == {"l"}


def test_the_keys_of_one_place_are_passed_on_as_they_are() -> None:
    one = source()
    assert JoinedKeys((one,)).key_set() is one.now


async def test_a_set_given_once_has_nowhere_else_to_look() -> None:
    fixed = keys(("k", 1))
    assert fixed.key_set() is fixed
    assert await fixed.seek("k", 0.0)
    assert not await fixed.seek("l", 0.0)
    assert await identify(verifier(replace(source(), now=fixed, then=fixed)), token()) == TokenInvalid(Fault.KEY)
