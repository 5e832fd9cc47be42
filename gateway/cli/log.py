"""Where the log goes."""

import contextlib

import structlog


class Lenient(structlog.PrintLogger):
    """Loses a line rather than fail: no request may come to nothing because the disk of the log is full."""

    def msg(self, message: str) -> None:
        """Write a line, if that can be."""
        with contextlib.suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg
