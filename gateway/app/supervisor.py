"""The supervisor of `listen.workers` processes: binds the ports, replaces whoever dies, and ends after all."""

import asyncio
import fcntl
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from gateway.admin.metrics import SUPERVISOR, Metrics, forget_gauges, share_metrics
from gateway.app.ports import SERVING, SHUTDOWN, VARIABLE, Handover, bind
from gateway.configuration.settings import Settings

YOUNG: Final = 10.0
"""Seconds; a worker that ended before was ill from its birth."""
LONGEST_PAUSE: Final = 5.0
PATIENCE: Final = SHUTDOWN + 20.0
"""Seconds that workers have to end in: the writes that were begun, then the connections."""

_log = structlog.get_logger("pkb_gateway")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: the command of a worker, how many, and where they listen. It holds no secret."""

    command: tuple[str, ...]
    workers: int
    partner: tuple[str, int]
    admin: tuple[str, int]

    @classmethod
    def of(cls, settings: Settings, command: tuple[str, ...]) -> "Plan":
        """Take from the settings what a supervisor needs."""
        listen, admin = settings.listen, settings.admin
        return cls(command, listen.workers, (listen.host, listen.port), (admin.host, admin.port))


def pause_after(young: int) -> float:
    """Seconds to wait after so many workers in a row that ended young. The first is replaced at once."""
    return 0.0 if young <= 1 else min(LONGEST_PAUSE, 0.25 * 2 ** (young - 1))


async def supervise(plan: Plan, *, watch_input: bool = False) -> int:
    """Keep the workers running until SIGTERM or SIGINT; SIGHUP goes to each. Gives the exit status.

    Raises OSError for a port that is taken, and where there is no room for temporary files. `watch_input` ends it
    too when standard input closes.
    """
    with ExitStack() as stack:
        share_metrics(stack.enter_context(_private_folder()), SUPERVISOR)
        partner = [stack.enter_context(each) for each in await bind(*plan.partner)]
        admin = [stack.enter_context(each) for each in await bind(*plan.admin)]
        crew = _Crew(plan, partner, admin)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, crew.stop)
        loop.add_signal_handler(signal.SIGHUP, crew.reload)
        if watch_input:
            loop.add_reader(sys.stdin.fileno(), _end_of_input, crew)
        return await crew.run()


class _Crew:
    """The workers, by number."""

    def __init__(self, plan: Plan, partner: list[socket.socket], admin: list[socket.socket]) -> None:
        self._plan = plan
        self._partner = partner
        self._admin = admin
        self._metrics = Metrics()
        self._alive: dict[int, asyncio.subprocess.Process] = {}
        self._serving: set[int] = set()
        self._told = False
        self._first = asyncio.Event()
        """Set once a worker has served, or nothing is left to wait for."""
        self._stopped = asyncio.Event()
        self._status = 0

    async def run(self) -> int:
        """Start the first worker, and the others once it serves: what keeps one from starting is told once."""
        async with asyncio.TaskGroup() as keeping:
            keeping.create_task(self._keep(1))
            await self._first.wait()
            for number in range(2, self._plan.workers + 1):
                keeping.create_task(self._keep(number))
        return self._status

    def stop(self) -> None:
        """Let every worker finish what it has begun."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._first.set()
        # A connection to a socket that is open here and accepted by nobody would wait for an answer in vain.
        for each in (*self._partner, *self._admin):
            each.close()
        self._signal(signal.SIGTERM, set(self._alive))
        asyncio.get_running_loop().call_later(PATIENCE, self._kill)

    def reload(self) -> None:
        """Have the grants read again. A worker that is just starting would die of the signal, and reads them anyway."""
        self._signal(signal.SIGHUP, self._serving)

    def _kill(self) -> None:
        _log.error("workers killed", workers=sorted(self._alive))
        self._status = 1
        self._signal(signal.SIGKILL, set(self._alive))

    def _signal(self, number: signal.Signals, workers: set[int]) -> None:
        for worker in workers:
            with suppress(ProcessLookupError):
                self._alive[worker].send_signal(number)

    async def _keep(self, number: int) -> None:
        """Run one worker after the other under this number."""
        young = 0
        loop = asyncio.get_running_loop()
        while not self._stopped.is_set():
            begun = loop.time()
            status = await self._live(number)
            if self._stopped.is_set():
                return
            if not self._first.is_set():
                self._status = 1
                self.stop()
                return
            young = young + 1 if loop.time() - begun < YOUNG else 0
            pause = pause_after(young)
            _log.error("worker ended", worker=number, status=status, pause=pause)
            self._metrics.replaced()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), pause)

    async def _live(self, number: int) -> int:
        """Run one worker to its end; gives its exit status, or the signal that ended it as a negative number."""
        try:
            async with self._started(number) as (process, line):
                hearing = asyncio.create_task(self._hear(number, line))
                status = await process.wait()
                hearing.cancel()
                # Before the socket is closed: the next one may get its number, and asyncio looks at numbers.
                await asyncio.gather(hearing, return_exceptions=True)
                return status
        except OSError as error:
            _log.error("worker not started", worker=number, reason=error.strerror)
            return 1

    @asynccontextmanager
    async def _started(self, number: int) -> AsyncIterator[tuple[asyncio.subprocess.Process, socket.socket]]:
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            with theirs:
                process = await self._spawn(number, theirs)
            self._alive[number] = process
            try:
                if self._stopped.is_set():
                    self._signal(signal.SIGTERM, {number})
                yield process, ours
            finally:
                del self._alive[number]
                self._serving.discard(number)
                assert Metrics.folder is not None, "shared before any worker was started"
                forget_gauges(Metrics.folder, str(number))

    async def _spawn(self, number: int, line: socket.socket) -> asyncio.subprocess.Process:
        partner = tuple(each.fileno() for each in self._partner)
        admin = tuple(each.fileno() for each in self._admin)
        return await asyncio.create_subprocess_exec(
            *self._plan.command,
            stdin=line.fileno(),
            pass_fds=(*partner, *admin),
            env={**os.environ, VARIABLE: str(Handover(number, partner, admin))},
            # Ctrl-C at a terminal goes to a whole group; what a worker is to do it hears from the supervisor.
            start_new_session=True,
        )

    async def _hear(self, number: int, line: socket.socket) -> None:
        said = await asyncio.get_running_loop().sock_recv(line, len(SERVING))
        if said != SERVING:
            return
        self._serving.add(number)
        self._first.set()
        if not self._told and len(self._serving) == self._plan.workers and not self._stopped.is_set():
            self._told = True
            _log.info("serving", partner_port=_port(self._partner), admin_port=_port(self._admin))


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Make a folder for this process and its workers, and remove it."""
    with tempfile.TemporaryDirectory(prefix="pkb-gateway-", ignore_cleanup_errors=True) as name:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # systemd-tmpfiles removes what is old from temporary folders, except where there is a lock.
            fcntl.flock(fd, fcntl.LOCK_SH)
            yield Path(name)
        finally:
            os.close(fd)


def _port(sockets: list[socket.socket]) -> int:
    bound: int = sockets[0].getsockname()[1]
    return bound


def _end_of_input(crew: _Crew) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        crew.stop()
