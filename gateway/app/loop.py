"""The event loop of a process that serves: uvloop's where there is one, else asyncio's."""

import asyncio
from collections.abc import Coroutine
from importlib.util import find_spec
from typing import Any, TypeVar

T = TypeVar("T")


def new_loop() -> asyncio.AbstractEventLoop:
    """Make a loop for a process that serves."""
    # Windows and PyPy have no uvloop; pyproject.toml does not ask for it there.
    if find_spec("uvloop") is None:
        return asyncio.new_event_loop()
    from gateway.app.exact_loop import ExactLoop  # noqa: PLC0415  # it is not everywhere

    return ExactLoop()


def run_served(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end on such a loop, as `asyncio.run` does on its own."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)
