"""`pkb-gateway selftest`: the harmless attacks against a deployment, with a table of how it stood them."""

import asyncio
import contextlib
import json
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn

from gateway.cli import tables
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
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of a table.")
def selftest(url: str, token_file: Path | None, *, as_json: bool) -> None:
    """Attack a deployment in ways that change nothing and need no grant; exit 1 if it falls for any."""
    token = "" if token_file is None else token_file.read_text(encoding="utf-8").strip()
    parts = _checked(url)
    try:
        with _bar() as advance:
            judged = asyncio.run(_run(parts, token, advance))
    except (OSError, ValueError, LookupError) as error:
        raise click.ClickException(f"{url} did not answer as a gateway does: {error}") from error
    _tell_json(judged) if as_json else _print(judged)
    sys.exit(1 if any(wrong for _, wrong in judged) else 0)


def _checked(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"} or parts.query:
        raise click.BadParameter(
            "write an address without a path, such as https://gateway.example", param_hint="--against"
        )
    return parts


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many attacks are over; what it gives is told of each how many there are."""
    with Progress(
        "attacking", BarColumn(), TaskProgressColumn(),
        console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("", total=None)

        def advance(total: int) -> None:
            bar.update(task, total=total, advance=1)

        yield advance


async def _run(parts: SplitResult, token: str, advance: Callable[[int], None]) -> Judged:
    place = await _place(parts, token)
    room = asyncio.Semaphore(AT_ONCE)

    chosen = [vector for vector in harmless().vectors if token or not vector.authenticated]

    async def judge(vector: Vector) -> tuple[Vector, Sequence[str]]:
        async with room:
            try:
                return vector, complaints(vector, await send(vector, place))
            except OSError as error:
                return vector, [f"no connection: {error.strerror or type(error).__name__}"]
            finally:
                advance(len(chosen))

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
    rows = []
    for family, about in harmless().families.items():
        mine = [(vector, wrong) for vector, wrong in judged if vector.family == family]
        if mine:
            rows.append((about, f"{sum(not wrong for _, wrong in mine)} of {len(mine)}"))
    tables.show(("attack", "withstood"), rows)
    for vector, wrong in judged:
        if wrong:
            click.echo(f"{vector.name}: {'; '.join(wrong)}")
    click.echo(f"{sum(not wrong for _, wrong in judged)} of {len(judged)} attacks withstood")


def _tell_json(judged: Judged) -> None:
    fallen = [{"attack": vector.name, "family": vector.family, "but": list(wrong)} for vector, wrong in judged if wrong]
    tables.echo_json(
        {"ok": not fallen, "attacks": len(judged), "withstood": len(judged) - len(fallen), "fallen_for": fallen}
    )
