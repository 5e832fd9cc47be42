"""The threat model tells the truth, and the audit of dependencies does where it cannot be had."""

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.adversarial.corpus import whole

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"`([a-z_/]+\.py::test_[a-z0-9_]+)`", TEXT)))
ATTACKS = sorted(set(re.findall(r"\*attack: ([^*]+)\*", TEXT)) - {"name"})
ROWS = [line for line in TEXT.splitlines() if re.match(r"\| [STRIDE] \|", line)]


@pytest.mark.parametrize("test", TESTS)
def test_every_test_it_names_is_there(test: str) -> None:
    path, _, name = test.partition("::")
    text = (ROOT / "tests" / path).read_text(encoding="utf-8")
    assert re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE)


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_it_names_is_in_the_corpus(attack: str) -> None:
    assert attack in {vector.name for vector in whole().vectors}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[2].strip())
def test_every_row_is_shown_by_something(row: str) -> None:
    shown = row.split("|")[4]
    assert "::test_" in shown or "*attack: " in shown


def test_every_edge_is_looked_at() -> None:
    edges = re.findall(r"^### (.+)$", TEXT, re.MULTILINE)
    assert edges == [
        "Partner API", "Token endpoint", "PKB", "Grants and settings", "State store", "Audit stream", "Admin port",
        "Supply chain",
    ]  # fmt: skip
    assert len(ROWS) >= 30


async def audited(service: str) -> tuple[int | None, str]:
    command = [sys.executable, str(ROOT / "bench" / "dependencies.py"), "--service-url", service]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    told, _ = await process.communicate()
    return process.returncode, told.decode()


async def test_an_audit_of_dependencies_that_did_not_happen_is_told() -> None:
    status, told = await audited("http://127.0.0.1:1")
    assert status == 0
    assert told.endswith(
        "SKIPPED: THE DEPENDENCIES WERE NOT AUDITED, THE SERVICE THAT KNOWS THEIR WEAKNESSES WAS NOT REACHED\n"
    )


async def test_a_known_weakness_of_a_dependency_fails_the_check() -> None:
    known = {"id": "GHSA-test", "modified": "2026-01-01T00:00:00Z"}

    async def batch(request: web.Request) -> web.Response:
        asked = json.loads(await request.read())["queries"]
        return web.json_response({"results": [{"vulns": [known]}, *({} for _ in asked[1:])]})

    async def one(_: web.Request) -> web.Response:
        return web.json_response({**known, "published": known["modified"], "summary": "made up", "affected": []})

    service = web.Application()
    service.add_routes([web.post("/v1/querybatch", batch), web.get("/v1/vulns/{id}", one)])
    async with TestServer(service) as server:
        status, told = await audited(f"http://127.0.0.1:{server.port}")
    if "SKIPPED" in told:
        pytest.skip("THE REGISTRY OF PACKAGES WAS NOT REACHED")
    assert status == 1
