"""Requests for access tokens, each with a signed assertion of its own."""

import secrets
import time
from pathlib import Path
from urllib.parse import urlencode

from bench.speed.keys import ISSUER, PARTNER
from gateway.cli.token import make_assertion
from gateway.partner.keys import read_signing_keys
from gateway.partner.token_endpoint import ASSERTION_TYPE, CLIENT_CREDENTIALS


def requests(folder: Path, count: int) -> list[str]:
    """So many, signed with the partner's key in this folder."""
    pem = (folder / "partner.pem").read_text(encoding="ascii")
    kid, now = read_signing_keys(pem).first.kid, time.time()
    url = f"{ISSUER}/oauth2/token"
    return [
        _request(make_assertion(PARTNER, pem, kid, "ES256", url, now=now, jti=secrets.token_hex(16)))
        for _ in range(count)
    ]


def _request(assertion: str) -> str:
    form = {
        "grant_type": CLIENT_CREDENTIALS,
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion,
    }
    body = urlencode(form)
    return (
        "POST /oauth2/token HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )
