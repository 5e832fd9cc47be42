"""Gateways on files of their own beside a sandbox's PKB, with issuers and partners that publish their keys by URL."""

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.cli.token import make_assertion
from tests.edges.key_server import KeyServer
from tests.edges.tokens import jwk, pem, private_key, signed
from tests.journeys.processes import START_SECONDS, Place

AUDIENCE = "https://gateway.example"
PUBLIC_URL = "http://127.0.0.1:1"
"""Of several gateways that are one; nothing connects to it."""


@contextlib.contextmanager
def in_background(*servers: KeyServer) -> Iterator[None]:
    """Run servers in a thread of their own, so that they outlive a test's event loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        for server in servers:
            asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
        yield
    finally:
        for server in servers:
            asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def copied(place: Place, folder: Path, authentication: dict[str, str]) -> Place:
    """A sandbox's files in a folder of their own; `authentication` replaces that of some partners."""
    shutil.copytree(place.directory / "keys", folder / "keys")
    shutil.copy(place.directory / "gateway.toml", folder)
    text = place.grants.read_text(encoding="utf-8")
    for partner, entries in authentication.items():
        text = authenticated(text, partner, entries)
    (folder / "grants.toml").write_text(text, encoding="utf-8")
    files = {"config_file": str(folder / "gateway.toml"), "grants_file": str(folder / "grants.toml")}
    return Place({**place.told, **files}, place.gateway_url, place.admin_url, folder / "audit")


def authenticated(grants: str, partner: str, entries: str) -> str:
    """A grants file in which a partner proves itself otherwise."""
    text, count = re.subn(
        rf"(\[partners\.{partner}\]\n(?:.+\n)*?)authentication = .*\n",
        lambda found: f"{found[1]}authentication = [{entries}]\n",
        grants,
    )
    assert count == 1, partner
    return text


def by_url(server: KeyServer) -> str:
    return f'{{ method = "private_key_jwt", jwks_url = "{server.url}" }}'


@contextlib.contextmanager
def node(place: Place, name: str, settings: str) -> Iterator[Place]:
    """Run one of several gateways that are one under `PUBLIC_URL`: on the same files, keys above all."""
    text = Path(place.told["config_file"]).read_text(encoding="utf-8")
    for pattern, new in (
        (r"public_url = .*", f'public_url = "{PUBLIC_URL}"'),
        (r"(listen = .*port = )\d+", r"\g<1>0"),
        (r"(admin = .*port = )\d+", r"\g<1>0"),
        (r'directory = "audit"', f'directory = "{name}"'),
        (r"sqlite:///state.db", f"sqlite:///{name}.db"),
    ):
        text, count = re.subn(pattern, new, text)
        assert count == 1, pattern
    config = place.directory / f"{name}.toml"
    config.write_text(f"{text}\n{settings}\n", encoding="utf-8")
    log = config.with_suffix(".log")
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
    with log.open("ab") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            ports = _ports(process, log)
            url, admin_url = (f"http://127.0.0.1:{ports[each]}" for each in ("partner_port", "admin_port"))
            yield Place(place.told, url, admin_url, place.directory / name, process.pid)
        finally:
            process.terminate()
            process.wait(60)


def _ports(process: subprocess.Popen[bytes], log: Path) -> Any:
    until = time.monotonic() + START_SECONDS
    while True:
        for line in log.read_text(encoding="utf-8").splitlines():
            if '"serving"' in line and line.endswith("}"):
                return json.loads(line)
        assert process.poll() is None, log.read_text(encoding="utf-8")[-3000:]
        assert time.monotonic() < until, log.read_text(encoding="utf-8")[-3000:]
        time.sleep(0.05)


def issuer_settings(server: KeyServer, *, algorithms: str = '["ES256"]', claim: str = "azp") -> str:
    return (
        f'[tokens.issuers."{name_of(server)}"]\njwks_url = "{server.url}"\naudience = "{AUDIENCE}"\n'
        f'algorithms = {algorithms}\npartner_claim = "{claim}"\n'
    )


def client_of(server: KeyServer, client_id: str) -> str:
    return f'{{ method = "access_token", issuer = "{name_of(server)}", client_id = "{client_id}" }}'


def name_of(server: KeyServer) -> str:
    """The name of an issuer whose keys are on that server."""
    return f"http://127.0.0.1:{server.port}/realm"


def public(number: int, kid: str) -> dict[str, Any]:
    return jwk(private_key("P-256", number), kid=kid)


def issued(server: KeyServer, number: int, kid: str, **changes: Any) -> str:
    """A token of the issuer on that server, signed with its key of that number."""
    now = int(time.time())
    base = {
        "iss": name_of(server),
        "sub": "service",
        "azp": "client",
        "aud": [AUDIENCE, "account"],
        "iat": now,
        "exp": now + 300,
        "jti": str(uuid.uuid4()),
        "scope": "openid system/Appointment.rus",
    }
    claims = {name: value for name, value in {**base, **changes}.items() if value is not None}
    return signed({"alg": "ES256", "typ": "JWT", "kid": kid}, claims, private_key("P-256", number), "ES256")


def assertion_of(public_url: str, partner: str, number: int, kid: str) -> str:
    """An assertion of a partner with its key of that number."""
    key, url = pem(private_key("P-256", number)), f"{public_url}/oauth2/token"
    return make_assertion(partner, key, kid, "ES256", url, now=time.time(), jti=str(uuid.uuid4()))
