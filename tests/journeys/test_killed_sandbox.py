"""A sandbox that is killed leaves nothing running behind."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.partner import Client
from tests.journeys.processes import sandbox_process


def gateways(directory: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(directory / "gateway.toml").encode() in words:
            found.append(int(process.name))
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    with sandbox_process(tmp_path):
        yield tmp_path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
def test_a_sandbox_that_is_killed_takes_its_gateway_along(directory: Path) -> None:
    (gateway,) = gateways(directory)
    parent = int((Path("/proc") / str(gateway) / "stat").read_text().split(") ")[1].split()[1])

    subprocess.run(["kill", "-9", str(parent)], check=True)

    until = time.monotonic() + 10
    while gateways(directory) and time.monotonic() < until:
        time.sleep(0.05)
    assert gateways(directory) == []


async def test_a_sandbox_in_the_same_folder_starts_with_nothing_held(tmp_path: Path) -> None:
    with sandbox_process(tmp_path) as sandbox:
        async with Client(sandbox.place) as client:
            await client.fault("drop-before", count=1)
            assert (await client.cancel("airedale-changeable-01")).code == "outcome-unknown"
    (tmp_path / "sandbox.json").unlink()
    with sandbox_process(tmp_path) as sandbox:
        async with Client(sandbox.place) as client:
            assert (await client.cancel("airedale-changeable-01")).status == 200
