"""What is measured: a server that does the work of a scenario, and the requests that make it do so."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from bench.speed.box import BOX_PLACE, TOKEN, appointment
from bench.speed.harness import Cores, Upstream
from bench.speed.keys import TokenKey
from bench.speed.plan import PLACE

CUSTOMER, WITHOUT_GRANT = "clinic", "elsewhere"
REASON_SYSTEM = "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason"


class Scenario(StrEnum):
    """What is asked."""

    CANCEL = "cancel"
    READ = "read"
    REFUSAL = "refusal"
    TOKEN = "token"
    HELLO = "hello"


@dataclass(frozen=True, slots=True)
class Setting:
    """What every contender is given."""

    folder: Path
    upstream: Upstream
    keys: TokenKey
    cores: Cores


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that serves."""

    pid: int
    port: int
    admin_port: int = 0
    log: Path = field(default=Path("/dev/null"))
    folder: Path = field(default=Path())
    started_after: float = 0.0
    """Seconds from the start of the process until it was ready."""
    beside: "Running | None" = None
    """Another that takes half of the load, and shares nothing else with this one."""

    @property
    def everybody(self) -> tuple["Running", ...]:
        """This one, and the other if there is one."""
        return (self,) if self.beside is None else (self, self.beside)


Asks = Callable[[Scenario, str, str], list[str]]
"""Gives the steps of a scenario, for a token, with ids unlike those of every other run."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One entry. `name` is for the command line and JSON, `title` for people."""

    name: str
    title: str
    start: Callable[[Setting], AbstractContextManager[Running]]
    scenarios: Sequence[Scenario]
    judged: bool = True
    """Whether it does the whole work, and so has to pass the check of its answers."""
    durable: bool = False
    """Whether it waits until its record is on disk, before the write and before the answer."""
    asks: Asks | None = None
    """What is asked instead of the gateway's own requests."""
    needs: Callable[[], object] = lambda: None
    """Sets up the programs that it needs; raises Unavailable."""


def cancel_body() -> str:
    """The Parameters of a `$cancel`."""
    coding = {"coding": [{"system": REASON_SYSTEM, "code": "pat"}]}
    parameter = [{"name": "reason", "valueCodeableConcept": coding}]
    return json.dumps({"resourceType": "Parameters", "parameter": parameter}, separators=(",", ":"))


def request(method: str, path: str, token: str, body: str | None = None, more: str = "") -> str:
    """A whole request as text."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n{more}"
    if body is None:
        return f"{head}\r\n"
    # The place of the number is longer than the number; only heads have one, so the length is right.
    assert PLACE not in body
    return f"{head}Content-Type: application/fhir+json\r\nContent-Length: {len(body)}\r\n\r\n{body}"


def steps(scenario: Scenario, token: str, run: str) -> list[str]:
    """The request of a scenario; `run` makes the ids unlike those of every other run."""
    id_ = f"{run}-{PLACE}"
    match scenario:
        case Scenario.CANCEL:
            return [request("POST", f"/{CUSTOMER}/fhir/Appointment/{id_}/$cancel", token, cancel_body())]
        case Scenario.READ:
            return [request("GET", f"/{CUSTOMER}/fhir/Appointment/{id_}", token)]
        case Scenario.REFUSAL:
            return [request("GET", f"/{WITHOUT_GRANT}/fhir/Appointment/{id_}", token)]
        case Scenario.HELLO:
            return ["GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"]
        case Scenario.TOKEN:
            raise ValueError("every request of a token is another one")


def direct_steps(scenario: Scenario, _: str, run: str) -> list[str]:
    """The last request of a scenario, as it goes to the upstream itself."""
    return upstream_steps(scenario, run)[-1:]


def upstream_steps(scenario: Scenario, run: str) -> list[str]:
    """What a scenario asks of the upstream, one after the other."""
    path, patient = f"/fhir/Appointment/{run}-{PLACE}", f"/fhir/Patient/patient-{run}-{PLACE}"
    reads = [request("GET", path, TOKEN), request("GET", patient, TOKEN)]
    match scenario:
        case Scenario.READ:
            return reads
        case Scenario.CANCEL:
            body = json.dumps({**appointment(), "status": "cancelled"}, separators=(",", ":")).replace(BOX_PLACE, "x")
            return [*reads, request("PUT", path, TOKEN, body, 'If-Match: W/"1"\r\n')]
        case _:
            raise ValueError("the upstream is not asked")


EXPECTED = {
    Scenario.CANCEL: "200",
    Scenario.READ: "200",
    Scenario.REFUSAL: "403",
    Scenario.HELLO: "200",
    Scenario.TOKEN: "200",
}
