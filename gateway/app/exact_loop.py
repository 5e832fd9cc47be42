"""uvloop with asyncio's idea of time. To be imported only where there is uvloop."""

import asyncio
import math
import time
from collections.abc import Callable
from contextvars import Context
from typing import TypeVarTuple

import uvloop

Args = TypeVarTuple("Args")


class ExactLoop(uvloop.Loop):
    """A loop with whose time deadlines are compared, up to the last moment before a write leaves.

    uvloop's own is the time at which the current round began, in whole milliseconds: a process that was stopped in
    mid-round would not see how late it is. And its timers round to the nearest millisecond, so they may ring before the
    time they were set for; asyncio's never do.
    """

    time = staticmethod(time.monotonic)
    """The monotonic clock, as asyncio has it: the function itself, because it is asked all the time."""

    def call_later(
        self, delay: float, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call once so many seconds are over, not sooner."""
        # One more: the round's time, from which uvloop counts, may lie up to a millisecond back.
        whole = (math.ceil(delay * 1000) + 1) / 1000 if 0 < delay < math.inf else delay
        return super().call_later(whole, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call once that time is reached, not sooner."""
        return self.call_later(when - time.monotonic(), callback, *args, context=context)
