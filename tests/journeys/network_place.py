"""A gateway whose way to PKB goes through a door that the tests open and shut, in a world that they bend."""

import asyncio
import contextlib
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.edges.raw_network import Authority
from tests.journeys.processes import Place, _further_settings, _listens, _wait, free_port


@dataclass
class Door:
    """TLS in front of PKB, in a thread of its own. `mode` says what happens to connections that come from now on."""

    authority: Authority
    behind: int
    contexts: dict[str, ssl.SSLContext]
    mode: str = "good"
    answers: int | None = None
    """After how many answers every connection is closed."""
    port: int = 0
    paused: threading.Event = field(default_factory=threading.Event)
    """Set once a connection waits in the mode `paused`."""
    resumed: threading.Event = field(default_factory=threading.Event)
    """Set it to let such connections go on."""
    _taking: set[asyncio.Task[None]] = field(default_factory=set)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _server: asyncio.Server | None = None

    def run(self, story: Callable[[], Any]) -> None:
        asyncio.run_coroutine_threadsafe(story(), self._loop).result(10)

    async def open(self) -> None:
        """Let connections in, on the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Refuse connections; those that are there stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def drop(self) -> None:
        """Cut every connection that is there."""
        for writer in list(self._open):
            writer.transport.abort()
        for task in list(self._taking):
            task.cancel()
        await asyncio.gather(*self._taking, return_exceptions=True)

    def set(self, mode: str, *, keep: bool, answers: int | None = None) -> None:
        """Choose what happens to new connections; `keep` leaves those that are there alone.

        All are closed once so many `answers` have come through.
        """
        self.mode, self.answers = mode, answers
        self.run(self.shut if mode == "refused" else self.open)
        if not keep:
            self.run(self.drop)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._take(reader, writer))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
            match self.mode:
                case "silent":
                    await asyncio.sleep(60)
                case "reset":
                    await reader.read(1)
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                case mode:
                    if mode == "paused":
                        self.paused.set()
                        await asyncio.to_thread(self.resumed.wait, 20)
                    await writer.start_tls(self.contexts.get(mode, self.contexts["good"]))
                    there, back = await asyncio.open_connection("127.0.0.1", self.behind)
                    self._open.add(back)
                    await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        writer.transport.abort()
        self._open.discard(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
                if self.answers is not None and data.startswith(b"HTTP/1.1 "):
                    self.answers -= 1
                    if self.answers == 0:
                        for each in list(self._open):
                            _close(each)
        _close(writer)


def _close(writer: asyncio.StreamWriter) -> None:
    # In the first releases of Python 3.11 a TLS transport that is closed twice can be aborted no more.
    if not writer.is_closing():
        writer.close()


@contextlib.contextmanager
def door(authority: Authority, behind: int, contexts: dict[str, ssl.SSLContext]) -> Iterator[Door]:
    made = Door(authority, behind, contexts)
    thread = threading.Thread(target=made._loop.run_forever, daemon=True)
    thread.start()
    made.run(made.open)
    try:
        yield made
    finally:
        made.run(made.shut)
        made.run(made.drop)
        made._loop.call_soon_threadsafe(made._loop.stop)
        thread.join(10)
        made._loop.close()


@dataclass
class World:
    """What the bent gateway is told about names, time and its limits."""

    folder: Path

    def say(self, of: str, what: str) -> None:
        draft = self.folder / f"{of}.draft"
        draft.write_text(what, encoding="utf-8")
        draft.replace(self.folder / of)


@contextlib.contextmanager
def bent_gateway(
    place: Place, name: str, settings: str = "", *, through: Door | None = None, limits: str = ""
) -> Iterator[tuple[Place, World, subprocess.Popen[bytes]]]:
    """Run a bent gateway on a sandbox's files, with PKB behind a door if there is one."""
    port, admin_port = free_port(), free_port()
    config = place.directory / f"{name}.toml"
    text = _further_settings(place, name, (port, admin_port), settings, "")
    world = World(place.directory / f"{name}-world")
    world.folder.mkdir()
    world.say("limits", limits)
    environment = {**os.environ, "BENT": str(world.folder)}
    if through is not None:
        behind, there = f"http://127.0.0.1:{through.behind}/", f"https://localhost:{through.port}/"
        text, count = re.subn(
            rf'((?:base_url|^url) = "){re.escape(behind)}(?!.*token)', rf"\g<1>{there}", text, flags=re.MULTILINE
        )
        assert count == 4, text
        environment["SSL_CERT_FILE"] = str(through.authority.file)
    config.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "tests.journeys.bent_gateway", "serve", "--config", str(config)]
    log = config.with_suffix(".log")
    with log.open("ab") as out, subprocess.Popen(command, stdout=out, stderr=out, env=environment) as process:
        try:
            _wait(lambda: _listens(port) and _listens(admin_port), process, log)
            urls = (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}")
            yield Place(place.told, *urls, place.directory / name, process.pid), world, process
        finally:
            process.terminate()
            process.wait(60)
