"""Reads a large grants file in a process aside, so that those who are served meanwhile do not notice.

A parser of TOML, written in C, lets nobody else run until it is done: seconds, for a large file. What the process has
found is taken in by pieces, with a rest after each.
"""

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final, TypeVar

from gateway.configuration.grants import Grants, GrantsReader, Hl7Credentials, Registration
from gateway.configuration.handover import (
    PIECE,
    Assembled,
    Done,
    Fault,
    KeyFile,
    KeyFileRead,
    Nonsense,
    Order,
    Proof,
    receive,
    send,
)
from gateway.configuration.problems import ConfigurationRefused, Problem
from gateway.configuration.secret import Reading, read_secret
from gateway.domain.grant import Policy

LARGE: Final = 32 * 1024
"""Bytes. Reading a smaller file holds others up less than a process costs."""
KEPT: Final = 2 * 1024 * 1024
"""Bytes of a file up to which the process that read it reads the next one too; a larger one leaves it much memory."""
PATIENCE: Final = 60.0
"""Seconds that reading may take: five times as long as the largest file takes on a busy machine."""
REST: Final = 0.002
"""Seconds between two pieces; longer than a piece takes, so that others have most of the time."""
COMMAND: Final = (sys.executable, "-P", "-m", "gateway.configuration.reading_child")

_NAME: Final = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_KEPT: Final = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZDIR", "PYTHONTZPATH", "PYTHONHOME")
"""Variables without which Python may not start, or would read other time zones. None is a secret."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class AsideReader:
    """Reads the grants file as `reader` does, with the same result and the same complaints. Not for two threads."""

    reader: GrantsReader
    command: tuple[str, ...] = COMMAND
    patience: float = PATIENCE
    large: int = LARGE
    spare: bool = True
    """Whether, after a large file, the process for the next one waits: Python takes a third of a second to start."""
    _child: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    _waiting: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    _over: threading.Event = field(default_factory=threading.Event, repr=False)

    def load(self) -> Grants:
        """Read the file as it is now. Raises ConfigurationRefused."""
        if _size(self.reader.path) < self.large:
            self._dismiss()
            return self.reader.load()
        try:
            child = self._next()
        except OSError as error:
            # A revocation counts for more than a pause.
            _log.warning("no process could be started to read the grants file: %s", error.strerror)
            return self.reader.load()
        with self._bounded(child) as (told, heard):
            assembled, keys, done = self._hear(told, heard)
        if assembled.problems:
            raise ConfigurationRefused(assembled.problems)
        grants = self._made(assembled, keys, done)
        self._prepare()
        return grants

    def abandon(self) -> None:
        """End a reading that is under way, and be ready for no other; for another thread."""
        self._over.set()
        if self._child is not None:
            self._child.kill()
        self._dismiss()

    def _next(self) -> "subprocess.Popen[bytes]":
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            if waiting.poll() is None:
                return waiting
            _end_process(waiting)
        return self._start()

    def _prepare(self) -> None:
        if not self.spare or self._waiting is not None or self._over.is_set():
            return
        try:
            self._waiting = self._start()
        except OSError as error:
            _log.warning("no process could be started to read the next grants file: %s", error.strerror)
        if self._over.is_set():
            self._dismiss()

    def _dismiss(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            _end_process(waiting)

    def _start(self) -> "subprocess.Popen[bytes]":
        environ = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, sys.path))
        return subprocess.Popen(  # noqa: S603 - our own program
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What Python says of a fault may repeat what is in the file.
            stderr=subprocess.DEVNULL,
            env=environ,
            start_new_session=True,
        )

    @contextmanager
    def _bounded(self, child: "subprocess.Popen[bytes]") -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """See to it that the process ends, in time, and say so where it does not end well."""
        assert child.stdin is not None
        assert child.stdout is not None
        self._child = child
        late = threading.Event()

        def end() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(self.patience, end)
        timer.daemon = True
        timer.start()
        kept = False
        try:
            yield child.stdin, child.stdout
            kept = self.spare and not late.is_set() and _size(self.reader.path) <= KEPT
        except Nonsense:
            raise self._refusal("could not be read: the process that read it handed over nonsense") from None
        except (EOFError, BrokenPipeError):
            child.wait()
            how = f"did not end within {self.patience:g} s" if late.is_set() else _end(child.returncode)
            raise self._refusal(f"could not be read: the process that read it {how}") from None
        finally:
            timer.cancel()
            self._child = None
            if kept and not self._over.is_set():
                self._waiting = child
            else:
                _end_process(child)

    def _hear(self, told: IO[bytes], heard: IO[bytes]) -> tuple[Assembled, dict[Path, Any], Done]:
        send(told, self.order())
        assembled = Assembled()
        keys: dict[Path, Any] = {}
        while not isinstance(piece := receive(heard), Done):
            if isinstance(piece, Fault):
                raise self._refusal(f"could not be read: {piece.name}")
            if isinstance(piece, KeyFile):
                send(told, self._key_file(piece.path, keys))
                continue
            assembled.take(piece)
            time.sleep(REST)
        return assembled, keys, piece

    def order(self) -> Order:
        """What the process is told."""
        reader = self.reader
        return Order(
            reader.path,
            None if reader.routes is None else dict(reader.routes),
            None if reader.issuers is None else frozenset(reader.issuers),
            reader.secrets,
            reader.key_files,
            {name: bool(value.strip()) for name, value in reader.environ.items() if _NAME.fullmatch(name)},
            round(self.patience) + 5,
        )

    def _key_file(self, path: Path, keys: dict[Path, Any]) -> KeyFileRead:
        try:
            keys[path] = None if self.reader.read_keys is None else self.reader.read_keys(path)
        except OSError as error:
            return KeyFileRead(unreadable=True, reason=error.strerror)
        except ValueError as error:
            return KeyFileRead(wrong=str(error))
        return KeyFileRead()

    def _made(self, assembled: Assembled, keys: dict[Path, Any], done: Done) -> Grants:
        registrations: dict[str, Registration] = {}
        reading = Reading(self.reader.path.absolute().parent, self.reader.secrets, self.reader.environ)
        for number, proof in enumerate(assembled.proofs, 1):
            registrations[proof.partner] = self._registration(proof, reading)
            if number % PIECE == 0:
                time.sleep(REST)
        partners, customers = MappingProxyType(assembled.partners), MappingProxyType(assembled.customers)
        policy = _rested(Policy.in_pieces(done.digest, partners, customers, tuple(assembled.grants)))
        return self.reader.completed(policy, registrations, keys, dict(done.key_digests))

    def _registration(self, proof: Proof, reading: Reading) -> Registration:
        hl7 = None
        if proof.hl7 is not None:
            username, password = proof.hl7
            try:
                hl7 = Hl7Credentials(read_secret(username, reading), read_secret(password, reading))
            except ValueError as error:
                # It has just been there: a secret's file was taken away meanwhile.
                raise self._refusal(str(error), f"partners.{proof.partner}.pkb") from None
        return Registration(proof.partner, proof.key_files, proof.key_urls, proof.clients, hl7)

    def _refusal(self, message: str, place: str = "(file)") -> ConfigurationRefused:
        return ConfigurationRefused([Problem(self.reader.path, 1, place, message)])


def _rested(work: Generator[None, None, T]) -> T:
    """Do it to the end, with a rest after each piece."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            made: T = end.value
            return made
        time.sleep(REST)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0


def _end(status: int) -> str:
    if status >= 0:
        return f"ended before it was done, with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def _end_process(child: "subprocess.Popen[bytes]") -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue
