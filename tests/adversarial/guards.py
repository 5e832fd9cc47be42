"""The guards of the HTTP edge, each with the switch that takes it out and the vectors that must notice."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Guard:
    """A guard of the product. `remove` wraps it away in the process that calls it."""

    remove: Callable[[], None]
    witnesses: tuple[str, ...]


GUARDS: Final[Mapping[str, Guard]] = {}
