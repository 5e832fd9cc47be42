"""What the load driver is told, and what it tells."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

PLACE: Final = "@number@"
"""Stands for the number of a request in the text of its plan."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    `steps` are whole HTTP requests, sent one after the other on one connection, and timed together. With `rate` the
    loop is open, and the requests a second come at random moments; without, each of `connections` asks again as soon
    as it is answered. With `each` every step is a request by itself, as many as are counted, and asked once.
    With `beside` every other connection goes to that port.
    """

    name: str
    port: int
    steps: Sequence[str]
    count: int
    connections: int = 32
    rate: float = 0.0
    seed: int = 7
    each: bool = False
    beside: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it, in the order of the answers and in seconds; `late` is how late the driver itself sent."""

    seconds: float
    answers: dict[str, int]
    took: list[float]
    late: list[float] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """As JSON, times in whole microseconds."""
        return {
            "seconds": self.seconds,
            "answers": self.answers,
            "took": [round(each * 1e6) for each in self.took],
            "late": [round(each * 1e6) for each in self.late],
        }

    @classmethod
    def read(cls, told: dict[str, Any]) -> Self:
        """The inverse."""
        took, late = ([each / 1e6 for each in told[name]] for name in ("took", "late"))
        return cls(told["seconds"], told["answers"], took, late)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.took) / self.seconds
