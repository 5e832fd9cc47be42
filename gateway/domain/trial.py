"""A decision tried out for a person: by the rules that decide for partners, on a case that somebody brings."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Final

from gateway.domain.appointment import Appointment, Cancel, Change, Command
from gateway.domain.decision import Decision, Permit, Refusal
from gateway.domain.grant import Operation, Policy
from gateway.domain.rules import Claimant, decide

_ASKS: Final[Mapping[Operation, str]] = MappingProxyType(
    {Operation.CHANGE: "something-changes", Operation.CANCEL: "reason-allowed"}
)
"""The one rule that a command fails only for saying nothing of itself."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What would be decided, and which rule had nothing to judge because nobody said what the command is to do."""

    decision: Decision
    unasked: str | None = None


def try_out(
    who: Claimant,
    command: Command,
    appointment: Appointment | None,
    policy: Policy,
    now: datetime,
    expected_version: str | None = None,
) -> Trial:
    """Decide a command; one without values of its own (no reason, no field) stands for any that has good ones."""
    decision = decide(who, command, appointment, policy, now, expected_version)
    if not _says_nothing(command):
        return Trial(decision)
    rule = _ASKS[command.operation]
    checks = tuple(check for check in decision.checks if check.rule != rule)
    if checks == decision.checks:
        return Trial(decision)
    if isinstance(decision, Refusal) and decision.grant is not None and all(check.passed for check in checks):
        return Trial(Permit(decision.grant, checks, decision.facts), rule)
    return Trial(replace(decision, checks=checks), rule)


def _says_nothing(command: Command) -> bool:
    match command:
        case Cancel():
            return not command.codings
        case Change():
            return not command.fields
        case _:
            return False
