"""JSON whose numbers stay as written: 1.10 is read and written as 1.10, and 1e2 as 1e2."""

import json
from collections.abc import Callable
from typing import Any, NoReturn

_PLAIN = json.JSONEncoder(ensure_ascii=False).encode
_ESCAPED = json.JSONEncoder(ensure_ascii=True).encode


class Number(str):
    """A JSON number, by its digits."""

    __slots__ = ()


class BadJson(ValueError):
    """Not JSON; the message says what is wrong and where."""


def read(body: bytes) -> Any:
    """Parse UTF-8 JSON. Every number becomes a `Number`. Raises `BadJson`."""
    try:
        return json.loads(body.decode("utf-8"), parse_float=Number, parse_int=Number, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise BadJson(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise BadJson(f"{error.msg} at line {error.lineno} column {error.colno}") from error
    except RecursionError as error:
        raise BadJson("nested too deeply") from error


def write(value: Any) -> bytes:
    """Serialise to compact UTF-8. A lone surrogate, which UTF-8 cannot hold, is written as an escape."""
    try:
        return _render(value, _PLAIN).encode("utf-8")
    except UnicodeEncodeError:
        return _render(value, _ESCAPED).encode("ascii")


def _no_constant(name: str) -> NoReturn:
    raise BadJson(f"{name} is not JSON")


def _render(value: Any, text: Callable[[str], str]) -> str:
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return "{" + ",".join([f"{text(name)}:{_render(held, text)}" for name, held in value.items()]) + "}"
    if isinstance(value, list):
        return "[" + ",".join([_render(held, text) for held in value]) + "]"
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    raise TypeError(f"{type(value).__name__} has no exact form in JSON")
