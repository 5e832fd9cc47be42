"""The log must never be the reason why something else does not happen."""

import asyncio
import errno
import gc
import io
import json
import re
import select
import subprocess
import sys
import threading
from fractions import Fraction
from typing import Any

import pytest
import structlog

from gateway.cli.log import Gathering, Lenient, as_json, trace


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


LINES: list[dict[str, object]] = [
    {
        "event": "request",
        "customer": None,
        "seconds": 0.00012345,
        "status": 200,
        "text": 'a "b"\n\x00/\x7f<&',
        "is": True,
    },
    {"event": "request", "text": "é \ud800"},
    {"event": "request", "other": Fraction(1, 3)},
]


@pytest.mark.parametrize("level", ["info", "warn", "exception"])
@pytest.mark.parametrize("line", LINES, ids=["plain", "no ASCII", "of another type"])
def test_a_line_is_rendered_as_structlog_renders_it(line: dict[str, object], level: str) -> None:
    other: Any = dict(line)
    for step in (
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.JSONRenderer(separators=(",", ":")),
    ):
        other = step(None, level, other)
    moment = re.compile('"timestamp":"[-0-9T:.]{26}Z"')
    ours = as_json(None, level, dict(line))
    assert json.loads(moment.sub('"timestamp":0', ours)) == json.loads(moment.sub('"timestamp":0', other))
    assert ours.isascii()
    assert len(moment.findall(ours)) == len(moment.findall(other)) == 1


class Calls(io.StringIO):
    """A file that keeps every piece it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return super().write(text)


async def test_the_lines_of_one_round_leave_together_when_it_is_over() -> None:
    file = Calls()
    log = Gathering(file)
    log.info("a")
    log.info("b")
    assert file.pieces == []
    await asyncio.sleep(0)
    log.info("c")
    await asyncio.sleep(0)
    assert file.pieces == ["a\nb\n", "c\n"]


async def test_what_is_more_than_information_leaves_at_once_and_behind_what_waits() -> None:
    file = Calls()
    log = Gathering(file)
    log.info("a")
    log.error("b")
    log.info("c")
    assert file.getvalue() == "a\nb\n"
    await asyncio.sleep(0)
    assert file.getvalue() == "a\nb\nc\n"


async def test_no_piece_is_longer_than_a_pipe_takes_at_once_unless_a_line_is() -> None:
    file = Calls()
    log = Gathering(file)
    lines = [*(f"{number} {'x' * 700}" for number in range(20)), "é" * 2_000, "y" * 9_000, "z"]
    for line in lines:
        log.info(line)
    await asyncio.sleep(0)
    assert file.getvalue().splitlines() == lines
    long = [piece for piece in file.pieces if len(piece.encode()) > select.PIPE_BUF]
    assert long == ["y" * 9_000 + "\n"]
    assert len(file.pieces) < 10


def test_outside_of_an_event_loop_a_line_is_written_at_once() -> None:
    file = io.StringIO()
    Gathering(file).info("a line")
    assert file.getvalue() == "a line\n"


async def test_a_round_whose_lines_a_full_disk_loses_is_over_all_the_same() -> None:
    log = Gathering(Full())
    log.info("x")
    await asyncio.sleep(0)
    log.error("y")


class Collected(io.StringIO):
    """A file in the middle of whose lines the collector finds something."""

    def write(self, text: str) -> int:
        gc.collect()
        return super().write(text)


def test_a_line_that_the_collector_has_to_say_in_the_middle_of_another_holds_nobody_up() -> None:
    file = Collected()
    log = Gathering(file)

    class Lost:
        """As a task is whose error nobody asked for."""

        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            log.error("lost")

    async def live() -> None:
        log.info("a")
        Lost()
        await asyncio.sleep(0)
        Lost()
        log.error("b")

    thread = threading.Thread(target=asyncio.run, args=(live(),), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert sorted(file.getvalue().splitlines()) == ["a", "b", "lost", "lost"]


LAST_WORDS = """
import asyncio, structlog, sys
from gateway.cli.log import set_up_log

set_up_log("json")

async def live():
    structlog.get_logger().info("last")
    sys.exit(3)

asyncio.run(live())
"""


def test_a_process_that_ends_in_the_middle_of_a_round_has_said_all() -> None:
    ran = subprocess.run([sys.executable, "-c", LAST_WORDS], capture_output=True, text=True, check=False)
    assert (ran.returncode, json.loads(ran.stderr)["event"]) == (3, "last")
