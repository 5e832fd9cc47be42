"""PKB's other token server, for the Facade and Messaging endpoints. Its tokens open no box and nothing aggregated."""

import base64
import binascii
import hmac
import secrets
import uuid
from typing import Final
from urllib.parse import parse_qs

from aiohttp import web

from gateway.simulator.customers import CLIENTS
from gateway.simulator.faults import Answer, Faults, hang_up, play

PATH: Final = "/api/oauth/token"
LIFETIME: Final = 3599  # seconds


async def answer(request: web.Request, faults: Faults) -> web.Response:
    """`POST` to the token endpoint: a Basic header and `grant_type=client_credentials`."""
    body = await request.read()
    fault = faults.take("token", write=False, customers=frozenset())
    played = await play(fault, request, lambda: Answer(_grant(request, body)))
    return hang_up(request) if played.response is None else played.response


def _grant(request: web.Request, body: bytes) -> web.Response:
    name, _, secret = _basic(request).partition(":")
    client = CLIENTS.get(name)
    if client is None or not hmac.compare_digest(client.client_secret.encode(), secret.encode()):
        return _error(401, "unauthorized", "Full authentication is required to access this resource")
    if parse_qs(body.decode("utf-8", "replace")).get("grant_type") != ["client_credentials"]:
        return _error(400, "unsupported_grant_type", "Unsupported grant type")
    members = {
        "access_token": secrets.token_urlsafe(24),
        "token_type": "bearer",
        "expires_in": LIFETIME,
        "scope": "none",
        "client_name": client.client_id,
        "jti": str(uuid.uuid4()),
    }
    return web.json_response(members, headers={"Cache-Control": "no-store"})


def _basic(request: web.Request) -> str:
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    try:
        return base64.b64decode(rest, validate=True).decode("utf-8") if scheme.lower() == "basic" else ""
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _error(status: int, error: str, description: str) -> web.Response:
    return web.json_response({"error": error, "error_description": description}, status=status)
