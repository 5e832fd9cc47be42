"""All that a run found, as plain values that go to JSON and come back."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from bench.speed.figures import Figure

Facts = dict[str, str]


@dataclass(frozen=True, slots=True)
class Work:
    """One contender at one scenario, with every connection busy."""

    contender: str
    scenario: str
    cpu: Figure
    """Microseconds of processor time per request, all processes of the contender together."""
    rate: Figure
    """Requests a second."""
    requests: int
    """In each round."""
    memory: float
    """MiB, proportional set of all its processes, after all rounds."""


@dataclass(frozen=True, slots=True)
class Latency:
    """One contender at one open-loop rate, in milliseconds from the moment a request was due; all rounds pooled."""

    contender: str
    scenario: str
    rate: float
    p50: float
    p99: float
    p999: float
    requests: int
    late: float
    """The 99th percentile of how late the driver itself sent."""


@dataclass(frozen=True, slots=True)
class Start:
    """A number of workers, from nothing to ready."""

    workers: int
    seconds: Figure
    idle: float
    """MiB, resident set of the largest worker, some seconds after the start."""
    shared: float
    """MiB, proportional set of all processes together, per worker."""


@dataclass(frozen=True, slots=True)
class Reload:
    """A changed grants file of so many grants, while requests are served."""

    grants: int
    seconds: Figure
    """From the change of the file until the first request that it permits."""
    stall: Figure
    """Milliseconds: the longest that any of the requests meanwhile took."""
    quiet: Figure
    """The same while nothing changed."""
    before: float
    peak: float
    after: float
    """MiB, resident set of all processes."""


@dataclass(frozen=True, slots=True)
class DecisionCost:
    """What one decision costs with so many grants in memory, in microseconds."""

    grants: int
    few: Figure
    """About the same ten pairs of customer and partner at every size."""
    many: Figure
    """About a thousand pairs (all there are, if fewer): the caches of the processor forget some."""


@dataclass(frozen=True, slots=True)
class Records:
    """What one request leaves on disk at one rate."""

    scenario: str
    rate: float
    audit_bytes: float
    syncs: float
    written_bytes: float
    """To the disk, for everything: audit, state, log."""


@dataclass(slots=True)
class Findings:
    """One run. A part that was left out is empty; `skipped` says what could not be measured, and why."""

    facts: Facts = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    durable: list[str] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)
    latency: list[Latency] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    reloads: list[Reload] = field(default_factory=list)
    decisions: list[DecisionCost] = field(default_factory=list)
    records: list[Records] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    profile: str = ""

    def cpu(self, contender: str, scenario: str) -> float | None:
        """The median, if it was measured."""
        found = [each.cpu.median for each in self.work if (each.contender, each.scenario) == (contender, scenario)]
        return found[0] if found else None

    def record(self, scenario: str, rate: float) -> Records | None:
        """What a request leaves on disk, if it was measured."""
        found = [each for each in self.records if (each.scenario, each.rate) == (scenario, rate)]
        return found[0] if found else None

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def read(cls, told: dict[str, Any]) -> Self:
        """The inverse."""
        entries = {
            "work": Work,
            "latency": Latency,
            "starts": Start,
            "reloads": Reload,
            "decisions": DecisionCost,
            "records": Records,
        }
        return cls(**{name: _all(entries[name], part) if name in entries else part for name, part in told.items()})


def _all(kind: type[Any], told: Sequence[dict[str, Any]]) -> list[Any]:
    figures = {each.name for each in fields(kind) if each.type is Figure}
    return [
        kind(**{name: Figure(**value) if name in figures else value for name, value in each.items()}) for each in told
    ]
