"""Where the log goes, and what never gets into it: the words of an error, which may quote what somebody sent."""

import asyncio
import atexit
import contextlib
import errno
import io
import json
import logging
import select
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, TextIO

import msgspec

from gateway.cli.absent import absent

# It asks for rich, to colour what this module never hands it: an error with its frames.
with absent("rich"):
    import structlog
    from structlog.typing import EventDict, Processor

DEEPEST: Final = 8
"""Causes of causes that are told."""

_log = structlog.get_logger("pkb_gateway")
_encode = json.JSONEncoder(default=repr, separators=(",", ":")).encode
_plain = msgspec.json.Encoder().encode
"""Writes the same of plain values, in a fifth of the time."""


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


class Gathering(Lenient):
    """Writes what one round of an event loop has to say when the round is over, and not line by line.

    Only lines of the level info, as those of requests are: they come many at a time, since all who wait for the same
    sync of the disk are answered in one round, and each call of the system gives the interpreter's lock away. Any other
    line goes out at once, behind those that wait. No call writes more than a pipe takes in one piece: several
    workers may write to it.
    """

    def __init__(self, file: TextIO) -> None:
        super().__init__(file)
        self._waiting: list[str] = []
        # Reentrant: the collector may run in here too, and end something that has a line of its own to say.
        self._turn = threading.RLock()
        atexit.register(self.flush)

    def info(self, message: str) -> None:
        """Keep a line until the round is over; outside of an event loop write it."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.msg(message)
            return
        with self._turn:
            first = not self._waiting
            self._waiting.append(message)
        if first:
            loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what waits."""
        with self._turn:
            waiting, self._waiting = self._waiting, []
            for piece in _pieces(waiting):
                with contextlib.suppress(OSError):
                    self._file.write(piece)
                    self._file.flush()

    def msg(self, message: str) -> None:
        """Write a line behind those that wait."""
        with self._turn:
            self._waiting.append(message)
            self.flush()

    log = debug = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


def _pieces(lines: Sequence[str]) -> Iterator[str]:
    """Join lines to pieces of at most PIPE_BUF bytes; a line that is longer is one by itself."""
    piece, size = "", 0
    for line in lines:
        # As ASCII, which the lines of JSON are; a letter of another kind takes four bytes at most.
        length = len(line) + 1 if line.isascii() else 4 * len(line) + 1
        if piece and size + length > select.PIPE_BUF:
            yield piece
            piece, size = "", 0
        piece, size = f"{piece}{line}\n", size + length
    if piece:
        yield piece


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


def as_json(_: object, level: str, event: EventDict) -> str:
    """Render a line as structlog's own `add_log_level`, `TimeStamper` and `JSONRenderer` do one after the other."""
    event = structlog.processors.add_log_level(_, level, event)
    event["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    if "exc_info" in event:
        event = _with_trace(_, level, event)
    try:
        line = _plain(event)
    except (TypeError, UnicodeEncodeError):  # what only its `repr` can tell, or half a letter
        return _encode(event)
    # Standard error may be told to take nothing but ASCII.
    return line.decode("ascii") if line.isascii() else _encode(event)


def set_up_log(form: str, worker: int | None = None) -> None:
    """Log to standard error, one event a line; each names the worker, where there are several."""
    if isinstance(sys.stderr, io.TextIOWrapper):
        # One call of the system for each line, even with PYTHONUNBUFFERED: several workers write to the same file.
        sys.stderr.reconfigure(line_buffering=True, write_through=False)
    rendering: list[Processor] = [as_json]
    if form == "console":
        stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        rendering = [structlog.processors.add_log_level, stamp, _with_trace, structlog.dev.ConsoleRenderer()]
    out = Gathering(sys.stderr)

    def number(_: object, __: str, event: EventDict) -> EventDict:
        return {**event, "worker": worker}

    structlog.configure(
        processors=[*([] if worker is None else [number]), *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: out,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[Libraries()])
    sys.excepthook = _uncaught
    threading.excepthook = lambda told: _uncaught(told.exc_type, told.exc_value, told.exc_traceback)
    sys.unraisablehook = lambda told: _uncaught(told.exc_type, told.exc_value, told.exc_traceback)


def _uncaught(kind: type[BaseException], error: BaseException | None, _: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        _log.error("fault", exc_info=error)
