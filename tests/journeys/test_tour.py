"""The tour of the sandbox: it ends well when all is well, and says so when something differs."""

import asyncio
import io
import re
import sys
from pathlib import Path

from rich.console import Console

from gateway.cli.tour import walk
from tests.journeys.partner import Client


async def test_the_tour_prints_its_rows_verifies_the_chain_and_exits_with_0(tmp_path: Path) -> None:
    ports = ("--port", "0", "--admin-port", "0", "--pkb-port", "0")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "sandbox", "--directory", str(tmp_path), *ports, "--tour"),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    printed = out.decode()
    rows = re.findall(r"^│ (\d+) ", printed, re.MULTILINE)
    assert process.returncode == 0, printed
    assert len(rows) >= 20
    told = re.search(r"(\d+) requests, (\d+) writes permitted, (\d+) seen by PKB", printed)
    assert told is not None
    assert int(told[1]) == len(rows)
    assert told[2] == told[3] != "0"
    assert "The audit chain verifies." in printed


async def test_the_tour_counts_every_answer_that_differs(client: Client) -> None:
    grants = client.place.grants.read_text(encoding="utf-8")
    await client.regrant(grants.replace('notice = "48h"', 'notice = "300d"', 1))
    out = io.StringIO()
    differences = await walk(Console(file=out, width=200), client.place.told)
    await client.regrant(grants)
    assert differences > 0
    assert f"{differences} answers differ" in out.getvalue()
    assert "too-late (must be 200" in out.getvalue()


async def test_the_tour_notices_an_audit_chain_that_was_touched(client: Client) -> None:
    copy = client.place.directory / "touched"
    copy.mkdir()
    for path in client.place.audit.glob("*.jsonl"):
        (copy / path.name).write_bytes(path.read_bytes().replace(b'"start"', b'"Start"', 1))
    told = {**client.place.told, "audit_directory": str(copy)}
    out = io.StringIO()
    assert await walk(Console(file=out, width=200), told) > 0
    assert "The audit chain does not verify." in out.getvalue()
