"""Where the log goes, and what never gets into it: the words of an error, which may quote what somebody sent."""

import errno
import io
import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Final

from gateway.cli.absent import absent

# It asks for rich, to colour what this module never hands it: an error with its frames.
with absent("rich"):
    import structlog
    from structlog.typing import EventDict, Processor

DEEPEST: Final = 8
"""Causes of causes that are told."""

_log = structlog.get_logger("pkb_gateway")
_encode = json.JSONEncoder(default=repr).encode


class Lenient(structlog.PrintLogger):
    """Loses a line rather than fail: no request may come to nothing because the disk of the log is full."""

    def msg(self, message: str) -> None:
        """Write a line, if that can be."""
        try:
            super().msg(message)
        except OSError:
            return

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


class Libraries(logging.Handler):
    """Gives the warnings of libraries a line like any other."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one on."""
        error = record.exc_info[1] if record.exc_info else None
        _log.log(record.levelno, "library", logger=record.name, told=record.getMessage(), exc_info=error)


def trace(error: BaseException) -> str:
    """Tell where an error came from, and of which kind it is, with its causes, in no words of its own."""
    return "\n".join(_lines(error, DEEPEST))


def _lines(error: BaseException, depth: int) -> Iterator[str]:
    number = errno.errorcode.get(error.errno or 0, "") if isinstance(error, OSError) else ""
    yield f"{type(error).__module__}.{type(error).__qualname__} {number}".rstrip()
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"  {frame.filename}:{frame.lineno} in {frame.name}"
    if depth == 0:
        return
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if behind is not None:
        yield from (f"  because of {line}" if at == 0 else line for at, line in enumerate(_lines(behind, depth - 1)))
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from (f"  {line}" for line in _lines(each, depth - 1))


def _with_trace(_: object, __: str, event: EventDict) -> EventDict:
    given = event.pop("exc_info", None)
    error = sys.exception() if given is True else given
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["trace"] = trace(error)
    return event


def as_json(_: object, __: str, event: EventDict) -> str:
    """Render a line as `structlog.processors.JSONRenderer` does, which makes an encoder for each."""
    return _encode(event)


def set_up_log(form: str, worker: int | None = None) -> None:
    """Log to standard error, one event a line; each names the worker, where there are several."""
    if isinstance(sys.stderr, io.TextIOWrapper):
        # One call of the system for each line, even with PYTHONUNBUFFERED: several workers write to the same file.
        sys.stderr.reconfigure(line_buffering=True, write_through=False)
    renderer: Processor = structlog.dev.ConsoleRenderer() if form == "console" else as_json

    def number(_: object, __: str, event: EventDict) -> EventDict:
        return {**event, "worker": worker}

    structlog.configure(
        processors=[
            *([] if worker is None else [number]),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _with_trace,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: Lenient(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[Libraries()])
    sys.excepthook = _uncaught
    threading.excepthook = lambda told: _uncaught(told.exc_type, told.exc_value, told.exc_traceback)
    sys.unraisablehook = lambda told: _uncaught(told.exc_type, told.exc_value, told.exc_traceback)


def _uncaught(kind: type[BaseException], error: BaseException | None, _: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        _log.error("fault", exc_info=error)
