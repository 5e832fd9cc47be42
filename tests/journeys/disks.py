"""Gateways whose audit folder lies on a disk that the test has in its hands."""

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.journeys import processes
from tests.journeys.partner import Client, until
from tests.journeys.processes import Place

MIB = 1024 * 1024


@dataclass
class SmallDisk:
    """A file system of a few MiB, in memory, that can be filled and emptied again."""

    folder: Path
    mib: int
    _ballast: list[Path] = field(default_factory=list)

    @property
    def free(self) -> int:
        return os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize

    def fill(self, leave: int = 0) -> None:
        """Take all the room but so many bytes."""
        ballast = self.folder / f"ballast-{len(self._ballast)}"
        self._ballast.append(ballast)
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while (room := self.free - leave) > 0:
                file.write(bytes(min(room, 65536)))

    def empty(self) -> None:
        """Give the room back."""
        while self._ballast:
            self._ballast.pop().unlink()


@contextlib.contextmanager
def small_disk(folder: Path, mib: int = 16) -> Iterator[SmallDisk]:
    """Mount one there, or skip the test where this user may not."""
    folder.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0700", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"NOT TESTED: a full disk of our own, since mounting is not allowed here: {mounted.stderr!r}")
    try:
        yield SmallDisk(folder, mib)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def full_for(pid: int) -> Iterator[None]:
    """Let the files of a process grow no more, its log and state included, as on a disk that is full for all of it."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@dataclass
class Switch:
    """What `tests.journeys.faulty_disk` reads before it touches the disk."""

    file: Path

    def set(self, fault: str = "") -> None:
        draft = self.file.with_suffix(".new")
        draft.write_text(fault, encoding="ascii")
        draft.replace(self.file)


@contextlib.contextmanager
def gateway_with_a_switch(place: Place, name: str, audit: str = "") -> Iterator[tuple[Place, Switch]]:
    """Run a gateway whose audit disk does as the switch says."""
    switch = Switch(place.directory / f"{name}.switch")
    switch.set()
    with gateway_as(place, name, ["-m", "tests.journeys.faulty_disk", str(switch.file)], audit) as (further, _):
        try:
            yield further, switch
        finally:
            switch.set()


@contextlib.contextmanager
def gateway_as(
    place: Place, name: str, program: list[str], audit: str = "", **replaced: str
) -> Iterator[tuple[Place, subprocess.Popen[bytes]]]:
    """Run one more gateway as `program`; `replaced` are lines of its settings, by their names."""
    ports = processes.free_port(), processes.free_port()
    text = processes._further_settings(place, name, ports, "", audit)
    for setting, value in replaced.items():
        lines = [f"{setting} = {value}" if line.startswith(f"{setting} = ") else line for line in text.splitlines()]
        text = "\n".join(lines)
    config = place.directory / f"{name}.toml"
    config.write_text(text, encoding="utf-8")
    log = config.with_suffix(".log")
    command = [sys.executable, *program, "serve", "--config", str(config)]
    with log.open("ab") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            processes._wait(lambda: all(map(processes._listens, ports)), process, log)
            urls = (f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}")
            yield Place(place.told, *urls, place.directory / name, process.pid), process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


async def readiness(client: Client) -> tuple[int, dict[str, Any]]:
    """What `/health/ready` says."""
    async with client.session.get(f"{client.place.admin_url}/health/ready") as response:
        return response.status, await response.json()


async def audit_checked(client: Client, *, good: bool, seconds: float = 15.0) -> None:
    """Wait until the readiness tells that the audit is usable, or is not."""

    async def told() -> tuple[int, bool]:
        status, body = await readiness(client)
        return status, body["checks"]["audit"]

    await until(told, lambda seen: seen == ((200, True) if good else (503, False)), seconds)


def ends(place: Place, task: str) -> list[dict[str, Any]]:
    """The final outcome records of a Task."""
    return [each for each in place.records() if (each["task"], each["final"]) == (task, True)]
