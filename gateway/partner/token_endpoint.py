"""`POST /oauth2/token`: client credentials with `private_key_jwt`, answered as RFC 6749 §5 says."""

import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal, assert_never
from urllib.parse import unquote_plus

from aiohttp import web

from gateway.flow.ports import StateUnavailable
from gateway.partner.access_tokens import IssuedToken, Scopes, TokenPress
from gateway.partner.assertions import Proven, Registered, SeenAssertions, prove
from gateway.partner.jwt_checks import Fault

PATH: Final = "/oauth2/token"
CLIENT_CREDENTIALS: Final = "client_credentials"
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
DEFAULT_SCOPES: Final = Scopes.read("system/Appointment.rus")
FIELDS: Final = 32
"""Parameters in a form; more is no token request."""
RETRY_AFTER: Final = 5
"""Seconds, when the state store cannot answer."""

_FORM: Final = "application/x-www-form-urlencoded"
_ENCODED: Final = re.compile(r"(?:[^%\x00-\x20\x7f-\U0010ffff]|%[0-9A-Fa-f]{2})*")

Pairs = Sequence[tuple[str, str]]


class OAuthError(StrEnum):
    """RFC 6749 §5.2, and `temporarily_unavailable` of §4.1.2.1."""

    INVALID_REQUEST = "invalid_request"
    INVALID_CLIENT = "invalid_client"
    UNAUTHORIZED_CLIENT = "unauthorized_client"
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
    INVALID_SCOPE = "invalid_scope"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"


class Slip(StrEnum):
    """What was wrong with a request apart from its assertion. For the audit."""

    NOT_A_FORM = "not-a-form"
    QUERY = "query-parameters"
    REPEATED = "parameter-repeated"
    NO_GRANT_TYPE = "grant-type-missing"
    GRANT_TYPE = "grant-type-unsupported"
    TWO_METHODS = "two-authentication-methods"
    METHOD = "authentication-method"
    NO_ASSERTION = "assertion-missing"
    OTHER_CLIENT = "client-id-differs"
    SUSPENDED = "partner-suspended"
    RATE = "rate-limited"
    SCOPE = "scope-unknown"
    STATE = "state-unavailable"


@dataclass(frozen=True, slots=True)
class TokenIssued:
    """A token was made for `partner`, which proved itself with `assertion`."""

    partner: str
    token: IssuedToken
    assertion: Proven


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """`reason` is for the audit. `partner` and `assertion` are set once proven; `retry_after` is in seconds."""

    error: OAuthError
    reason: Slip | Fault
    partner: str | None = None
    assertion: Proven | None = None
    retry_after: int | None = None
    scheme: Literal["Basic", "Bearer"] = "Bearer"
    """What the answer to `invalid_client` challenges with; RFC 6749 §5.2: the scheme the client tried."""


TokenAnswer = TokenIssued | TokenRefused

STATUSES: Final[Mapping[OAuthError, int]] = {
    OAuthError.INVALID_REQUEST: 400,
    OAuthError.INVALID_CLIENT: 401,
    OAuthError.UNAUTHORIZED_CLIENT: 400,
    OAuthError.UNSUPPORTED_GRANT_TYPE: 400,
    OAuthError.INVALID_SCOPE: 400,
    OAuthError.TEMPORARILY_UNAVAILABLE: 503,
}

_ADVICE: Final[Mapping[OAuthError, str]] = {
    OAuthError.INVALID_REQUEST: (
        f"Send a form ({_FORM}) with grant_type, client_assertion_type and client_assertion, each once, "
        "no query, and no other means of authentication."
    ),
    OAuthError.INVALID_CLIENT: (
        "The client assertion was not accepted. Sign a new one for every request, with a registered key: "
        "iss and sub your partner id, aud this URL, a new jti, exp at most five minutes ahead."
    ),
    OAuthError.UNAUTHORIZED_CLIENT: "This partner is suspended. Ask the operator of the gateway.",
    OAuthError.UNSUPPORTED_GRANT_TYPE: f"Only grant_type={CLIENT_CREDENTIALS} is supported.",
    OAuthError.INVALID_SCOPE: "Ask for system/Appointment. and letters of cruds in this order, or for no scope.",
    OAuthError.TEMPORARILY_UNAVAILABLE: "No token can be issued now. Try again after the time in Retry-After.",
}


def read_form(content_type: str | None, body: bytes) -> Pairs | TokenRefused:
    """The parameters of a form in UTF-8; those without a value count as left out (RFC 6749 §3.2)."""
    refused = TokenRefused(OAuthError.INVALID_REQUEST, Slip.NOT_A_FORM)
    media, _, parameters = (content_type or "").lower().partition(";")
    if media.strip() != _FORM or parameters.replace('"', "").strip() not in {"", "charset=utf-8"}:
        return refused
    try:
        fields = [field for field in body.decode("ascii").split("&") if field]
        if len(fields) > FIELDS or not all(_ENCODED.fullmatch(field) for field in fields):
            return refused
        split = [field.partition("=") for field in fields]
        return tuple((_decoded(name), _decoded(value)) for name, _, value in split)
    except UnicodeDecodeError:
        return refused


