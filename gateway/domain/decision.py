"""What was decided, and every check that led there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import cache

from gateway.domain.codes import Code
from gateway.domain.grant import Field, Grant, Policy


class PatientMatch(StrEnum):
    """How the partner's words about the patient compare with PKB's."""

    ABSENT = "absent"
    MATCH = "match"
    MISMATCH = "mismatch"


@dataclass(frozen=True, slots=True)
class Check:
    """One rule, asked once."""

    rule: str
    passed: bool


@cache
def check(rule: str, passed: bool) -> Check:  # noqa: FBT001 - the answer to the question is a boolean
    """Give a rule's answer. A decision asks some twenty rules; there are two answers to each, made once."""
    return Check(rule, passed)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the decision saw of the appointment; the audit stream keeps it so that it can be decided again."""

    owner: tuple[str, ...]
    """Ids of the customers it belongs to; empty: unproven."""
    status: str
    start: datetime | None
    labels: tuple[str, ...]
    specialties: tuple[str, ...]
    fields: tuple[Field, ...]
    new_start: datetime | None
    patient: PatientMatch


@dataclass(frozen=True, slots=True)
class Shadow:
    """What a shadow grant would have decided in place of what is in force. It changes no answer."""

    grant: str | None
    code: str | None
    """None: it would have permitted it."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The operation may go ahead under this grant."""

    grant: Grant
    checks: tuple[Check, ...]
    facts: Facts | None = None
    shadow: Shadow | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The operation may not go ahead, and why not."""

    code: Code
    """What the partner is told."""
    checks: tuple[Check, ...]
    grant: Grant | None = None
    """The grant that was weighed, if there was one."""
    facts: Facts | None = None
    recorded_as: str = ""
    """What the audit stream is told, where a partner must not learn the difference."""
    detail: str = ""
    """A sentence for the partner about this very request, made of ids, dates and field names only."""
    shadow: Shadow | None = field(default=None, compare=False)

    @property
    def audit_code(self) -> str:
        """The code for the audit stream."""
        return self.recorded_as or self.code.value


Decision = Permit | Refusal


def with_shadow(policy: Policy, customer: str, partner: str, decide: Callable[[Policy], Decision]) -> Decision:
    """Decide under what is in force, and note what the shadow grants of these two would have made of it."""
    decision, tried = decide(policy), policy.tried_out(customer, partner)
    if tried is None:
        return decision
    other = decide(tried)
    code = other.audit_code if isinstance(other, Refusal) else None
    return replace(decision, shadow=Shadow(other.grant.id if other.grant else None, code))


def summary(decision: Decision) -> Mapping[str, object]:
    """Tell a decision in the words of the audit stream."""
    return {
        "decision": "refuse" if isinstance(decision, Refusal) else "permit",
        "code": decision.audit_code if isinstance(decision, Refusal) else None,
        "grant": decision.grant.id if decision.grant else None,
        "checks": [[check.rule, check.passed] for check in decision.checks],
        "shadow": _told(decision.shadow) if decision.shadow else None,
    }


def _told(shadow: Shadow) -> Mapping[str, object]:
    return {
        "grant": shadow.grant,
        "decision": "refuse" if shadow.code else "permit",
        "code": shadow.code,
    }
