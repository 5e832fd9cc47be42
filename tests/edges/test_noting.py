"""What goes on record is counted, and known to the request that it is about."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from gateway.app.noting import NotingLedger
from gateway.flow.ports import JournalUnavailable
from gateway.flow.watching import NOTED, Noted


@dataclass
class Paper:
    """An audit stream on paper."""

    full: bool = False
    records: list[Mapping[str, object]] = field(default_factory=list)
    chain: str = "chain-1"

    async def write(self, record: Mapping[str, object], *, essential: bool = False) -> int:
        if self.full and not essential:
            raise JournalUnavailable
        self.records.append(record)
        return len(self.records)

    def refused_unauthenticated(self, record: Mapping[str, object], client_address: str) -> None:
        self.records.append({**record, "client": client_address})


@dataclass
class Tally:
    """Counts as metrics do."""

    counted: list[tuple[object, ...]] = field(default_factory=list)

    def decided(self, operation: str, decision: str, code: str) -> None:
        self.counted.append((operation, decision, code))

    def ended(self, operation: str, outcome: str, *, final: bool) -> None:
        self.counted.append((operation, outcome, final))


REFUSED = {"event": "refused", "partner": "swiftbook", "operation": "cancel", "decision": "refuse", "code": "too-late"}
INTENT = {"event": "intent", "partner": "swiftbook", "operation": "change", "decision": "permit", "code": None}
OUTCOME = {**INTENT, "event": "outcome", "outcome": "unknown", "final": False}
STRANGER = {"event": "authentication-refused", "customer": "a", "operation": None, "decision": "refuse", "code": "x"}


@pytest.mark.parametrize(
    ("record", "counted"),
    [
        (REFUSED, ("cancel", "refuse", "too-late")),
        (INTENT, ("change", "permit", "")),
        (OUTCOME, ("change", "unknown", False)),
    ],
    ids=["refusal", "intent", "outcome"],
)
async def test_what_is_on_record_is_counted(record: Mapping[str, object], counted: tuple[object, ...]) -> None:
    tally, paper = Tally(), Paper()

    assert await NotingLedger(paper, tally).write(record) == 1

    assert paper.records == [record]
    assert tally.counted == [counted]


async def test_what_could_not_be_recorded_is_not_counted() -> None:
    tally = Tally()

    with pytest.raises(JournalUnavailable):
        await NotingLedger(Paper(full=True), tally).write(REFUSED)

    assert tally.counted == []


def test_a_refusal_of_somebody_unknown_is_counted_whether_recorded_or_not() -> None:
    tally, paper = Tally(), Paper()

    NotingLedger(paper, tally).refused_unauthenticated(STRANGER, "127.0.0.1")

    assert tally.counted == [("none", "refuse", "x")]


async def test_a_request_knows_what_is_on_record_of_it_and_no_other_does() -> None:
    ledger = NotingLedger(Paper(), Tally())
    noted = Noted()
    token = NOTED.set(noted)
    await ledger.write(INTENT)
    await ledger.write(OUTCOME)
    NOTED.reset(token)
    await ledger.write(REFUSED)

    assert noted == Noted("swiftbook", "change", "permit")


def test_the_chain_is_that_of_the_audit_stream() -> None:
    assert NotingLedger(Paper(chain="chain-7"), Tally()).chain == "chain-7"
