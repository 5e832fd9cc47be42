"""Load shedding: requests are let in as fast as the process gets round, and no faster."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

FEW: Final = 16
"""Requests inside that nobody has to be held back for in an overload: about as many as rounds let work at a time."""

MANY: Final = 64
"""Requests inside that nobody has to be held back for at any other time. Rounds cost a fifth of a request, and while
nobody is turned away they only decide who waits inside and who outside."""

GRACE: Final = 1.0
"""Seconds for which requests may queue without a pause before any is refused: a burst is no overload."""

PLACES: Final = 64
"""Requests that may wait for as long as it takes: callers who each wait for their answer before they ask again, and who
are no more than that, are never turned away, however slow the machine."""

PATIENCE: Final = 0.5
"""Seconds after which one that still waits is turned away, in an overload: what came since is served first."""

CALM: Final = 1.0
"""Seconds without a refusal after which the overload is over; a queue that is empty for a moment does not end it."""

TRIPS: Final = 2
"""How often a round goes to the other thread and back. A request takes some twenty such steps, so ten or so work at
a time: enough to keep the process busy, few enough that none is late."""


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


class Turnstile:
    """Lets a few requests in as they come and further ones one each round of the process; turns away what is too much.

    A process with too much to do gets round slowly, for whatever reason: many requests, dear ones, a starved machine.
    One that waits, for PKB or a slow client, gets round at once; so a customer whose PKB hangs counts as no load.
    One request a round cannot outrun those inside, each of which gets a step further in a round. That bounds how many
    work at a time, in steps of a request and not in milliseconds, on whatever machine. With fewer than `few` inside
    it holds by itself. As long as there is no overload, no round is needed with fewer than `many` inside either.

    `soon` calls back one round later; `clock` gives seconds. All methods belong to the event loop.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        soon: Callable[[Callable[[], None]], None] | None = None,
        few: int = FEW,
        many: int = MANY,
    ) -> None:
        self._clock = clock
        self._few = few
        self._many = many
        self._inside = 0
        self._soon = soon or Rounds()
        self._waiting: deque[tuple[float, asyncio.Future[bool]]] = deque()
        self._standing: float | None = None
        """Since when somebody has been waiting at every moment."""
        self._refused = -math.inf
        """When somebody was last turned away."""
        self._turning = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def overloaded(self) -> bool:
        """Whether more came than could be let in, for longer than a burst lasts."""
        now = self._clock()
        standing = self._standing is not None and now - self._standing > GRACE
        return now - self._refused < CALM or (standing and len(self._waiting) > PLACES)

    async def enter(self) -> bool:
        """Wait to be let in, and `leave` when answered. False: turned away, because newer requests took the places."""
        if self._waiting or not self._has_room:
            if not self._turning:
                self._turning = True
                self._soon(self._turn)
            elif not await self._wait():
                return False
        self._inside += 1
        return True

    def leave(self) -> None:
        """Let the next one in, in the place of one that was let in and is answered."""
        self._inside -= 1
        if self._waiting and self._has_room:
            self._let_in()

    @property
    def _has_room(self) -> bool:
        return self._inside < self._few or (self._inside < self._many and not self.overloaded)

    async def _wait(self) -> bool:
        now = self._clock()
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self._standing is None:
            self._standing = now
        self._waiting.append((now, told))
        self._make_room(now)
        return await told

    def _make_room(self, now: float) -> None:
        """Turn the oldest away: their callers give up soonest, and a queue served in order makes everybody late."""
        while self.overloaded and (len(self._waiting) > PLACES or now - self._waiting[0][0] > PATIENCE):
            self._refused = now
            _tell(self._waiting.popleft()[1], let_in=False)

    def _turn(self) -> None:
        if not self._waiting:
            self._turning = False
            return
        self._let_in()
        self._soon(self._turn)

    def _let_in(self) -> None:
        _, told = self._waiting.pop() if self.overloaded else self._waiting.popleft()
        if not self._waiting:
            self._standing = None
        _tell(told, let_in=True)


def _tell(told: asyncio.Future[bool], *, let_in: bool) -> None:
    if not told.done():  # it is, where the server cancelled the request
        told.set_result(let_in)
