"""Whose turn it is."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

Entry = TypeVar("Entry")


def in_turns(entries: Sequence[Entry], rounds: int) -> Iterator[Entry]:
    """Every entry once a round, and each round begins with another one."""
    for number in range(rounds):
        start = number % max(1, len(entries))
        yield from (*entries[start:], *entries[:start])
