"""Of the machine and the programs: what a reader needs to judge the figures, and nothing that names either."""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.speed.findings import Facts
from bench.speed.tools import PEERS, find

OURS = ("aiohttp", "uvloop", "cryptography", "pydantic", "SQLAlchemy")
_PIN = re.compile(
    r'^(fastapi|httpx|pyjwt|uvicorn|starlette)==([^ ]+)|"(fastify|@fastify/jwt|undici)": "([^"]+)"', re.MULTILINE
)


def machine(scratch: Path, python: str) -> Facts:
    """Before the run. `python` says which one it is, and why."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="ascii"))
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": model[1] if model else platform.machine(),
        "processors": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(memory[1]) / 2**20:.1f} GiB" if memory else "unknown",
        "kernel": platform.release().partition("-")[0],
        "file system": _file_system(scratch),
        "Python": python,
        **{name: _version(name) for name in OURS},
        **_peers(),
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


class Clock:
    """How the processors spent the time of a run."""

    def __init__(self) -> None:
        self._before = _jiffies()

    def facts(self) -> Facts:
        """After the run: much of `stolen` means that another machine on the same host took part in the figures."""
        spent = [after - before for before, after in zip(self._before, _jiffies(), strict=True)]
        total = sum(spent) or 1
        return {"idle during the run": f"{spent[3] / total:.0%}", "stolen during the run": f"{spent[7] / total:.1%}"}


def _jiffies() -> list[int]:
    first = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    return [int(each) for each in first.split()[1:9]]


def _file_system(folder: Path) -> str:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    holding = [(len(where), kind) for where, kind in mounts if folder.resolve().is_relative_to(where)]
    return max(holding)[1] if holding else "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _peers() -> Facts:
    told = {}
    for name, command, pattern in (
        ("nginx", ["nginx", "-v"], r"nginx/(\S+)"),
        ("Node.js", ["node", "--version"], r"v(\S+)"),
        ("njs", ["dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-http-js"], r"([\d.]+)"),
    ):
        told[name] = _said(command, pattern)
    for file in (PEERS / "fastify/package.json", PEERS / "fastapi/requirements.lock"):
        for one, its, other, others in _PIN.findall(file.read_text(encoding="utf-8")):
            told[one or other] = its or others
    return told


def _said(command: Sequence[str], pattern: str) -> str:
    program = find(command[0])
    if program is None:
        return "not installed"
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else "unknown"
