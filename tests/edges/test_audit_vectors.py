"""The test vectors of docs/audit.md: the tool and the script that needs no tool say of each what is expected."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.storage.verification import read_checkpoints, read_keys, verify
from tests.edges.audit_vectors import FOLDER, VECTORS, write

EXPECTED: dict[str, dict[str, Any]] = json.loads((FOLDER / "expected.json").read_text())
JWKS, CHECKPOINTS = FOLDER / "audit.jwks.json", FOLDER / "checkpoints.jsonl"
DOCUMENT = FOLDER.parents[1] / "audit.md"


def test_the_vectors_are_those_that_are_made_and_told_of(tmp_path: Path) -> None:
    write(tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    kept = {path.relative_to(FOLDER): path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()}
    assert made == kept, "run: python -m tests.edges.audit_vectors"
    table = DOCUMENT.read_text(encoding="utf-8").partition("## Test vectors")[2]
    assert [name for name in VECTORS if f"`{name}`" not in table] == []


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("processes", [1, 2])
def test_the_tool_says_what_is_expected(name: str, processes: int) -> None:
    keys, checkpoints = read_keys(JWKS), read_checkpoints(CHECKPOINTS)
    needs = EXPECTED[name]["needs"]
    report = verify(
        [FOLDER / name],
        keys=keys,
        checkpoints=checkpoints if "checkpoints" in needs or EXPECTED[name]["what"] is None else None,
        processes=processes,
    )
    expected = {each: EXPECTED[name][each] for each in ("what", "chain", "seq", "file", "line")}
    if expected["what"] is None:
        assert report.bad == ()
        return
    [bad] = report.bad
    found = {"what": bad.what, "chain": bad.chain, "seq": bad.seq, "file": bad.file or None, "line": bad.line or None}
    assert found == expected


@pytest.mark.parametrize("name", [name for name, told in EXPECTED.items() if told["needs"]])
def test_without_what_it_takes_nothing_is_seen(name: str) -> None:
    assert verify([FOLDER / name]).bad == ()


def script(folder: Path) -> str:
    """The program of the document, set to a folder."""
    block: str
    [block] = re.findall(r"```python\n(import base64, hashlib.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    for old, new in (
        ("var/sandbox/audit", folder),
        ("var/sandbox/keys/audit.jwks.json", JWKS),
        ("var/sandbox/checkpoint.json", CHECKPOINTS),
    ):
        assert f'"{old}"' in block
        block = block.replace(f'"{old}"', repr(str(new)))
    return block


@pytest.mark.parametrize("name", EXPECTED)
def test_the_script_of_the_document_sees_the_same(name: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", script(FOLDER / name)], capture_output=True, text=True, timeout=60, check=False
    )
    good = EXPECTED[name]["what"] is None
    assert (ran.returncode == 0, ran.stdout.startswith("good")) == (good, good), ran.stderr
    assert good or "AssertionError" in ran.stderr or "InvalidSignature" in ran.stderr
