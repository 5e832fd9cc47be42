"""What is wrong with a configuration file, and where, in words for the person who edits it."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Step = str | int
Place = tuple[Step, ...]
"""The way from the top of a file to a value: keys, and positions in lists."""

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something wrong at a place; `other` is the place it clashes with, told by its line."""

    place: Place
    message: str
    other: Place | None = None
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """One line for a person: `file:line: path: message`."""

    file: Path
    line: int
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.place}: {self.message}"


class ConfigurationRefused(Exception):
    """A file is not taken. `problems` holds everything found, in the order of its lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.place, problem.message)))
        super().__init__("\n".join(map(str, self.problems)))


def dotted(place: Place) -> str:
    """Write a place as TOML would: `grants[0].cancel.reasons[1]`. The whole file is `(file)`."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            key = step if _BARE_KEY.fullmatch(step) else json.dumps(step[:80], ensure_ascii=False)
            text += f".{key}" if text else key
    return text or "(file)"
