"""Load shedding: as many requests are let in as keep the process busy, and no more."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

FEW: Final = 16
"""Requests inside that nobody has to be held back for in a crowd: about as many as work at a time in a busy process."""

MANY: Final = 64
"""Requests inside that nobody has to be held back for at any other time. While nobody is turned away, being held back
only decides who waits inside and who outside."""

HURRY: Final = 0.1
"""Seconds after which a queue that stands is a crowd: the newest is let in first. Nobody is turned away for it."""

GRACE: Final = 1.0
"""Seconds for which requests may queue without a pause before any is refused: a burst is no overload."""

PLACES: Final = 64
"""Requests that may wait for as long as it takes: callers who each wait for their answer before they ask again, and who
are no more than that, are never turned away, however slow the machine."""

PATIENCE: Final = 0.5
"""Seconds after which one that still waits is turned away, in an overload: what came since is served first."""

CALM: Final = 1.0
"""Seconds without a refusal after which the overload is over; a queue that is empty for a moment does not end it."""

AT_ONCE: Final = 8
"""How many are turned away for each one who leaves. All that a burst has left, told at once, would hold up those
inside."""

TRIPS: Final = 2
"""How often a round goes to the other thread and back. A request takes some twenty such steps, so ten or so work at
a time: enough to keep the process busy, few enough that none is late."""

REST: Final = 9.0
"""Times its own length that a round is followed by none, where it found the process busy: a tenth of the time is
measured, since rounds cost most where there is most to do."""

LONGEST_REST: Final = 0.1
"""Seconds; those inside may all come to wait at any moment."""


class Rounds:
    """Calls back after one round of the process: to another thread and back through the event loop, some times.

    The loop alone would not tell: it spins while requests wait for the threads that write, and these for the
    interpreter's lock. The thread is its own, because hanging name lookups fill the one that asyncio offers.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="turnstile")

    def __call__(self, call: Callable[[], None]) -> None:
        """Call back, in the event loop that runs now."""
        self._travel(call, TRIPS)

    def _travel(self, call: Callable[[], None], trips: int) -> None:
        then = call if trips == 1 else partial(self._travel, call, trips - 1)
        self._thread.submit(asyncio.get_running_loop().call_soon_threadsafe, then)


def _after(seconds: float, call: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, call)


class Turnstile:
    """Keeps as many requests inside as keep the process busy, and turns away what is too much.

    How many that is, rounds of the process tell. One with too much to do gets round slowly, for whatever reason: many
    requests, dear ones, a starved machine. One that waits, for PKB or a slow client, gets round at once; so a customer
    whose PKB hangs counts as no load. Where nobody left during a round, one more is let in; where more than one did,
    more of them work at a time than have to, and not all who leave are followed by another. So about one leaves
    in a round, on whatever machine: that bounds how many work at a time in steps of a request and not in milliseconds.
    With no more than `few` inside it holds by itself. As long as there is no crowd, `many` may be inside.

    `soon` calls back one round later, `later` after some seconds; `clock` gives seconds. All methods belong to the
    event loop.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        soon: Callable[[Callable[[], None]], None] | None = None,
        later: Callable[[float, Callable[[], None]], None] = _after,
        few: int = FEW,
        many: int = MANY,
    ) -> None:
        self._clock = clock
        self._soon = soon or Rounds()
        self._later = later
        self._few = few
        self._many = many
        self._inside = 0
        self._allowed = 0
        """How many may be inside by what the rounds have told; fewer than `few` means nothing."""
        self._waiting: deque[tuple[float, asyncio.Future[bool]]] = deque()
        self._standing: float | None = None
        """Since when somebody has been waiting at every moment."""
        self._refused = -math.inf
        """When somebody was last turned away."""
        self._turning = False
        """Whether a round is under way, or will be."""
        self._begun = 0.0
        self._left = 0
        """Those who left since the round began."""

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def overloaded(self) -> bool:
        """Whether more came than could be let in, for longer than a burst lasts."""
        return self._stands(GRACE)

    def is_full(self, coming: int = 0) -> bool:
        """Whether whoever comes now, behind so many others, is turned away.

        While a burst has left more than there are places, newcomers take those of the oldest.
        """
        return PLACES - coming <= len(self._waiting) <= PLACES and self.overloaded

    def turn_away(self) -> None:
        """Take note that somebody was turned away because it is full."""
        self._refused = self._clock()

    async def enter(self) -> bool:
        """Wait to be let in, and `leave` when answered. False: turned away."""
        if self._waiting or not self._has_room:
            if self.is_full():
                self.turn_away()
                return False
            return await self._wait()
        self._inside += 1
        return True

    def leave(self) -> None:
        """Let the next one in, in the place of one that was let in and is answered."""
        self._inside -= 1
        self._left += 1
        if self._waiting:
            if self._has_room:
                self._let_in()
            self._make_room()

    @property
    def _has_room(self) -> bool:
        inside = self._inside
        return inside < self._few or inside < self._allowed or (inside < self._many and not self._stands(HURRY))

    def _stands(self, seconds: float) -> bool:
        """Whether it is full of people and has not been empty for so long, or somebody was turned away just now."""
        now = self._clock()
        standing = self._standing is not None and now - self._standing > seconds
        return now - self._refused < CALM or (standing and len(self._waiting) > PLACES)

    async def _wait(self) -> bool:
        now = self._clock()
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self._standing is None:
            self._standing = now
        self._waiting.append((now, told))
        if not self._turning:
            self._turning = True
            self._turn()
        try:
            return await told
        except asyncio.CancelledError:
            if told.done() and not told.cancelled() and told.result():  # let in, and gone before it knew
                self.leave()
            raise

    def _make_room(self) -> None:
        """Turn the oldest away: their callers give up soonest, and a queue served in order makes everybody late."""
        now, waiting = self._clock(), self._waiting
        for _ in range(AT_ONCE):
            if not (waiting and self.overloaded and (len(waiting) > PLACES or now - waiting[0][0] > PATIENCE)):
                return
            self._refused = now
            told = self._call_up()
            if not told.done():
                told.set_result(False)

    def _turn(self) -> None:
        self._begun, self._left = self._clock(), 0
        self._soon(self._turned)

    def _turned(self) -> None:
        self._make_room()
        if not self._waiting:
            self._turning, self._allowed = False, 0
        elif self._left == 0:
            self._allowed = self._inside + 1
            self._let_in()
            self._turn()
        else:
            self._allowed = max(0, self._allowed - self._left + 1)
            self._later(min(LONGEST_REST, REST * (self._clock() - self._begun)), self._turn)

    def _call_up(self, *, newest: bool = False) -> asyncio.Future[bool]:
        """Take one out of the queue, which stands no more where that empties it."""
        _, told = self._waiting.pop() if newest else self._waiting.popleft()
        if not self._waiting:
            self._standing = None
        return told

    def _let_in(self) -> None:
        told = self._call_up(newest=self._stands(HURRY))
        if not told.done():  # it is, where the server cancelled the request
            self._inside += 1
            told.set_result(True)
