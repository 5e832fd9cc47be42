"""A PostgreSQL server of the tests' own: started once a session, thrown away after; each test gets a database."""

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

UNPRIVILEGED: Final = 65534
"""The server refuses to run as root; nobody owns its files then."""

START: Final = 30.0
"""Seconds in which it must answer."""


class NoServer(Exception):
    """There is no PostgreSQL on this machine."""


@dataclass
class Server:
    """A server on a free port of 127.0.0.1, without passwords and without waiting for its disk."""

    binaries: Path
    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    _names: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://gateway@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """Make an empty database and give its address."""
        name = f"store_{os.getpid()}_{next(self._names)}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop(self, url: str) -> None:
        self.sql(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def sql(self, statement: str, address: str | None = None) -> str:
        """Run one statement from a process of its own and give what it shows, a row a line."""
        words = [str(self.binaries / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement, address or self.url()]
        shown = subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout
        return shown.strip()

    def kill(self) -> None:
        """Crash the server, as a power cut would, and wait until nothing of it is left."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(20)

    def start(self) -> None:
        """Start it again, unless it runs."""
        if self.process.poll() is None:
            return
        self.process = _run(self.binaries, self.folder, self.port)
        _await(self)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)


def start_server() -> Server:
    """Make and start a server. Raises NoServer."""
    binaries = _binaries()
    # A short path: a socket's may have about a hundred characters.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.geteuid() == 0:
        os.chown(folder, UNPRIVILEGED, UNPRIVILEGED)
    options = ("--username=gateway", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
    making = [str(binaries / "initdb"), "-D", str(folder / "data"), *options]
    subprocess.run(making, check=True, capture_output=True, timeout=120, cwd=folder, **_as_nobody())
    port = _free_port()
    server = Server(binaries, folder, port, _run(binaries, folder, port))
    try:
        _await(server)
    except BaseException:
        server.stop()
        raise
    return server


def _binaries() -> Path:
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in places:
        if all((place / name).exists() for name in ("initdb", "postgres", "psql")):
            return place
    raise NoServer("initdb, postgres and psql are not on PATH, nor in /usr/lib/postgresql")


def _run(binaries: Path, folder: Path, port: int) -> subprocess.Popen[bytes]:
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": folder,
        "fsync": "off",
        "full_page_writes": "off",
        "max_connections": 100,
        "shared_buffers": "32MB",
        "deadlock_timeout": "100ms",
    }
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with (folder / "server.log").open("ab") as log:
        return subprocess.Popen(
            [binaries / "postgres", "-D", folder / "data", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            # A signal to the tests' whole group must not stop the server before they are done with it.
            start_new_session=True,
            **_as_nobody(),
        )


def _await(server: Server) -> None:
    until = time.monotonic() + START
    while True:
        with contextlib.suppress(subprocess.SubprocessError):
            server.sql("SELECT 1")
            return
        if time.monotonic() > until or server.process.poll() is not None:
            raise RuntimeError((server.folder / "server.log").read_text())
        time.sleep(0.05)


def _as_nobody() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    return {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
