"""The short form of `make faults`: a dozen cells of its table, on real processes and both stores."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(300)
def test_no_fault_breaks_a_promise(tmp_path: Path) -> None:
    told = tmp_path / "verdicts.json"
    command = [sys.executable, "-m", "tests.faults.report", "--short", "--lanes", "2", "--logs", "--json", str(told)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    verdicts = json.loads(told.read_text(encoding="utf-8"))
    assert len(verdicts) >= 7
    assert max(each["messages"] for each in verdicts) == 1
