"""Where a fault goes that must not stop the story: to whoever listens to the running event loop."""

import asyncio


def report(what: str, fault: BaseException) -> None:
    """Tell the event loop's exception handler, which logs unless the process set another."""
    asyncio.get_running_loop().call_exception_handler({"message": what, "exception": fault})
