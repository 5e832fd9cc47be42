"""What runs beside the requests for as long as the gateway serves."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any


def run_beside(work: Coroutine[Any, Any, None], stack: AsyncExitStack) -> None:
    """Start it; it is cancelled, and waited for, when the stack is closed."""
    stack.push_async_callback(_cancelled, asyncio.create_task(work))


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
