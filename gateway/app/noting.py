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
        operation, decision = record.get("operation"), record.get("decision")
        about = str(operation or "none")
        if record["event"] == "outcome":
            self.counts.ended(about, str(record.get("outcome") or "none"), final=record["final"] is True)
            return
        if decision is None:
            return
        decided, partner = str(decision), record.get("partner")
        self.counts.decided(about, decided, str(record.get("code") or ""))
        noted = NOTED.get()
        if noted is not None:
            noted.partner = None if partner is None else str(partner)
            noted.operation = None if operation is None else str(operation)
            noted.decision = decided
