"""`pkb-gateway selftest`: the harmless attacks against a deployment, with a table of how it stood them."""

import asyncio
import json
import ssl
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import click
from rich.console import Console
from rich.table import Table

from gateway.selftest.judging import complaints
from gateway.selftest.sending import Place, send
from gateway.selftest.vectors import Vector, harmless
from gateway.selftest.words import NOBODY, sign, words

AT_ONCE: Final = 4
"""Connections at a time: a test, not a flood."""

Judged = Sequence[tuple[Vector, Sequence[str]]]


@click.command()
@click.option(
    "--against", "url", metavar="URL", required=True, help="Where partners reach the gateway, without a path."
)
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An access token to send with the attacks. It is sent to the gateway only, and needs no grant.",
)
def selftest(url: str, token_file: Path | None) -> None:
    """Attack a deployment in ways that change nothing and need no grant; exit 1 if it falls for any."""
    token = "" if token_file is None else token_file.read_text(encoding="utf-8").strip()
    parts = _checked(url)
    try:
        judged = asyncio.run(_run(parts, token))
    except (OSError, ValueError, LookupError) as error:
        raise click.ClickException(f"{url} did not answer as a gateway does: {error}") from error
    _print(judged)
    sys.exit(1 if any(wrong for _, wrong in judged) else 0)


def _checked(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"} or parts.query:
        raise click.BadParameter(
            "write an address without a path, such as https://gateway.example", param_hint="--against"
        )
    return parts


async def _run(parts: SplitResult, token: str) -> Judged:
    place = await _place(parts, token)
    room = asyncio.Semaphore(AT_ONCE)

    async def judge(vector: Vector) -> tuple[Vector, Sequence[str]]:
        async with room:
            try:
                return vector, complaints(vector, await send(vector, place))
            except OSError as error:
                return vector, [f"no connection: {error.strerror or type(error).__name__}"]

    chosen = [vector for vector in harmless().vectors if token or not vector.authenticated]
    return await asyncio.gather(*(judge(vector) for vector in chosen))


async def _place(parts: SplitResult, token: str) -> Place:
    """Ask the deployment who it is. Raises OSError, ValueError and LookupError."""
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if tls else 80)
    place = Place(str(parts.hostname), port, {"host": parts.netloc}, sign, tls)
    (key, *_) = (await _fetch(place, "/.well-known/jwks.json"))["keys"]
    told = await _fetch(place, f"/{NOBODY}/fhir/.well-known/smart-configuration")
    return replace(place, words=words(parts.netloc, str(told["issuer"]), key, token, datetime.now(UTC)))


async def _fetch(place: Place, target: str) -> Mapping[str, Any]:
    heard = await send(Vector(name=target, family="", expect=("200",), target=target, token=""), place)
    if [answer.status for answer in heard.answers] != [200]:
        raise ValueError(f"{target} is not served there")
    found: Mapping[str, Any] = json.loads(heard.answers[0].body)
    return found


def _print(judged: Judged) -> None:
    told = harmless().families
    table = Table("attack", "withstood", "but")
    for family, about in told.items():
        mine = [(vector, wrong) for vector, wrong in judged if vector.family == family]
        stood = sum(not wrong for _, wrong in mine)
        but = "\n".join(f"{vector.name}: {'; '.join(wrong)}" for vector, wrong in mine if wrong)
        if not mine:
            continue
        table.add_row(about, f"{stood} of {len(mine)}", but)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    stood = sum(not wrong for _, wrong in judged)
    console.print(f"{stood} of {len(judged)} attacks withstood")
