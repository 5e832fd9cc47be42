"""The log must never be the reason why something else does not happen."""

import errno
import io
import json
import subprocess
import sys
from fractions import Fraction

import pytest
import structlog

from gateway.cli.log import Lenient, as_json, trace


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical", "exception", "msg"])
def test_a_log_on_a_full_disk_loses_lines_and_nothing_else(level: str) -> None:
    with pytest.raises(OSError, match="No space left"):
        Full().write("x")
    getattr(Lenient(Full()), level)("x")


def test_a_log_with_room_has_the_line() -> None:
    file = io.StringIO()
    Lenient(file).info("a line")
    assert file.getvalue() == "a line\n"


CANARY = "Mrs Jones 943 476 5919"
FAULTS = f"""
import asyncio, logging, sys, threading
import structlog
from gateway.app import assembly
from gateway.cli.log import set_up_log

set_up_log(sys.argv[1])

def breaks():
    try:
        raise ValueError("{CANARY}")
    except ValueError as error:
        raise ExceptionGroup("{CANARY}", [KeyError("{CANARY}"), OSError(28, "{CANARY}")]) from error

async def live():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(assembly._tell_fault)
    async def lost():
        breaks()
    task = asyncio.create_task(lost())
    await asyncio.wait([task])
    del task
    loop.call_soon(lambda text: breaks(), "{CANARY}")
    await asyncio.sleep(0.01)

asyncio.run(live())
thread = threading.Thread(target=breaks)
thread.start()
thread.join()
class Breaks:
    def __del__(self):
        breaks()
Breaks()
for log in (structlog.get_logger(), logging.getLogger("some.library")):
    try:
        breaks()
    except ExceptionGroup:
        log.exception("it broke")
breaks()
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_the_words_of_an_error_are_in_no_line_and_where_it_came_from_is(form: str) -> None:
    ran = subprocess.run([sys.executable, "-c", FAULTS, form], capture_output=True, text=True, check=False)

    assert ran.returncode == 1
    assert ran.stderr.count("builtins.ExceptionGroup") == 7
    assert "Jones" not in ran.stderr
    assert "476 5919" not in ran.stderr
    assert ran.stderr.count("because of builtins.ValueError") == 7
    assert ran.stderr.count("builtins.OSError ENOSPC") == 7
    if form == "json":
        told = [json.loads(line) for line in ran.stderr.splitlines()]
        assert [line["event"] for line in told] == [*["fault"] * 4, "it broke", "library", "fault"]
        assert all(" in breaks" in line["trace"] for line in told)


def test_a_trace_of_causes_without_end_ends() -> None:
    error = ValueError()
    error.__cause__ = error

    assert trace(error).count("ValueError") == 9


def test_a_line_is_rendered_as_structlog_renders_it() -> None:
    line = {"event": "request", "customer": None, "seconds": 0.25, "text": 'a "é"\n', "other": Fraction(1, 3)}
    assert as_json(None, "info", dict(line)) == structlog.processors.JSONRenderer()(None, "info", dict(line))
