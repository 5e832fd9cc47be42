"""`token`: an assertion and an access token of a sandbox partner, for a first try."""

import asyncio
import json
import time
import uuid
from pathlib import Path
from typing import Final

import aiohttp
import click
import jwt
from cryptography.hazmat.primitives import serialization
from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.cli.completion import sandbox_partners
from gateway.cli.tables import echo_json
from gateway.partner.keys import ALGORITHMS
from gateway.partner.token_endpoint import ASSERTION_TYPE, CLIENT_CREDENTIALS

LIFETIME: Final = 240
"""Seconds an assertion made here is good for; a minute short of what is accepted, for clocks that differ."""

PATIENCE: Final = aiohttp.ClientTimeout(total=10)
ANSWER_BYTES: Final = 64 * 1024


class SandboxPartner(BaseModel):
    """One entry of `partners` in sandbox.json, as far as needed here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    client_id: str
    private_key_file: Path
    kid: str
    alg: str
    token_url: str


class Sandbox(BaseModel):
    """sandbox.json, as far as needed here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    partners: dict[str, SandboxPartner]


def make_assertion(
    client_id: str, private_key: str, kid: str, alg: str, token_url: str, *, now: float, jti: str
) -> str:
    """A client assertion signed with a private key in PEM. `now`: seconds since the epoch.

    Raises ValueError when the key cannot be read or does not fit `alg`.
    """
    if alg not in ALGORITHMS:
        raise ValueError(f"alg must be one of {', '.join(ALGORITHMS)}")
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": token_url,
        "iat": int(now),
        "exp": int(now) + LIFETIME,
        "jti": jti,
    }
    try:
        key = serialization.load_pem_private_key(private_key.encode(), password=None)
        return jwt.encode(claims, key, algorithm=alg, headers={"kid": kid})  # type: ignore[arg-type]  # checked by PyJWT
    except (jwt.InvalidKeyError, TypeError, ValueError) as error:
        raise ValueError(f"the private key cannot sign with {alg}") from error


async def fetch_token(assertion: str, token_url: str) -> str:
    """An access token for a fresh assertion. Raises ClickException with the server's own words."""
    form = {
        "grant_type": CLIENT_CREDENTIALS,
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion,
    }
    try:
        async with (
            aiohttp.ClientSession(timeout=PATIENCE) as session,
            session.post(token_url, data=form, allow_redirects=False) as response,
        ):
            status, body = response.status, await response.content.read(ANSWER_BYTES)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise click.ClickException(f"No answer from {token_url}. Is the sandbox running?") from error
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise click.ClickException(f"{token_url} answered {status}, and not in JSON. Is this the gateway?")
    token = answer.get("access_token")
    if status != 200 or not isinstance(token, str):
        words = " ".join(str(answer[name]) for name in ("error", "error_description") if name in answer)
        raise click.ClickException(f"{token_url} answered {status}: {words}")
    return token


def read_partner(sandbox: Path, partner: str) -> SandboxPartner:
    """A partner of sandbox.json. Raises ClickException when there is none, or the file is not one."""
    try:
        read = Sandbox.model_validate_json(sandbox.read_bytes())
    except OSError as error:
        raise click.ClickException(f"Cannot read {sandbox}: {error.strerror}.") from error
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the file"
        raise click.ClickException(f"{sandbox} is not a sandbox.json: {place} is missing or wrong.") from error
    if partner not in read.partners:
        known = ", ".join(sorted(read.partners)) or "none"
        raise click.ClickException(f"No partner {partner!r} in {sandbox}. There is: {known}.")
    return read.partners[partner]


def sign_for(sandbox: Path, entry: SandboxPartner) -> str:
    """A fresh assertion of `entry`. Raises ClickException when its key file is no use."""
    path = sandbox.parent / entry.private_key_file
    try:
        private_key = path.read_text(encoding="ascii")
        return make_assertion(
            entry.client_id,
            private_key,
            entry.kid,
            entry.alg,
            entry.token_url,
            now=time.time(),
            jti=str(uuid.uuid4()),
        )
    except OSError as error:
        raise click.ClickException(f"Cannot read the private key {path}: {error.strerror}.") from error
    except ValueError as error:
        raise click.ClickException(f"{path}: {error}.") from error


@click.command("token")
@click.option(
    "--sandbox",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The sandbox.json a running sandbox wrote.",
)
@click.option("--partner", required=True, shell_complete=sandbox_partners, help="Id of one of its partners.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of lines.")
def token(sandbox: Path, partner: str, *, as_json: bool) -> None:
    """Print an assertion and an access token of a sandbox partner."""
    entry = read_partner(sandbox, partner)
    # An assertion is used up by its first use, so the one printed is not the one that fetched the token.
    access_token = asyncio.run(fetch_token(sign_for(sandbox, entry), entry.token_url))
    if as_json:
        told = {"partner": partner, "token_url": entry.token_url, "assertion": sign_for(sandbox, entry)}
        echo_json({**told, "access_token": access_token})
        return
    click.echo(f"Assertion of {partner} (good once, for {LIFETIME} seconds, at {entry.token_url}):")
    click.echo(sign_for(sandbox, entry))
    click.echo(f"\nAccess token of {partner} (send it as Authorization: Bearer ...):")
    click.echo(access_token)
