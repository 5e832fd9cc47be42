"""The list of every write that reached PKB, from its arrival on, whatever came of it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from gateway.simulator.faults import Answer, Target
from gateway.simulator.store import instant


@dataclass(slots=True)
class Write:
    """One request that wanted to change something. `answer` is None until there is one, and for a dropped one."""

    n: int
    time: datetime
    target: Target
    customer: str
    method: str
    path: str
    headers: dict[str, str]
    body: str
    applied: bool = False
    answer: int | None = None
    message: str | None = None  # of a SOAP call: the HL7 text inside
    ack: str | None = None  # of a SOAP call: MSA-1 as PKB gave it, sent or not

    def ended(self, answer: Answer) -> None:
        """Note what came of it."""
        self.applied = answer.applied
        self.answer = None if answer.response is None else answer.response.status

    def shown(self) -> dict[str, Any]:
        """As `GET /writes` has it."""
        soap = {"message": self.message, "ack": self.ack} if self.target == "hl7" else {}
        return {
            "n": self.n,
            "time": instant(self.time.astimezone(UTC)),
            "target": self.target,
            "customer": self.customer,
            "method": self.method,
            "path": self.path,
            "headers": self.headers,
            "body": self.body,
            "applied": self.applied,
            "answer": self.answer,
            **soap,
        }


def opened(request: web.Request, body: bytes, n: int, at: datetime, customer: str, target: Target = "box") -> Write:
    """The record of a write that has just been read from the wire. A repeated header is joined by commas."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        known = headers.get(name.lower())
        headers[name.lower()] = value if known is None else f"{known}, {value}"
    text = body.decode("utf-8", "replace")
    return Write(n, at, target, customer, request.method, request.raw_path, headers, text)
