"""`POST /oauth2/token`, as RFC 6749 §5 and SMART Backend Services say."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web

from gateway.partner.access_tokens import AccessTokens, Identity, Scopes
from gateway.partner.assertions import Registered
from gateway.partner.jwt_checks import Fault
from gateway.partner.token_endpoint import (
    ASSERTION_TYPE,
    OAuthError,
    Slip,
    TokenAnswer,
    TokenEndpoint,
    TokenIssued,
    TokenRefused,
    read_form,
    respond,
)
from tests.edges.tokens import (
    NOW,
    PARTNER,
    PUBLIC_URL,
    SECONDS,
    TOKEN_URL,
    Seen,
    assertion,
    assertion_claims,
    changed,
    press,
    private_key,
    registered,
    signing_keys,
)


@dataclass
class Rates:
    """`left` requests for everybody, then a wait of `seconds`."""

    left: int = 99
    seconds: int = 7
    asked: list[str] = field(default_factory=list)

    async def wait(self, partner: str) -> int | None:
        self.asked.append(partner)
        self.left -= 1
        return None if self.left >= 0 else self.seconds


@dataclass
class Desk:
    """A token endpoint on stand-ins, all within reach."""

    partners: dict[str, Registered] = field(default_factory=lambda: {PARTNER: registered()})
    seen: Seen = field(default_factory=Seen)
    rates: Rates = field(default_factory=Rates)

    async def ask(self, authorization: str | None = None, **changes: Any) -> TokenAnswer:
        return await self.send(list(form(**changes).items()), authorization)

    async def send(self, pairs: list[tuple[str, str]], authorization: str | None = None) -> TokenAnswer:
        endpoint = TokenEndpoint(TOKEN_URL, press(), self.partners.get, self.seen, self.rates.wait)
        return await endpoint.answer(pairs, authorization, NOW, "token-1")


def form(**changes: Any) -> dict[str, str]:
    base = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion(),
    }
    return changed(base, changes)


def body(answer: TokenAnswer) -> Any:
    response = respond(answer)
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


async def test_a_proven_partner_gets_a_token_that_the_gateway_takes() -> None:
    desk = Desk()
    answer = await desk.ask()
    assert isinstance(answer, TokenIssued)
    assert (answer.partner, answer.assertion.jti, answer.assertion.kid) == (PARTNER, "assertion-1", "k1")
    assert (answer.token.jti, answer.token.issuer, answer.token.kid) == (
        "token-1",
        PUBLIC_URL,
        signing_keys().first.kid,
    )
    verifier = AccessTokens({PUBLIC_URL: press().issuer()}, lambda _issuer, name: name)
    found = verifier.verify(f"Bearer {body(answer)['access_token']}", NOW)
    assert isinstance(found, Identity)
    assert (found.partner, found.expires) == (PARTNER, SECONDS + 300)
    assert desk.rates.asked == [PARTNER]


async def test_the_answer_to_a_good_request_is_the_one_of_the_rfc() -> None:
    answer = await Desk().ask()
    response = respond(answer)
    assert response.status == 200
    assert response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Pragma"] == "no-cache"
    assert set(body(answer)) == {"access_token", "token_type", "expires_in", "scope"}
    assert body(answer)["token_type"] == "bearer"
    assert body(answer)["expires_in"] == 300


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        pytest.param(None, "system/Appointment.rus", id="none"),
        pytest.param("", "system/Appointment.rus", id="empty"),
        pytest.param("system/Appointment.r", "system/Appointment.r", id="one"),
        pytest.param("system/Appointment.cruds", "system/Appointment.cruds", id="all letters"),
        pytest.param("openid system/Appointment.r system/*.cruds", "system/Appointment.r", id="the known part"),
        pytest.param(
            "system/Appointment.r system/Appointment.u system/Appointment.r",
            "system/Appointment.r system/Appointment.u",
            id="one twice",
        ),
    ],
)
async def test_the_scope_is_what_was_asked_as_far_as_it_is_known(asked: str | None, given: str) -> None:
    assert body(await Desk().ask(scope=asked))["scope"] == given


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"client_id": PARTNER}, id="its own client_id"),
        pytest.param({"client_id": ""}, id="an empty client_id"),
        pytest.param({"resource": PUBLIC_URL}, id="a parameter nobody knows"),
    ],
)
async def test_what_may_be_added_changes_nothing(extra: dict[str, str]) -> None:
    assert isinstance(await Desk().ask(**extra), TokenIssued)


BAD_KEY = assertion(key=private_key(number=5))
INVALID_REQUEST, INVALID_CLIENT = OAuthError.INVALID_REQUEST, OAuthError.INVALID_CLIENT

REFUSED: dict[str, tuple[Mapping[str, Any], int, OAuthError, Slip | Fault]] = {
    "no grant_type": ({"grant_type": None}, 400, INVALID_REQUEST, Slip.NO_GRANT_TYPE),
    "an empty grant_type": ({"grant_type": ""}, 400, INVALID_REQUEST, Slip.NO_GRANT_TYPE),
    "a code": ({"grant_type": "authorization_code"}, 400, OAuthError.UNSUPPORTED_GRANT_TYPE, Slip.GRANT_TYPE),
    "a password": ({"grant_type": "password"}, 400, OAuthError.UNSUPPORTED_GRANT_TYPE, Slip.GRANT_TYPE),
    "other case": ({"grant_type": "Client_Credentials"}, 400, OAuthError.UNSUPPORTED_GRANT_TYPE, Slip.GRANT_TYPE),
    "no assertion": ({"client_assertion": None}, 401, INVALID_CLIENT, Slip.NO_ASSERTION),
    "an empty assertion": ({"client_assertion": ""}, 401, INVALID_CLIENT, Slip.NO_ASSERTION),
    "only a secret": (
        {"client_assertion": None, "client_id": PARTNER, "client_secret": "x"},
        401,
        INVALID_CLIENT,
        Slip.NO_ASSERTION,
    ),
    "a secret beside it": ({"client_secret": "x"}, 400, INVALID_REQUEST, Slip.TWO_METHODS),
    "no assertion type": ({"client_assertion_type": None}, 401, INVALID_CLIENT, Slip.METHOD),
    "a SAML assertion": (
        {"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"},
        401,
        INVALID_CLIENT,
        Slip.METHOD,
    ),
    "another client_id": ({"client_id": "viewonly"}, 401, INVALID_CLIENT, Slip.OTHER_CLIENT),
    "a bad signature": ({"client_assertion": BAD_KEY}, 401, INVALID_CLIENT, Fault.SIGNATURE),
    "an unknown partner": (
        {"client_assertion": assertion(claims=assertion_claims(iss="stranger", sub="stranger"))},
        401,
        INVALID_CLIENT,
        Fault.ISSUER,
    ),
    "an expired assertion": (
        {"client_assertion": assertion(claims=assertion_claims(exp=SECONDS, iat=SECONDS - 60))},
        401,
        INVALID_CLIENT,
        Fault.EXPIRED,
    ),
    "an access token": (
        {"client_assertion": press().issue(PARTNER, Scopes.read("system/Appointment.r"), NOW, "j").text},
        401,
        INVALID_CLIENT,
        Fault.TYPE,
    ),
    "an unknown scope": ({"scope": "openid"}, 400, OAuthError.INVALID_SCOPE, Slip.SCOPE),
    "a wildcard": ({"scope": "system/Appointment.* system/*.cruds"}, 400, OAuthError.INVALID_SCOPE, Slip.SCOPE),
}


@pytest.mark.parametrize(("changes", "status", "error", "reason"), REFUSED.values(), ids=REFUSED)
async def test_a_bad_request_is_refused_in_the_words_of_the_rfc(
    changes: Mapping[str, Any], status: int, error: OAuthError, reason: Slip | Fault
) -> None:
    answer = await Desk().ask(**changes)
    assert isinstance(answer, TokenRefused)
    assert answer.reason is reason
    _assert_refused(respond(answer), status, error)


def _assert_refused(response: web.Response, status: int, error: OAuthError) -> None:
    assert response.status == status
    assert isinstance(response.body, bytes)
    content = json.loads(response.body)
    assert set(content) == {"error", "error_description"}
    assert content["error"] == error
    assert response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Pragma"] == "no-cache"
    assert ("WWW-Authenticate" in response.headers) == (status == 401)


@pytest.mark.parametrize("name", ["grant_type", "client_assertion", "client_assertion_type", "scope", "resource"])
async def test_a_parameter_given_twice_is_an_invalid_request(name: str) -> None:
    pairs = [*form(scope="system/Appointment.r", resource="a").items(), (name, "x")]
    answer = await Desk().send(pairs)
    assert isinstance(answer, TokenRefused)
    assert (answer.error, answer.reason) == (INVALID_REQUEST, Slip.REPEATED)


@pytest.mark.parametrize(
    ("authorization", "scheme"),
    [("Basic c3dpZnRib29rOng=", "Basic"), ("basic x", "Basic"), ("Bearer x", "Bearer"), ("", "Bearer")],
)
async def test_an_authorization_header_authenticates_no_client(authorization: str, scheme: str) -> None:
    desk = Desk()
    answer = await desk.ask(authorization)
    response = respond(answer)
    _assert_refused(response, 401, INVALID_CLIENT)
    assert response.headers["WWW-Authenticate"].startswith(f"{scheme} realm=")
    assert desk.seen.remembered == []


async def test_everything_about_an_assertion_gets_one_answer() -> None:
    answers = [respond(await Desk().ask(**changes)) for changes, status, *_ in REFUSED.values() if status == 401]
    assert len({(answer.status, answer.body, tuple(answer.headers.items())) for answer in answers}) == 1


async def test_a_suspended_partner_is_told_so_once_its_assertion_is_proven() -> None:
    desk = Desk(partners={PARTNER: registered(suspended=True)})
    answer = await desk.ask(scope="openid")
    assert isinstance(answer, TokenRefused)
    assert (answer.partner, answer.reason) == (PARTNER, Slip.SUSPENDED)
    assert answer.assertion is not None
    _assert_refused(respond(answer), 400, OAuthError.UNAUTHORIZED_CLIENT)
    unproven = await desk.ask(client_assertion=BAD_KEY)
    assert isinstance(unproven, TokenRefused)
    assert unproven.error is INVALID_CLIENT
    assert unproven.partner is None


async def test_a_suspended_partner_uses_none_of_its_rate() -> None:
    desk = Desk(partners={PARTNER: registered(suspended=True)})
    await desk.ask()
    assert desk.rates.asked == []


async def test_a_partner_taken_out_of_the_grants_is_unknown_at_once() -> None:
    desk = Desk()
    assert isinstance(await desk.ask(), TokenIssued)
    desk.partners.clear()
    again = await desk.ask(client_assertion=assertion(claims=assertion_claims(jti="next")))
    assert isinstance(again, TokenRefused)
    assert again.reason is Fault.ISSUER


async def test_a_used_up_rate_says_when_to_come_back() -> None:
    answer = await Desk(rates=Rates(left=0)).ask(scope="openid")
    response = respond(answer)
    assert isinstance(answer, TokenRefused)
    assert (answer.partner, answer.reason) == (PARTNER, Slip.RATE)
    _assert_refused(response, 429, OAuthError.TEMPORARILY_UNAVAILABLE)
    assert response.headers["Retry-After"] == "7"


async def test_a_wait_of_less_than_a_second_is_one() -> None:
    assert respond(await Desk(rates=Rates(left=0, seconds=0)).ask()).headers["Retry-After"] == "1"


async def test_unproven_requests_use_nobodys_rate() -> None:
    desk = Desk()
    await desk.ask(client_assertion=BAD_KEY)
    assert desk.rates.asked == []


async def test_without_the_state_store_no_token_is_issued() -> None:
    desk = Desk(seen=Seen(down=True))
    answer = await desk.ask()
    response = respond(answer)
    assert isinstance(answer, TokenRefused)
    assert answer.reason is Slip.STATE
    _assert_refused(response, 503, OAuthError.TEMPORARILY_UNAVAILABLE)
    assert int(response.headers["Retry-After"]) > 0


async def test_an_assertion_gets_one_token() -> None:
    desk = Desk()
    assert isinstance(await desk.ask(), TokenIssued)
    again = await desk.ask()
    assert isinstance(again, TokenRefused)
    assert (again.error, again.reason, again.partner) == (INVALID_CLIENT, Fault.REPLAYED, None)


async def test_no_answer_repeats_what_was_sent() -> None:
    secret = "9434765919"
    sent = assertion(claims=assertion_claims(sub=secret, jti=secret))
    for changes in ({"client_assertion": sent}, {"scope": secret}, {"grant_type": secret}, {"client_id": secret}):
        assert secret not in json.dumps(body(await Desk().ask(**changes)))


ORDER = (
    ({"grant_type": None}, Slip.NO_GRANT_TYPE),
    ({"client_assertion": BAD_KEY}, Fault.SIGNATURE),
    ({"client_id": "viewonly"}, Slip.OTHER_CLIENT),
    ({"scope": "openid"}, Slip.SCOPE),
)


@pytest.mark.parametrize(("first", "second"), tuple(pairwise(ORDER)), ids=lambda pair: str(pair[1]))
async def test_of_two_faults_the_first_in_order_answers(first: Any, second: Any) -> None:
    answer = await Desk().ask(**{**second[0], **first[0]})
    assert isinstance(answer, TokenRefused)
    assert answer.reason is first[1]


@pytest.mark.parametrize("error", OAuthError)
def test_every_error_has_a_status_and_advice(error: OAuthError) -> None:
    response = respond(TokenRefused(error, Slip.NOT_A_FORM))
    assert response.status in {400, 401, 503}


def test_an_answer_never_shows_the_token_in_its_repr() -> None:
    issued = press().issue(PARTNER, Scopes(), NOW, "j")
    assert issued.text not in repr(replace(issued, jti="k"))


# The form.

FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("kind", [FORM, FORM.upper(), f"{FORM}; charset=utf-8", f'{FORM};charset="UTF-8"'])
def test_a_form_is_read_into_pairs(kind: str) -> None:
    pairs = read_form(kind, b"a=1&b=x%20y+z%2B&a=%C3%A9&c=&d&&e==")
    assert pairs == (("a", "1"), ("b", "x y z+"), ("a", "é"), ("c", ""), ("d", ""), ("e", "="))


def test_a_form_may_have_32_fields() -> None:
    pairs = read_form(FORM, b"&".join(b"a%d=1" % n for n in range(32)))
    assert isinstance(pairs, tuple)
    assert len(pairs) == 32


def test_an_empty_form_has_no_pairs() -> None:
    assert read_form(FORM, b"") == ()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        pytest.param(None, b"a=1", id="no content type"),
        pytest.param("application/json", b"{}", id="JSON"),
        pytest.param("multipart/form-data", b"a=1", id="multipart"),
        pytest.param(f"{FORM}; charset=utf-16", b"a=1", id="another charset"),
        pytest.param(f"{FORM}, {FORM}", b"a=1", id="two content types"),
        pytest.param(FORM, b"a=%zz", id="a broken escape"),
        pytest.param(FORM, b"a=%4", id="an escape cut short"),
        pytest.param(FORM, b"a=%ff", id="an escape that is not UTF-8"),
        pytest.param(FORM, "a=é".encode(), id="bytes that are not ASCII"),
        pytest.param(FORM, b"a=1 2", id="a bare space"),
        pytest.param(FORM, b"a=1\r\nb=2", id="a line break"),
        pytest.param(FORM, b"&".join(b"a%d=1" % n for n in range(33)), id="too many"),
    ],
)
def test_what_is_no_form_is_an_invalid_request(kind: str | None, data: bytes) -> None:
    refused = read_form(kind, data)
    assert isinstance(refused, TokenRefused)
    assert (refused.error, refused.reason) == (INVALID_REQUEST, Slip.NOT_A_FORM)
