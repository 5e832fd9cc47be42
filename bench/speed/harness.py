"""Starts the stub, the driver and whatever is measured, and puts each where it disturbs the others least."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.speed.plan import Plan, Result

START_SECONDS = 60.0
CORES = sorted(os.sched_getaffinity(0))


# A Python that may not keep what it compiled would compile it again at every start.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True, slots=True)
class Cores:
    """Which processors what is measured runs on, and which the stub and the driver."""

    measured: frozenset[int]
    others: frozenset[int]

    @classmethod
    def shared(cls) -> "Cores":
        """Everything runs everywhere."""
        return cls(frozenset(CORES), frozenset(CORES))

    @classmethod
    def apart(cls) -> "Cores":
        """The last processor is for stub and driver, where there is more than one."""
        return cls(frozenset(CORES[:-1]), frozenset(CORES[-1:])) if len(CORES) > 1 else cls.shared()


class Ended(Exception):
    """A process that was to serve ended instead."""


@contextlib.contextmanager
def process(
    command: Sequence[str | Path],
    cores: frozenset[int],
    log: Path,
    *,
    folder: Path | None = None,
    environment: dict[str, str] | None = None,
    piped: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program on these processors until the caller is done with it."""
    pipe = subprocess.PIPE if piped else None
    with log.open("ab") as out:
        os.sched_setaffinity(0, cores)  # the child inherits it
        try:
            started = subprocess.Popen(
                [str(each) for each in command],
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or out,
                stderr=out,
                cwd=folder,
                env={**_ENVIRONMENT, **(environment or {})},
            )
        finally:
            os.sched_setaffinity(0, CORES)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
        for each in (started.stdin, started.stdout):
            if each is not None:
                each.close()


def wait_for(ready: Callable[[], bool], started: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until it serves. Raises Ended with the end of its log."""
    until = time.monotonic() + START_SECONDS
    while not ready():
        if started.poll() is not None or time.monotonic() > until:
            raise Ended(log.read_text(encoding="utf-8", errors="replace")[-2000:])
        time.sleep(0.005)


def answers(port: int, path: str) -> bool:
    """Whether a server answers this with a 200."""
    try:
        return ask(port, "GET", path).status == 200
    except (OSError, http.client.HTTPException):
        return False


@dataclass(frozen=True, slots=True)
class Told:
    """One answer."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


def ask(port: int, method: str, path: str, headers: dict[str, str] | None = None, body: str | None = None) -> Told:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Told(response.status, response.read())
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Upstream:
    """The running stub."""

    port: int
    pid: int

    def counts(self) -> dict[str, int]:
        """What it got so far, by kind."""
        told: dict[str, int] = ask(self.port, "GET", "/control/counts").json()
        return told

    def appointment(self, id_: str) -> Any:
        """What it holds."""
        return ask(self.port, "GET", f"/control/appointment/{id_}").json()

    def delay(self, milliseconds: float) -> None:
        """Answer so much later from now on."""
        ask(self.port, "POST", f"/control/delay/{milliseconds}")


@contextlib.contextmanager
def upstream(cores: frozenset[int], folder: Path) -> Iterator[Upstream]:
    """Run the stub."""
    command = [sys.executable, "-m", "bench.speed.stub"]
    with process(command, cores, folder / "stub.log", piped=True) as started:
        assert started.stdout is not None
        yield Upstream(int(started.stdout.readline()), started.pid)


class Driver:
    """The running load driver."""

    def __init__(self, started: subprocess.Popen[bytes], log: Path) -> None:
        self._started = started
        self._log = log

    def run(self, plan: Plan) -> Result:
        """Run a plan to its end. Raises Ended."""
        assert self._started.stdin is not None
        assert self._started.stdout is not None
        self._started.stdin.write(json.dumps(asdict(plan)).encode() + b"\n")
        self._started.stdin.flush()
        line = self._started.stdout.readline()
        if not line:
            raise Ended(self._log.read_text(encoding="utf-8", errors="replace")[-2000:])
        return Result.read(json.loads(line))


@contextlib.contextmanager
def driver(cores: frozenset[int], folder: Path) -> Iterator[Driver]:
    """Run the driver."""
    log = folder / "driver.log"
    with process([sys.executable, "-m", "bench.speed.driver"], cores, log, piped=True) as started:
        yield Driver(started, log)
