"""The verb `token`, against a small token server on a real socket."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from gateway.cli.token import make_assertion, token
from gateway.partner.access_tokens import AccessTokens, Identity
from gateway.partner.assertions import Proven, prove
from gateway.partner.keys import ALGORITHMS
from gateway.partner.token_endpoint import TokenEndpoint, read_form, respond
from tests.edges.tokens import (
    KIND_OF,
    NOW,
    PARTNER,
    PUBLIC_URL,
    SECONDS,
    TOKEN_URL,
    Seen,
    pem,
    press,
    private_key,
    registered,
)


@contextmanager
def serving(handler: Any) -> Iterator[str]:
    """`handler` on a free port, in a thread of its own because the verb starts its own event loop."""
    ready, loop, address = Event(), asyncio.new_event_loop(), []
    stop = asyncio.Event()

    async def run() -> None:
        runner = web.ServerRunner(web.Server(handler))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address.append(f"http://127.0.0.1:{runner.addresses[0][1]}/oauth2/token")
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    ready.wait(10)
    try:
        yield address[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def sandbox(folder: Path, token_url: str, **changes: Any) -> Path:
    entry = {
        "client_id": PARTNER,
        "private_key_file": "swiftbook.pem",
        "kid": "k1",
        "alg": "ES256",
        "token_url": token_url,
        "access_token": "x",
        **changes,
    }
    (folder / "swiftbook.pem").write_text(pem(private_key(number=1)))
    path = folder / "sandbox.json"
    path.write_text(json.dumps({"gateway_url": "http://x", "partners": {PARTNER: entry}}))
    return path


def run(path: Path, partner: str = PARTNER) -> Result:
    return CliRunner().invoke(token, ["--sandbox", str(path), "--partner", partner])


async def no_wait(_partner: str) -> None:
    return None


def test_it_prints_an_unused_assertion_and_a_good_access_token(tmp_path: Path) -> None:
    seen = Seen()

    async def handler(request: web.BaseRequest) -> web.Response:
        pairs = read_form(request.headers.get("Content-Type"), await request.read())
        assert isinstance(pairs, tuple)
        endpoint = TokenEndpoint(str(request.url), press(), {PARTNER: registered()}.get, seen, no_wait)
        return respond(await endpoint.answer(pairs, request.headers.get("Authorization"), datetime.now(UTC), "t"))

    with serving(handler) as url:
        result = run(sandbox(tmp_path, url))
    assert result.exit_code == 0, result.output
    assertion, access_token = (line for line in result.output.splitlines() if line.startswith("eyJ"))
    assert len(seen.remembered) == 1
    proven = asyncio.run(prove(assertion, url, {PARTNER: registered()}.get, seen, datetime.now(UTC)))
    assert isinstance(proven, Proven)
    verifier = AccessTokens({PUBLIC_URL: press().issuer()}, lambda _issuer, name: name)
    assert isinstance(verifier.verify(f"Bearer {access_token}", datetime.now(UTC)), Identity)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_assertion_is_made_with_every_algorithm(algorithm: str) -> None:
    kind = KIND_OF[algorithm]
    private = pem(private_key(kind, 1))
    made = make_assertion(PARTNER, private, "k1", algorithm, TOKEN_URL, now=SECONDS, jti="j")
    known = {PARTNER: registered(kind=kind)}
    assert isinstance(asyncio.run(prove(made, TOKEN_URL, known.get, Seen(), NOW)), Proven)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        pytest.param("no key", "ES256", id="no key"),
        pytest.param(pem(private_key()), "RS256", id="another kind of key"),
        pytest.param(pem(private_key()), "ES384", id="another curve"),
        pytest.param(pem(private_key()), "HS256", id="a shared secret's algorithm"),
        pytest.param(pem(private_key(), b"locked"), "ES256", id="a locked key"),
    ],
)
def test_a_key_that_does_not_fit_makes_no_assertion(key: str, algorithm: str) -> None:
    with pytest.raises(ValueError, match=r"alg must be|cannot sign"):
        make_assertion(PARTNER, key, "k1", algorithm, TOKEN_URL, now=SECONDS, jti="j")


def _says(result: Result, words: str) -> None:
    assert result.exit_code == 1
    assert words in result.output
    assert "Traceback" not in result.output


def test_it_says_when_no_gateway_answers(tmp_path: Path) -> None:
    _says(run(sandbox(tmp_path, "http://127.0.0.1:1/oauth2/token")), "Is the sandbox running?")


def test_it_says_when_the_address_is_none(tmp_path: Path) -> None:
    _says(run(sandbox(tmp_path, "nowhere")), "Is the sandbox running?")


def test_it_says_what_the_gateway_refused(tmp_path: Path) -> None:
    async def refuse(_: web.BaseRequest) -> web.Response:
        return web.json_response({"error": "invalid_client", "error_description": "Sign anew."}, status=401)

    with serving(refuse) as url:
        _says(run(sandbox(tmp_path, url)), "answered 401: invalid_client Sign anew.")


@pytest.mark.parametrize(
    "answer", [("<html>", 200), ("[]", 200), ('{"access_token": 7}', 200), ('{"access_token": "x"}', 500)]
)
def test_it_says_when_something_else_answers(tmp_path: Path, answer: tuple[str, int]) -> None:
    async def other(_: web.BaseRequest) -> web.Response:
        return web.Response(text=answer[0], status=answer[1])

    with serving(other) as url:
        _says(run(sandbox(tmp_path, url)), f"answered {answer[1]}")


def test_it_follows_no_redirect(tmp_path: Path) -> None:
    asked: list[str] = []

    async def redirect(request: web.BaseRequest) -> web.Response:
        asked.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    with serving(redirect) as url:
        _says(run(sandbox(tmp_path, url)), "answered 307")
    assert asked == ["/oauth2/token"]


def test_it_names_the_partners_there_are(tmp_path: Path) -> None:
    _says(run(sandbox(tmp_path, "http://127.0.0.1:1/"), "stranger"), "There is: swiftbook.")


def test_it_says_when_there_is_no_sandbox_file(tmp_path: Path) -> None:
    _says(run(tmp_path / "sandbox.json"), "Cannot read")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"partners": {"swiftbook": {}}}', "\x00"])
def test_it_says_when_a_file_is_no_sandbox_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sandbox.json"
    path.write_text(text)
    _says(run(path), "is not a sandbox.json")


def test_it_says_when_the_key_file_is_gone(tmp_path: Path) -> None:
    _says(run(sandbox(tmp_path, "http://127.0.0.1:1/", private_key_file="gone.pem")), "Cannot read the private key")


def test_it_says_when_the_key_file_is_none(tmp_path: Path) -> None:
    path = sandbox(tmp_path, "http://127.0.0.1:1/")
    (tmp_path / "swiftbook.pem").write_text("ñ")
    _says(run(path), "swiftbook.pem")
