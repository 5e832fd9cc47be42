"""What a start loads, and what it leaves to the first who needs it."""

import gc
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.app.memory import begin, settle
from gateway.cli.absent import absent
from tests.edges.deployments import ROOT, Machine

LATER = frozenset(
    {
        "alembic",
        "asyncpg",
        "gateway.admin.tracing",
        "gateway.app.supervisor",
        "gateway.cli.check",
        "gateway.selftest",
        "gateway.simulator",
        "jinja2",
        "opentelemetry.sdk",
        "pygments",
        "rich",
        "sqlalchemy",
    }
)
"""What no gateway needs that serves alone, from a good file, with SQLite, and shows no page."""


def loaded(*modules: str) -> frozenset[str]:
    """Name what is loaded in a fresh process after these."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return frozenset(ran.stdout.split())


def test_a_process_that_serves_has_not_loaded_what_serving_does_not_need(tmp_path: Path) -> None:
    code = """
import sys
from gateway.app import memory
from gateway.cli.main import main

memory.settle = lambda: print(*sys.modules, flush=True)
main()
"""
    config = Machine(tmp_path).set_up("systemd")
    text = config.read_text(encoding="utf-8")
    for line, instead in {r"port = \d+": "port = 0", r"workers = \d+": "workers = 1", "tls = .+": ""}.items():
        text = re.sub(f"^{line}", instead, text, flags=re.MULTILINE)
    config.write_text(text, encoding="utf-8")
    serving = [sys.executable, "-c", code, "serve", "--config", str(config), "--until-stdin-closes"]
    ran = subprocess.run(serving, input="", capture_output=True, text=True, check=False, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    names = frozenset(ran.stdout.split())
    assert {"aiohttp", "gateway.app.assembly"} <= names
    assert names & LATER == frozenset()


def test_a_supervisor_has_not_loaded_what_only_its_workers_need() -> None:
    names = loaded("gateway.cli.main", "gateway.cli.serve", "gateway.cli.serving", "gateway.app.supervisor")
    assert names & {"aiohttp", "cryptography", "gateway.app.assembly", "rich"} == frozenset()


def test_the_options_of_serve_are_known_before_anything_that_serves_is_loaded() -> None:
    names = loaded("gateway.cli.main", "gateway.cli.serve")
    assert names & {"asyncio", "pydantic", "structlog"} == frozenset()


def test_a_library_is_absent_for_as_long_as_it_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with absent("colorsys"), pytest.raises(ImportError):
        __import__("colorsys")
    assert __import__("colorsys").rgb_to_hsv


def test_a_library_that_is_loaded_stays() -> None:
    with absent("os"):
        assert __import__("os") is os
    assert sys.modules["os"] is os


@pytest.fixture
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.enable()
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.usefixtures("collector")
def test_a_start_is_not_stopped_for_unused_cycles_and_is_set_apart_when_it_is_over() -> None:
    begin()
    assert not gc.isenabled()
    made: list[object] = []
    made.append(made)
    settle()
    assert gc.isenabled()
    assert all(made is not each for each in gc.get_objects()), "it is among what is looked through"
