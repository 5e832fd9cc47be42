"""Access tokens: what is taken, from which issuer, and what is remembered of it."""

from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest

from gateway.partner import access_tokens as module
from gateway.partner.access_tokens import (
    AccessTokens,
    Identity,
    Issuer,
    Scopes,
    TokenExpired,
    TokenInvalid,
    TokenPress,
)
from gateway.partner.jwt_checks import Fault
from gateway.partner.keys import ALGORITHMS, KeySet, VerifyingKey, read_key_set, read_signing_keys
from tests.edges.tokens import (
    KIND_OF,
    NOW,
    PARTNER,
    PUBLIC_URL,
    SECONDS,
    access_claims,
    access_header,
    access_token,
    access_tokens,
    jwk,
    jwks,
    pem,
    press,
    private_key,
    signed,
    signing_keys,
    tampered,
    verdict,
)


def test_a_good_token_names_the_partner_and_what_it_may_ask_for() -> None:
    assert verdict(access_token()) == Identity(
        partner=PARTNER,
        scopes=Scopes(("system/Appointment.rus",)),
        jti="token-1",
        issuer=PUBLIC_URL,
        kid=signing_keys().first.kid,
        expires=SECONDS + 300,
    )


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA", "Ed25519"])
def test_what_the_gateway_issues_it_takes(kind: str) -> None:
    made = press(kind).issue(PARTNER, Scopes.read("system/Appointment.r"), NOW, "j-1")
    verifier = AccessTokens({PUBLIC_URL: press(kind).issuer()}, lambda _issuer, name: name)
    found = verifier.verify(f"Bearer {made.text}", NOW)
    assert isinstance(found, Identity)
    assert (found.partner, found.jti, found.kid, found.issuer) == (PARTNER, "j-1", made.kid, made.issuer)
    assert found.expires == SECONDS + 300
    assert str(found.scopes) == "system/Appointment.r"


def test_an_issued_token_does_not_show_itself() -> None:
    made = press().issue(PARTNER, Scopes(), NOW, "j-1")
    assert made.text not in repr(made)


@pytest.mark.parametrize("lifetime", [1, 3600])
def test_a_press_makes_tokens_of_a_second_and_of_an_hour(lifetime: int) -> None:
    made = TokenPress(PUBLIC_URL, signing_keys(), lifetime).issue(PARTNER, Scopes(), NOW, "j-1")
    found = verdict(made.text)
    assert isinstance(found, Identity)
    assert found.expires == SECONDS + lifetime


@pytest.mark.parametrize("lifetime", [0, 3601])
def test_no_press_makes_tokens_that_would_not_be_taken(lifetime: int) -> None:
    with pytest.raises(ValueError, match="3600"):
        TokenPress(PUBLIC_URL, signing_keys(), lifetime)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_is_taken_from_another_issuer(algorithm: str) -> None:
    key = private_key(KIND_OF[algorithm], 1)
    token = signed({"alg": algorithm, "kid": "k1"}, _foreign_claims(), key, algorithm)
    assert isinstance(_foreign(read_key_set(jwks(jwk(key)))).verify(f"Bearer {token}", NOW), Identity)


FOREIGN = "https://iam.example/realms/pkb"


def _foreign_claims(**changes: Any) -> dict[str, Any]:
    base = {"iss": FOREIGN, "sub": "service-1", "azp": "swift-client", "client_id": None, "aud": ["gateway", "account"]}
    return access_claims(**{**base, **changes})


def _foreign(keys: KeySet, **settings: Any) -> AccessTokens:
    known = {(FOREIGN, "swift-client"): PARTNER, (PUBLIC_URL, PARTNER): PARTNER}
    issuer = Issuer(keys, "gateway", partner_claim="azp", **settings)
    return AccessTokens({FOREIGN: issuer, PUBLIC_URL: press().issuer()}, lambda name, value: known.get((name, value)))


def test_another_issuer_names_the_partner_by_its_own_claim_and_needs_no_typ() -> None:
    key = private_key("RSA", 1)
    token = signed({"alg": "RS256", "kid": "k1"}, _foreign_claims(jti=None), key, "RS256")
    found = _foreign(read_key_set(jwks(jwk(key)))).verify(f"Bearer {token}", NOW)
    assert isinstance(found, Identity)
    assert (found.partner, found.issuer, found.jti) == (PARTNER, FOREIGN, None)


def test_an_issuer_pinned_to_one_algorithm_gives_tokens_with_no_other() -> None:
    key = private_key("RSA", 1)
    verifier = _foreign(read_key_set(jwks(jwk(key))), algorithms=frozenset({"RS256"}))
    token = signed({"alg": "RS512", "kid": "k1"}, _foreign_claims(), key, "RS512")
    assert verifier.verify(f"Bearer {token}", NOW) == TokenInvalid(Fault.ALGORITHM)


