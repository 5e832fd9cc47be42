"""What the load benches print: tables for people, JSON for machines, and a verdict for whoever runs them."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.load.plan import Run, Sample


def percentile(values: Iterable[float], share: float) -> float:
    """The value that so much of the others do not exceed; 0 where there is none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def slope(values: Sequence[float]) -> float:
    """The growth per step of the straight line that fits best."""
    count = len(values)
    if count < 2:
        return 0.0
    middle, mean = (count - 1) / 2, sum(values) / count
    spread = sum((place - middle) ** 2 for place in range(count))
    return sum((place - middle) * (value - mean) for place, value in enumerate(values)) / spread


def p99(samples: Iterable[Sample]) -> float:
    """The 99th percentile of the good answers, in milliseconds."""
    return 1000 * percentile((each.seconds for each in samples if each.good), 0.99)


def told(samples: Iterable[Sample]) -> dict[str, int]:
    """How often each answer came."""
    counts = Counter(f"{each.status} {each.code}".strip() for each in samples)
    return dict(counts.most_common())


@dataclass(slots=True)
class Report:
    """One bench: phases, and demands that hold or do not."""

    title: str
    phases: list[dict[str, Any]] = field(default_factory=list)
    demands: list[tuple[str, str, bool]] = field(default_factory=list)

    def phase(self, name: str, run: Run, **more: Any) -> None:
        """Add one run to the table."""
        good = [each.seconds for each in run.samples if each.good]
        shed = [each.seconds for each in run.samples if each.shed]
        self.phases.append(
            {
                "phase": name,
                "sent/s": round(len(run.samples) / run.plan.seconds, 1),
                "good/s": round(len(good) / run.seconds, 1),
                "p50 ms": round(1000 * percentile(good, 0.5)),
                "p99 ms": round(1000 * percentile(good, 0.99)),
                "shed": len(shed),
                "shed p99 ms": round(1000 * percentile(shed, 0.99)),
                **more,
                "answers": ", ".join(f"{count} x {answer}" for answer, count in told(run.samples).items()),
            }
        )
        print(f"{name}: {self.phases[-1]}", file=sys.stderr, flush=True)

    def demand(self, what: str, found: str, *, holds: bool) -> None:
        """Add one line of the bar."""
        self.demands.append((what, found, holds))

    def end(self) -> int:
        """Print it all; 1 where a demand does not hold."""
        print(f"# {self.title}\n")
        print(f"{os.cpu_count()} processors for gateway, simulator and load generator together.\n")
        if self.phases:
            names = list(self.phases[0])
            print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
            for phase in self.phases:
                print(f"| {' | '.join(str(phase[name]) for name in names)} |")
        print("\n| demand | found | holds |\n|---|---|---|")
        for what, found, holds in self.demands:
            print(f"| {what} | {found} | {'yes' if holds else '**NO**'} |")
        demands = [{"demand": what, "found": found, "holds": holds} for what, found, holds in self.demands]
        print(f"\n```json\n{json.dumps({'title': self.title, 'phases': self.phases, 'demands': demands})}\n```")
        return 0 if all(holds for _, _, holds in self.demands) else 1
