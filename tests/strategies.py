"""Strategies that draw what `tests.makers` makes by chance."""

from collections.abc import Callable
from random import Random
from typing import TypeVar

from hypothesis import strategies as st

from gateway.domain.appointment import Appointment, Command
from gateway.domain.grant import Policy
from tests.makers import a_command, a_policy, an_appointment

T = TypeVar("T")


def by_chance(make: Callable[[Random], T]) -> st.SearchStrategy[T]:
    """Draw what a maker makes of a seed; a failure shows the value itself."""
    return st.integers(0, 2**64 - 1).map(lambda seed: make(Random(seed)))


def policies() -> st.SearchStrategy[Policy]:
    """Draw policies."""
    return by_chance(a_policy)


def appointments() -> st.SearchStrategy[Appointment]:
    """Draw appointments."""
    return by_chance(an_appointment)


def commands() -> st.SearchStrategy[Command]:
    """Draw commands."""
    return by_chance(a_command)
