"""How a process that serves shares the processors of its machine with others.

A thread that Linux wakes up may push aside the one that runs. What a gateway wakes up for can wait until that one
sleeps: what comes back from the disk needs the lock that the one pushed aside may hold, the interpreter's, and a loop
that is run a moment later finds several answers instead of one.
"""

import os
import sys
from contextlib import suppress


def push_nobody_aside() -> None:
    """Be scheduled as `SCHED_BATCH`: with the same share as before, but waking up pushes nobody aside.

    For the thread that asks and all it starts. What somebody chose for this process stays, and so does all where the
    system has no such thing, or forbids it, as a filter of its calls may.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            if os.sched_getscheduler(0) == os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
