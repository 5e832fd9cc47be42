"""`sandbox`: a stand-in for PKB and a real gateway process on one machine, with demo data and keys."""

import asyncio
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import click
from rich.console import Console

from gateway.cli.sandbox_files import Ports, SandboxFiles
from gateway.cli.tour import walk
from gateway.simulator import Simulator

HOSPITALS: Final = ("airedale", "bradford", "leeds")
START_TIME: Final = 30.0
"""Seconds the gateway process has to answer."""


@click.command()
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var/sandbox"),
    show_default=True,
    help="Where keys, configuration, audit stream and sandbox.json go.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="For partners; 0: any.")
@click.option("--admin-port", type=click.IntRange(0, 65535), default=9090, show_default=True, help="For operators.")
@click.option("--pkb-port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="PKB simulator.")
@click.option("--tour", is_flag=True, help="Walk through every scenario, verify the audit chain, and exit.")
@click.option("--stay", is_flag=True, help="With --tour: stay up afterwards for trying by hand.")
def sandbox(directory: Path, port: int, admin_port: int, pkb_port: int, *, tour: bool, stay: bool) -> None:
    """Run a PKB simulator and the gateway on this machine, with demo data and keys."""
    try:
        code = asyncio.run(_run(directory.resolve(), (port, admin_port, pkb_port), tour=tour, stay=stay))
    except KeyboardInterrupt:
        code = 0
    sys.exit(code)


async def _run(directory: Path, ports: tuple[int, int, int], *, tour: bool, stay: bool) -> int:
    now = datetime.now(UTC)
    files = SandboxFiles(directory)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    simulator = Simulator(now, hospitals=HOSPITALS)
    try:
        await simulator.start(port=ports[2])
        chosen = Ports(_free(ports[0]), _free(ports[1]))
    except OSError as error:
        raise click.ClickException(f"A port is taken: {error.strerror}. Choose others, or 0 for any.") from error
    try:
        files.write(chosen, simulator, now)
        async with _Gateway(files.config, chosen) as gateway:
            told = files.describe(chosen, simulator, now)
            if tour:
                differences = await walk(_console(), told)
                if not stay or differences:
                    return 1 if differences else 0
            _print_welcome(files, told)
            return await gateway.watch(stopped)
    finally:
        await simulator.close()


class _Gateway:
    """The gateway as a process of its own, as it would run anywhere; one that dies is started again."""

    def __init__(self, config: Path, ports: Ports) -> None:
        self._config = config
        self._log = config.with_name("gateway.log")
        self._ports = ports
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()

    async def watch(self, stopped: asyncio.Event) -> int:
        """Wait until told to stop, starting the gateway again whenever it ends by itself."""
        waiting = asyncio.create_task(stopped.wait())
        while True:
            assert self._process is not None, "started on entry"
            ended = asyncio.create_task(self._process.wait())
            await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                ended.cancel()
                return 0
            click.echo(f"The gateway process ended with {ended.result()}; starting it again.", err=True)
            await self._start()

    async def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway", "serve", "--config", str(self._config), "--until-stdin-closes"),
                # Held open for as long as this process lives: a sandbox that is killed takes its gateway along.
                stdin=asyncio.subprocess.PIPE,
                stderr=log,
            )
        loop = asyncio.get_running_loop()
        until = loop.time() + START_TIME
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            while not await self._answers(session):
                if self._process.returncode is not None or loop.time() > until:
                    last = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
                    raise click.ClickException(f"The gateway did not start. {self._log} ends with:\n{last}")
                await asyncio.sleep(0.05)

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        for url in (f"{self._ports.gateway_url}/_ping", f"{self._ports.admin_url}/health/live"):
            try:
                async with session.get(url) as response:
                    if response.status != 200:
                        return False
            except (aiohttp.ClientError, TimeoutError):
                return False
        return True


def _console() -> Console:
    # A pipe has no width of its own; the table needs room to stay one line a request.
    return Console() if sys.stdout.isatty() else Console(width=130)


def _free(port: int) -> int:
    """Find a free port, or make sure that one is. Raises OSError."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        found: int = probe.getsockname()[1]
        return found


def _print_welcome(files: SandboxFiles, told: Mapping[str, Any]) -> None:
    appointment = next(each["id"] for each in told["appointments"] if each["scenario"] == "changeable")
    url = f"{told['gateway_url']}/airedale/fhir/Appointment/{appointment}"
    reason = (
        '{"resourceType":"Parameters","parameter":[{"name":"reason","valueCodeableConcept":{"coding":'
        '[{"system":"http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason","code":"pat"}]}}]}'
    )
    click.echo(
        f"""
The sandbox is up. Try, in another terminal:

  # an assertion and an access token for a partner
  pkb-gateway token --sandbox {files.description} --partner swiftbook

  # read an appointment, and what may be done with it
  TOKEN=$(python3 -c "import json, sys; print(json.load(sys.stdin)['partners']['swiftbook']['access_token'])" \\
    <{files.description})
  curl -s -H "Authorization: Bearer $TOKEN" {url}
  curl -s -H "Authorization: Bearer $TOKEN" '{url}/$actions'

  # cancel it
  curl -s -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/fhir+json' \\
    -d '{reason}' '{url}/$cancel'

  # what PKB was told, and the audit stream
  curl -s {told["pkb_control_url"]}/writes
  pkb-gateway audit verify {files.audit} --keys {files.directory / "keys" / "audit.jwks.json"}

  # who may do what: edit {files.grants}; it is in force within a second

  console: {told["admin_url"]}/    who may do what, live decisions, and why a request was refused
  Looking needs no login here. To explain, resolve or block, log in with: cat {files.operator_token}

  log: {files.directory / "gateway.log"}
  health: {told["admin_url"]}/health/ready    metrics: {told["admin_url"]}/metrics
Stop with Ctrl-C.
"""
    )