def test_one_issuers_key_proves_nothing_in_the_name_of_another_though_both_use_one_kid() -> None:
    ours, theirs = private_key(), private_key(number=1)
    kid = signing_keys().first.kid
    verifier = _foreign(read_key_set(jwks(jwk(theirs, kid=kid))))
    good = signed({"alg": "ES256", "kid": kid}, _foreign_claims(), theirs, "ES256")
    assert isinstance(verifier.verify(f"Bearer {good}", NOW), Identity)
    for header, claims, key in (
        ({"alg": "ES256", "kid": kid}, _foreign_claims(), ours),
        (access_header(), access_claims(), theirs),
    ):
        crossed = signed(header, claims, key, "ES256")
        assert verifier.verify(f"Bearer {crossed}", NOW) == TokenInvalid(Fault.SIGNATURE)


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
def test_the_scheme_may_be_written_in_any_case(scheme: str) -> None:
    assert isinstance(access_tokens().verify(f"{scheme} {access_token()}", NOW), Identity)


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/at+JWT"])
def test_our_own_tokens_may_write_their_type_in_any_case_and_in_full(typ: str) -> None:
    assert isinstance(verdict(access_token(access_header(typ=typ))), Identity)


# The verdict on a signature is remembered; nothing else is.


@dataclass
class Counting:
    """A key that counts how often it is asked."""

    key: VerifyingKey
    asked: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.key, name)

    def verifies(self, message: bytes, signature: bytes, algorithm: str) -> bool:
        self.asked += 1
        return self.key.verifies(message, signature, algorithm)


def _counted() -> tuple[AccessTokens, Counting]:
    ours = press().issuer()
    key: Any = Counting(signing_keys().first.verifying)
    keys = KeySet({signing_keys().first.kid: key})
    known = {PARTNER}
    return AccessTokens({PUBLIC_URL: replace(ours, keys=keys)}, lambda _i, name: name if name in known else None), key


def test_a_signature_is_checked_once_and_time_every_time() -> None:
    verifier, key = _counted()
    header = f"Bearer {access_token()}"
    assert isinstance(verifier.verify(header, NOW), Identity)
    assert isinstance(verifier.verify(header, NOW + timedelta(seconds=299)), Identity)
    assert isinstance(verifier.verify(header, NOW + timedelta(seconds=300)), TokenExpired)
    assert verifier.verify(header, NOW - timedelta(hours=1)) == TokenInvalid(Fault.FROM_THE_FUTURE)
    assert key.asked == 1


def test_a_remembered_signature_does_not_outlive_a_rule_its_key_or_its_partner() -> None:
    verifier = access_tokens()
    header = f"Bearer {access_token()}"
    assert isinstance(verifier.verify(header, NOW), Identity)
    ours = press().issuer()
    for issuers, fault in (
        ({PUBLIC_URL: replace(ours, audience="https://other.example")}, Fault.AUDIENCE),
        ({PUBLIC_URL: replace(ours, algorithms=frozenset({"RS256"}))}, Fault.ALGORITHM),
        ({PUBLIC_URL: replace(ours, keys=KeySet({}))}, Fault.KEY),
        ({}, Fault.ISSUER),
    ):
        verifier.issuers = issuers
        assert verifier.verify(header, NOW) == TokenInvalid(fault)
    verifier.issuers = {PUBLIC_URL: ours}
    verifier.partner_of = lambda _issuer, _name: None
    assert verifier.verify(header, NOW) == TokenInvalid(Fault.PARTNER)


def test_the_same_kid_with_new_key_material_is_asked_again() -> None:
    verifier = access_tokens()
    header = f"Bearer {access_token()}"
    assert isinstance(verifier.verify(header, NOW), Identity)
    kid = signing_keys().first.kid
    keys = read_key_set(jwks(jwk(private_key(number=9), kid=kid)))
    verifier.issuers = {PUBLIC_URL: replace(press().issuer(), keys=keys)}
    assert verifier.verify(header, NOW) == TokenInvalid(Fault.SIGNATURE)


def test_a_bad_signature_is_not_remembered() -> None:
    verifier, key = _counted()
    for _ in range(2):
        assert verifier.verify(f"Bearer {tampered()}", NOW) == TokenInvalid(Fault.SIGNATURE)
    assert key.asked == 2
    assert not verifier._good
    assert not verifier._read


def test_only_so_many_tokens_are_remembered_as_they_read_and_none_by_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ", 2)
    verifier, key = _counted()
    tokens = [access_token(claims=access_claims(jti=name)) for name in "1234"]
    for token in (*tokens, tokens[0]):
        assert isinstance(verifier.verify(f"Bearer {token}", NOW), Identity)
    assert [*verifier._read] == [sha256(token.encode()).digest() for token in (tokens[3], tokens[0])]
    assert key.asked == 4, "a token that is read anew keeps the verdict on its signature"
    assert not [token for token in tokens if token in repr(verifier._read)]


def test_only_so_many_signatures_are_remembered_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    verifier, key = _counted()
    one, two, three = (f"Bearer {access_token(claims=access_claims(jti=name))}" for name in "123")
    for header in (one, two, one, three, one):
        verifier.verify(header, NOW)
    assert key.asked == 3
    verifier.verify(two, NOW)
    assert key.asked == 4


def test_old_and_new_key_both_verify_during_a_rotation() -> None:
    old = press().issue(PARTNER, Scopes(), NOW, "j-1")
    rotated = TokenPress(PUBLIC_URL, read_signing_keys(pem(private_key(number=3)), pem(private_key())))
    new = rotated.issue(PARTNER, Scopes(), NOW, "j-2")
    verifier = AccessTokens({PUBLIC_URL: rotated.issuer()}, lambda _issuer, name: name)
    assert old.kid != new.kid
    for made in (old, new):
        assert isinstance(verifier.verify(f"Bearer {made.text}", NOW), Identity)