def _decoded(part: str) -> str:
    return unquote_plus(part, errors="strict")


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """What is needed to answer a token request.

    `registered` is asked afresh on every request, so that a reloaded grants file counts at once.
    `wait` takes one request from a partner's rate: None, or the seconds to wait when it is used up.
    """

    token_url: str
    press: TokenPress
    registered: Callable[[str], Registered | None]
    seen: SeenAssertions
    wait: Callable[[str], Awaitable[int | None]]

    async def answer(
        self, pairs: Pairs, authorization: str | None, now: datetime, jti: str, deadline: float = math.inf
    ) -> TokenAnswer:
        """The answer to a form; `jti` names the token, should one be issued. Never raises for bad input.

        Nobody is waited for beyond `deadline`, a time of the event loop.
        """
        form = {name: value for name, value in pairs if value}
        refused = _request_fault(pairs, form) or _method_fault(form, authorization)
        if refused is not None:
            return refused
        try:
            proven = await prove(form["client_assertion"], self.token_url, self.registered, self.seen, now, deadline)
        except StateUnavailable:
            return TokenRefused(OAuthError.TEMPORARILY_UNAVAILABLE, Slip.STATE, retry_after=RETRY_AFTER)
        if isinstance(proven, Fault):
            return TokenRefused(OAuthError.INVALID_CLIENT, proven)
        return await self._answer_partner(proven, form, now, jti)

    async def _answer_partner(self, proven: Proven, form: Mapping[str, str], now: datetime, jti: str) -> TokenAnswer:
        partner = proven.registered.partner
        if form.get("client_id", partner) != partner:
            return TokenRefused(OAuthError.INVALID_CLIENT, Slip.OTHER_CLIENT, partner, proven)
        if proven.registered.suspended:
            return TokenRefused(OAuthError.UNAUTHORIZED_CLIENT, Slip.SUSPENDED, partner, proven)
        seconds = await self.wait(partner)
        if seconds is not None:
            error = OAuthError.TEMPORARILY_UNAVAILABLE
            return TokenRefused(error, Slip.RATE, partner, proven, retry_after=max(1, seconds))
        scopes = Scopes.read(form["scope"]) if "scope" in form else DEFAULT_SCOPES
        if not scopes.known:
            return TokenRefused(OAuthError.INVALID_SCOPE, Slip.SCOPE, partner, proven)
        return TokenIssued(partner, self.press.issue(partner, scopes, now, jti), proven)


def _request_fault(pairs: Pairs, form: Mapping[str, str]) -> TokenRefused | None:
    if any(count > 1 for count in Counter(name for name, _ in pairs).values()):
        return TokenRefused(OAuthError.INVALID_REQUEST, Slip.REPEATED)
    if "grant_type" not in form:
        return TokenRefused(OAuthError.INVALID_REQUEST, Slip.NO_GRANT_TYPE)
    if form["grant_type"] != CLIENT_CREDENTIALS:
        return TokenRefused(OAuthError.UNSUPPORTED_GRANT_TYPE, Slip.GRANT_TYPE)
    return None


def _method_fault(form: Mapping[str, str], authorization: str | None) -> TokenRefused | None:
    """Whether the client tried any authentication but an assertion in the form."""
    if authorization is not None:
        basic = authorization.partition(" ")[0].lower() == "basic"
        scheme: Literal["Basic", "Bearer"] = "Basic" if basic else "Bearer"
        return TokenRefused(OAuthError.INVALID_CLIENT, Slip.METHOD, scheme=scheme)
    if "client_secret" in form and "client_assertion" in form:
        return TokenRefused(OAuthError.INVALID_REQUEST, Slip.TWO_METHODS)
    if "client_assertion" not in form:
        return TokenRefused(OAuthError.INVALID_CLIENT, Slip.NO_ASSERTION)
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        return TokenRefused(OAuthError.INVALID_CLIENT, Slip.METHOD)
    return None


def respond(answer: TokenAnswer) -> web.Response:
    """RFC 6749 §5.1 and §5.2 on the wire."""
    headers = {"Cache-Control": "no-store", "Pragma": "no-cache"}
    match answer:
        case TokenIssued(token=token):
            body: dict[str, str | int] = {
                "access_token": token.text,
                "token_type": "bearer",
                "expires_in": token.lifetime,
                "scope": str(token.scopes),
            }
            return web.json_response(body, headers=headers)
        case TokenRefused(error=error):
            status = 429 if answer.reason is Slip.RATE else STATUSES[error]
            if answer.retry_after is not None:
                headers["Retry-After"] = str(answer.retry_after)
            if status == 401:
                headers["WWW-Authenticate"] = f'{answer.scheme} realm="pkb-gateway"'
            content = {"error": error.value, "error_description": _ADVICE[error]}
            return web.json_response(content, status=status, headers=headers)
        case _:
            assert_never(answer)
