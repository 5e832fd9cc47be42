"""Ask for known weaknesses in the dependencies that ship: `make check` does, and goes on without a network.

Status 1 only where a weakness is known. What could not be asked is said loudly: silence would pass for good news.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PATIENCE: Final = 25.0
"""Seconds for each of the two steps; `make check` must not wait a minute for a service that is away."""
FOUND: Final = 1
PIN: Final = re.compile(r"^([A-Za-z0-9._-]+==[^ \\;]+)", re.MULTILINE)
PROJECT: Final = """[project]
name = "audited"
version = "0"
requires-python = ">=3.11"
dependencies = [{}]
"""


def uv(folder: Path, *words: str) -> int:
    """Run one command; gives its status, 2 where it was not over in time."""
    tool = Path(sys.executable).with_name("uv")
    try:
        # A second try would double the wait, and the next run tries again anyway.
        environment = {**os.environ, "UV_HTTP_RETRIES": "0"}
        return subprocess.run([tool, *words], cwd=folder, env=environment, timeout=PATIENCE, check=False).returncode
    except subprocess.TimeoutExpired:
        return 2


def main(more: Sequence[str]) -> int:
    """Audit what requirements.lock pins, on this platform."""
    pins = PIN.findall((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pyproject.toml").write_text(PROJECT.format(", ".join(f'"{pin}"' for pin in pins)), encoding="utf-8")
        locked = uv(folder, "lock", "--quiet")
        status = locked or uv(folder, "audit", "--frozen", "--quiet", "--preview-features", "audit-command", *more)
    if status == 0:
        print(f"no weakness is known of {len(pins)} dependencies")
    elif locked or status != FOUND:
        print("SKIPPED: THE DEPENDENCIES WERE NOT AUDITED, THE SERVICE THAT KNOWS THEIR WEAKNESSES WAS NOT REACHED")
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
