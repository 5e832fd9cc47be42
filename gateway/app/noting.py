"""What goes on record is counted and told to the log as it is on record: all three say the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.flow.watching import NOTED
from gateway.partner.desk import Ledger


class Counts(Protocol):
    """Counts decisions and outcomes."""

    def decided(self, operation: str, decision: str, code: str) -> None:
        """Count a decision; the code is empty where there is none."""
        ...

    def ended(self, operation: str, outcome: str, *, final: bool) -> None:
        """Count what is known of how a write ended."""
        ...


@dataclass(frozen=True, slots=True)
class NotingLedger:
    """The audit stream; what it has taken is counted, and noted for the request that it is about."""

    ledger: Ledger
    counts: Counts

    @property
    def chain(self) -> str:
        """Name the chain that this process writes."""
        return self.ledger.chain

    async def write(self, record: Mapping[str, object], *, essential: bool = False) -> int:
        """Make a record durable; see the port."""
        number = await self.ledger.write(record, essential=essential)
        self._note(record)
        return number

    def refused_unauthenticated(self, record: Mapping[str, object], client_address: str) -> None:
        """Record or only count a refusal; see the port."""
        self.ledger.refused_unauthenticated(record, client_address)
        self._note(record)

    def _note(self, record: Mapping[str, object]) -> None:
        operation, decision = _word(record, "operation"), _word(record, "decision")
        if record["event"] == "outcome":
            self.counts.ended(operation or "none", _word(record, "outcome") or "none", final=record["final"] is True)
            return
        if decision is None:
            return
        self.counts.decided(operation or "none", decision, _word(record, "code") or "")
        noted = NOTED.get()
        if noted is not None:
            noted.partner, noted.operation, noted.decision = _word(record, "partner"), operation, decision


def _word(record: Mapping[str, object], name: str) -> str | None:
    word = record.get(name)
    return word if isinstance(word, str) else None
