"""PKB's identity server for Customer and Aggregated endpoints: a Keycloak realm, client credentials only.

A token is issued to every known client, whatever it may call; there is never a refresh token.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import datetime
from typing import Final
from urllib.parse import parse_qs, unquote

from aiohttp import web

from gateway.simulator.customers import CLIENTS, Client
from gateway.simulator.faults import Answer, Faults, hang_up, play

REALM: Final = "/auth/realms/pkb"
HEADER: Final = b'{"alg":"HS256","typ":"JWT"}'
PATH: Final = f"{REALM}/protocol/openid-connect/token"


class TokenServer:
    """Issues tokens and knows them again. They outlive every reset."""

    def __init__(self, lifetime: int, clock: Callable[[], datetime], key: bytes) -> None:
        self.issued = 0
        self._lifetime = lifetime  # seconds
        self._clock = clock
        self._key = key
        self._known: dict[str, tuple[Client, float]] = {}

    def client_of(self, token: str) -> Client | None:
        """Whose token it is; None for an unknown or an expired one."""
        client, expires = self._known.get(token, (None, 0.0))
        return client if self._clock().timestamp() < expires else None

    def revoke(self) -> None:
        """Forget every token, as a restarted identity server does."""
        self._known.clear()

    async def answer(self, request: web.Request, faults: Faults) -> web.Response:
        """`POST` to the token endpoint."""
        body = await request.read()
        fault = faults.take("token", write=False, customers=frozenset())
        answer = await play(fault, request, lambda: Answer(self._grant(request, body)))
        return hang_up(request) if answer.response is None else answer.response

    def _grant(self, request: web.Request, body: bytes) -> web.Response:
        if request.content_type != "application/x-www-form-urlencoded":
            return _error(400, "invalid_request", "The body must be a form")
        form = {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        if "grant_type" not in form:
            return _error(400, "invalid_request", "Missing form parameter: grant_type")
        if form["grant_type"] != "client_credentials":
            return _error(400, "unsupported_grant_type", "Unsupported grant_type")
        name, secret = _basic(request) or (form.get("client_id", ""), form.get("client_secret", ""))
        client = CLIENTS.get(name)
        if client is None or not hmac.compare_digest(client.client_secret.encode(), secret.encode()):
            return _error(401, "invalid_client", "Invalid client or Invalid client credentials")
        members = {
            "access_token": self._token(client, f"{request.scheme}://{request.host}{REALM}"),
            "expires_in": self._lifetime,
            "refresh_expires_in": 0,
            "token_type": "Bearer",
            "not-before-policy": 0,
            "scope": "profile email",
        }
        return _json(200, members)

    def _token(self, client: Client, issuer: str) -> str:
        self.issued += 1
        now = self._clock().timestamp()
        roles = {f"{box}-client": {"roles": ["fhir_writer"]} for box in sorted(client.boxes)}
        claims = {
            "iss": issuer,
            "azp": client.client_id,
            "iat": int(now),
            "exp": int(now) + self._lifetime,
            "jti": str(self.issued),
            "resource_access": roles,
        }
        signed = f"{_part(HEADER)}.{_part(json.dumps(claims).encode())}"
        token = f"{signed}.{_part(hmac.digest(self._key, signed.encode(), hashlib.sha256))}"
        self._known[token] = (client, now + self._lifetime)
        return token


def _basic(request: web.Request) -> tuple[str, str] | None:
    """The credentials of a Basic header, form-encoded inside it (RFC 6749, 2.3.1)."""
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, secret = base64.b64decode(rest, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return unquote(name), unquote(secret)


def _part(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def _error(status: int, error: str, description: str) -> web.Response:
    return _json(status, {"error": error, "error_description": description})


def _json(status: int, members: dict[str, object]) -> web.Response:
    return web.json_response(members, status=status, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})
