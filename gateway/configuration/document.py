"""One TOML file, read once: its bytes, their digest, its values; and where each value stands when that is asked."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import tomli

from gateway.configuration.positions import Positions
from gateway.configuration.problems import Complaint, ConfigurationRefused, Problem, dotted

LARGEST: Final = 32 * 1024 * 1024
"""Bytes. Some 100,000 grants fit; a file beyond it is a mistake, such as a database given for a TOML file."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
# The words of tomli, which is tomllib compiled: a third of the time, and every error knows its line.
_TWICE: Final = ("Cannot overwrite a value", "Cannot declare", "Cannot mutate", "Duplicate inline table key")


@dataclass(frozen=True, slots=True)
class Document:
    """The content of a file at one moment."""

    path: Path
    content: bytes = field(repr=False)
    values: Mapping[str, Any] = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes, in hex."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def folder(self) -> Path:
        """Where relative paths in the file start."""
        return self.path.absolute().parent

    def refusal(self, complaints: Iterable[Complaint]) -> ConfigurationRefused:
        """Give every complaint its line. Positions are worked out only here: a good file does not pay for them."""
        positions = Positions(self.content)
        problems = []
        for complaint in complaints:
            message = complaint.message
            if complaint.other is not None:
                message += f" on line {positions.line(complaint.other)}"
            if complaint.advice is not None:
                message += f"; {complaint.advice}"
            problems.append(Problem(self.path, positions.line(complaint.place), dotted(complaint.place), message))
        return ConfigurationRefused(problems)


def read_document(path: Path) -> Document:
    """Read a TOML file. Raises ConfigurationRefused when it cannot be read, is not text, or is not TOML."""
    content = _content(path)
    try:
        text = content.removeprefix(_BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refused(path, "not UTF-8 text; save the file again with the encoding UTF-8", line) from None
    if not text.strip():
        raise _refused(path, "the file is empty")
    try:
        return Document(path, content, tomli.loads(text))
    except RecursionError:
        raise _refused(path, "brackets are nested too deeply") from None
    except tomli.TOMLDecodeError as error:
        raise _syntax_error(path, error) from None
    except ValueError:
        # What int() says of a number with thousands of digits.
        raise _refused(path, "a number in it is too long", place="(syntax)") from None


def _content(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise _refused(path, "this is a folder; the name of a file is expected")
        if path.exists() and not path.is_file():
            raise _refused(path, "not a plain file")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise _refused(path, "there is no such file") from None
    except OSError as error:
        reason = error.strerror or "the operating system gave no reason"
        raise _refused(path, f"cannot be read: {reason}") from error
    if len(content) > LARGEST:
        raise _refused(path, f"larger than {LARGEST // 1024 // 1024} MiB")
    return content


def _refused(path: Path, message: str, line: int = 1, place: str = "(file)") -> ConfigurationRefused:
    return ConfigurationRefused([Problem(path, line, place, message)])


def _syntax_error(path: Path, error: tomli.TOMLDecodeError) -> ConfigurationRefused:
    reason = error.msg
    if reason.startswith(_TWICE):
        reason = "this key or table is there twice, or its name is taken by something else"
    message = f"not valid TOML near column {error.colno}: {reason}"
    return _refused(path, message, error.lineno, "(syntax)")
