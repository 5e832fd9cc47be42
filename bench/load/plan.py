"""What the load generator is told, and what it tells: plain JSON between two processes."""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

READ, CHANGE = "read", "change"


@dataclass(frozen=True, slots=True)
class Target:
    """One appointment, and who asks for it."""

    customer: str
    id: str
    token: str
    proof: tuple[dict[str, Any], ...] = ()
    """The parameters that name the patient, where the grant wants them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of the generator.

    With `rate` the loop is open: requests a second, at random moments (Poisson), sent whether or not earlier ones
    were answered, each timed from the moment at which it was due. Without, `workers` ask one after the other.
    """

    name: str
    """Marks every comment that is written, so that PKB's copy of it can be told from any other."""
    port: int
    seconds: float
    targets: Sequence[Target]
    rate: float = 0.0
    workers: int = 0
    writes: float = 0.5
    """The share of `$change` among the requests; the others read."""
    fresh: bool = False
    """A new connection for every request."""
    connections: int = 2000
    patience: float = 30.0
    """Seconds after which an answer is not waited for any more."""
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Sample:
    """One request; times in seconds, `due` since the start of the run."""

    number: int
    kind: str
    customer: str
    due: float
    seconds: float
    status: int
    """0 where no answer came."""
    code: str

    @property
    def good(self) -> bool:
        """Whether the partner got what it asked for."""
        return self.status in {200, 202}

    @property
    def shed(self) -> bool:
        """Whether the gateway said that it has too much to do."""
        return self.status == 503 and self.code == "overloaded"


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a plan."""

    plan: Plan
    samples: list[Sample]
    late: float
    """The 99th percentile of how late the generator itself sent a request, in seconds."""
    seconds: float = field(default=0.0)

    def comment(self, number: int) -> str:
        """What the change of this number writes into PKB."""
        return comment(self.plan.name, number)


def comment(name: str, number: int) -> str:
    """The comment of one change; it ends where another number would go on."""
    return f"load {name} {number}."


async def generate(plan: Plan) -> Run:
    """Run a plan in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.load.generator",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 28,
    )
    try:
        out, _ = await process.communicate(json.dumps(asdict(plan)).encode())
    except asyncio.CancelledError:
        process.kill()
        raise
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}")
    told = json.loads(out)
    return Run(plan, [Sample(*each) for each in told["samples"]], told["late"], told["seconds"])
