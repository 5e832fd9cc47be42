"""The verdict on a case that differs from a permitted one in a few values, and the names of all checks."""

from collections.abc import Mapping
from datetime import timedelta, timezone
from typing import Any

from gateway.domain.appointment import Command
from gateway.domain.codes import Code
from gateway.domain.decision import Check, Decision, Refusal
from gateway.domain.rules import decide
from tests.makers import DAY, HOUR, NOW, WHO, appointment, grant, policy

GATE = ("partner-active", "granted", "grant-begun", "grant-not-ended", "operation-granted")
REACH = ("appointment-exists", "owned-by-customer", "labels-granted", "specialty-granted", "patient-matches")
WRITE = (
    "version-expected",
    "not-cancelled",
    "status-changeable",
    "start-known",
    "in-the-future",
    "notice-kept",
    "supported-on-route",
    "fields-granted",
    "one-location",
    "reason-allowed",
    "something-changes",
    "ends-after-start",
    "new-start-in-the-future",
    "new-start-in-the-window",
)
NOTICE = 2 * DAY
START = NOW + 30 * DAY
END = START + HOUR / 2
Changes = Mapping[str, Any]


def asked(*names: str, failed: tuple[str, ...] = ()) -> tuple[Check, ...]:
    return tuple(Check(name, name not in failed) for name in names)


def verdict(
    command: Command, facts: Changes | None = None, terms: Changes | None = None, version: str | None = None
) -> Decision:
    return decide(WHO, command, appointment(**(facts or {})), policy(grant(**(terms or {}))), NOW, version)


def ruling(decision: Decision) -> tuple[Code | None, tuple[str, ...]]:
    code = decision.code if isinstance(decision, Refusal) else None
    return code, tuple(check.rule for check in decision.checks if not check.passed)


def zone(hours: int) -> timezone:
    return timezone(timedelta(hours=hours))
