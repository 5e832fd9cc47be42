"""An event loop whose time passes only while everybody sleeps, and then at once: hours of a story in a moment."""

import asyncio
import selectors
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.flow.fakes import Clock, Nap
from tests.makers import NOW


class _Selector(selectors.DefaultSelector):
    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits for somebody else"
        self.passed += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its clock is its own."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.passed


@dataclass
class LoopClock(Clock):
    """The time of day, as the event loop has it; `wrong` is what somebody set it by."""

    wrong: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return NOW + timedelta(seconds=self.elapsed()) + self.wrong

    def elapsed(self) -> float:
        return asyncio.get_running_loop().time()


class Sleep(Nap):
    """Sleeps as long as it is told."""

    async def __call__(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
