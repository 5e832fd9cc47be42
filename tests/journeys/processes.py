"""A sandbox process, and further gateways beside it, as real processes on free ports."""

import contextlib
import functools
import json
import os
import re
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.partner.access_tokens import Scopes, TokenPress
from gateway.partner.keys import read_signing_keys

EVERYTHING = "system/Appointment.rus"
START_SECONDS = 60.0

Json = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A running gateway in front of a sandbox's PKB."""

    told: Mapping[str, Any]
    gateway_url: str
    admin_url: str
    audit: Path
    pid: int = 0

    @property
    def directory(self) -> Path:
        return Path(self.told["config_file"]).parent

    @property
    def grants(self) -> Path:
        return Path(self.told["grants_file"])

    def token(self, partner: str, scope: str = EVERYTHING, age: float = 0.0) -> str:
        """A token as the gateway itself would have issued it `age` seconds ago, good for an hour."""
        return _token(self.directory / "keys" / "tokens.pem", self.gateway_url, partner, scope, age)

    def lines(self) -> list[bytes]:
        """Everything that is in the audit folder now, whole lines only."""
        kept: list[bytes] = []
        for path in sorted(self.audit.glob("*.jsonl")):
            kept += [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        return kept

    def records(self) -> list[Json]:
        """The same, read."""
        return [json.loads(line) for line in self.lines()]


@functools.cache
def _token(key: Path, url: str, partner: str, scope: str, age: float) -> str:
    press = TokenPress(url, read_signing_keys(key.read_text(encoding="ascii")), 3600)
    issued = datetime.now(UTC) - timedelta(seconds=age)
    return press.issue(partner, Scopes.read(scope), issued, uuid.uuid4().hex).text


@dataclass
class Sandbox:
    """A `pkb-gateway sandbox` process."""

    process: subprocess.Popen[bytes]
    place: Place

    @property
    def gateway_pid(self) -> int:
        """The gateway is the sandbox's only child."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        return int(children.split()[0])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def sandbox_process(directory: Path) -> Iterator[Sandbox]:
    """Run a sandbox on free ports until the caller is done with it."""
    directory.mkdir(parents=True, exist_ok=True)
    told_file = directory / "sandbox.json"
    ports = ["--port", "0", "--admin-port", "0", "--pkb-port", "0"]
    command = [sys.executable, "-m", "gateway", "sandbox", "--directory", str(directory), *ports]
    with (directory / "sandbox.out").open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            _wait(told_file.exists, process, directory / "sandbox.out")
            told = json.loads(told_file.read_text(encoding="utf-8"))
            place = Place(told, told["gateway_url"], told["admin_url"], Path(told["audit_directory"]))
            yield Sandbox(process, place)
        finally:
            process.terminate()
            process.wait(60)


@contextlib.contextmanager
def gateway_process(
    place: Place,
    name: str,
    settings: str = "",
    audit: str = "",
    module: str = "gateway",
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Place]:
    """Run one more gateway on a sandbox's files, with settings of its own added."""
    with started_gateway(place, name, settings, audit, module, options, environment) as (further, process):
        try:
            yield further
        finally:
            process.terminate()
            process.wait(60)


@contextlib.contextmanager
def started_gateway(
    place: Place,
    name: str,
    settings: str = "",
    audit: str = "",
    module: str = "gateway",
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple[Place, subprocess.Popen[bytes]]]:
    """Start one more gateway, for a caller that ends the process itself; `name` is its audit folder too."""
    port, admin_port = free_port(), free_port()
    config = place.directory / f"{name}.toml"
    config.write_text(_further_settings(place, name, (port, admin_port), settings, audit), encoding="utf-8")
    command = [sys.executable, "-m", module, "serve", "--config", str(config), *options]
    environ = {**os.environ, **(environment or {})}
    log = config.with_suffix(".log")
    with log.open("ab") as out, subprocess.Popen(command, stdout=out, stderr=out, env=environ) as process:
        try:
            _wait(lambda: _listens(port) and _listens(admin_port), process, log)
            urls = (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}")
            yield Place(place.told, *urls, place.directory / name, process.pid), process
        finally:
            if process.poll() is None:
                process.kill()


def _further_settings(place: Place, name: str, ports: tuple[int, int], settings: str, audit: str) -> str:
    text = Path(place.told["config_file"]).read_text(encoding="utf-8")
    for pattern, new in (
        (r"public_url = .*", f'public_url = "http://127.0.0.1:{ports[0]}"'),
        (r"(listen = .*port = )\d+", rf"\g<1>{ports[0]}"),
        (r"(admin = .*port = )\d+", rf"\g<1>{ports[1]}"),
        (r'directory = "audit"', f'directory = "{name}"\n{audit}'),
        (r"sqlite:///state.db", f"sqlite:///{name}.db"),
    ):
        text, count = re.subn(pattern, new, text)
        assert count == 1, pattern
    return f"{text}\n{settings}\n"


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while not ready():
        assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")[-3000:]
        assert time.monotonic() < until, log.read_text(encoding="utf-8", errors="replace")[-3000:]
        time.sleep(0.05)
