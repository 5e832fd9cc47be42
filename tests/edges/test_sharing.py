"""How a process that serves is scheduled among others. Children are asked, since nobody may go back from some of it."""

import os
import subprocess
import sys
import textwrap

import pytest

ASKED = """
import os, threading
from gateway.app.sharing import push_nobody_aside

push_nobody_aside()
found = [os.sched_getscheduler(0)]
thread = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
thread.start()
thread.join()
print(*found)
"""
FORBIDDEN = """
import ctypes, os, platform, struct

# Load the number of the call; where it is sched_setscheduler, answer EPERM; allow all else.
number = {"x86_64": 144, "aarch64": 119}[platform.machine()]
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(code)))
system = ctypes.CDLL(None, use_errno=True)
assert system.prctl(38, 1, 0, 0, 0) == 0, "no new privileges"
assert system.prctl(22, 2, program, 0, 0) == 0, "the filter"
try:
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
except PermissionError:
    pass
else:
    raise AssertionError("the filter let it")
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these policies")


def policies(*before: str) -> list[int]:
    """What a process and a thread that it starts are scheduled as, after it asked for it."""
    program = "".join(map(textwrap.dedent, (*before, ASKED)))
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return [int(each) for each in ran.stdout.split()]


def chosen(policy: str) -> str:
    return f"import os; os.sched_setscheduler(0, os.{policy}, os.sched_param(0))"


def test_a_process_that_serves_and_its_threads_push_nobody_aside() -> None:
    assert policies(chosen("SCHED_OTHER")) == [os.SCHED_BATCH, os.SCHED_BATCH]


def test_what_an_operator_chose_stays() -> None:
    assert policies(chosen("SCHED_IDLE")) == [os.SCHED_IDLE, os.SCHED_IDLE]


def test_where_it_is_forbidden_a_process_serves_as_it_was_started() -> None:
    assert policies(chosen("SCHED_OTHER"), FORBIDDEN) == [os.SCHED_OTHER, os.SCHED_OTHER]
