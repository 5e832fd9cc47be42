"""What was changed through the gateway, out of the audit stream: intents joined with how they ended."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

_HAPPENED: Final = frozenset({"applied", "accepted"})
_OPEN: Final = "unknown"
_SET_BACK: Final = timedelta(days=1)
"""By how much a clock may have been set back between an intent and its end."""


@dataclass(frozen=True, slots=True)
class Made:
    """One change or cancel that PKB has, or took."""

    intent: Mapping[str, Any]
    outcome: Mapping[str, Any]


@dataclass(slots=True)
class Changes:
    """Gathers what was changed about a customer's appointments since a moment. Keeps its own writes only."""

    customer: str
    since: datetime
    _intents: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _outcomes: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def take(self, record: Mapping[str, Any]) -> None:
        """Look at a record. Raises KeyError, TypeError and ValueError for what is none."""
        match record["event"]:
            case "intent" if self._is_theirs(record) and self._is_late_enough(record):
                self._intents[record["task"]] = record
            # Any chain may tell how a write ended, and may be read before the chain that intended it.
            case "outcome" if self._is_theirs(record) and self._is_late_enough(record, _SET_BACK):
                known = self._outcomes.get(record["task"], record)
                self._outcomes[record["task"]] = max(known, record, key=_finality)

    def _is_late_enough(self, record: Mapping[str, Any], slack: timedelta = timedelta(0)) -> bool:
        return datetime.fromisoformat(record["time"]) >= self.since - slack

    def _is_theirs(self, record: Mapping[str, Any]) -> bool:
        # An organisation's appointments are also changed at the address of the team that holds them.
        owner = record["facts"]["owner"] if record["facts"] else ()
        return record["customer"] == self.customer or self.customer in owner

    def made(self) -> list[Made]:
        """Give what happened, the oldest first."""
        return [made for made in self._joined() if made.outcome["outcome"] in _HAPPENED]

    def in_doubt(self) -> list[Made]:
        """Give what may have happened: nobody knows yet, or nobody found out."""
        return [made for made in self._joined() if made.outcome["outcome"] == _OPEN]

    def _joined(self) -> Iterable[Made]:
        ordered = sorted(self._intents.values(), key=lambda intent: (intent["time"], intent["task"]))
        return [Made(each, self._outcomes[each["task"]]) for each in ordered if each["task"] in self._outcomes]


def _finality(outcome: Mapping[str, Any]) -> tuple[bool, str]:
    """Order what is told of one write: its end after whatever was known before it."""
    return outcome["final"], outcome["time"]
