"""Nothing that the audit says of a decision is left without words for people."""

import re
from pathlib import Path

import pytest

from gateway.admin.words import EVENTS, OUTCOMES, RULES, advice, rule_sentence
from gateway.domain import rules
from gateway.domain.codes import Code
from gateway.domain.rules import Rule
from gateway.partner.jwt_checks import Fault
from gateway.partner.token_endpoint import OAuthError, Slip
from tests.edges.test_docs import written_events

GATEWAY = Path(rules.__file__).parents[1]


def table_rules() -> set[str]:
    """The names in every tuple of rules."""
    tables = [value for value in vars(rules).values() if isinstance(value, tuple)]
    return {each.name for table in tables for each in table if isinstance(each, Rule)}


def checked_names() -> set[str]:
    """The names that the code itself gives to a check."""
    code = "".join(
        path.read_text(encoding="utf-8") for part in ("domain", "flow") for path in (GATEWAY / part).glob("*.py")
    )
    return set(re.findall(r'(?:[Cc]heck\(|_no\(|_barred\(Code\.\w+, )"([a-z-]+)"', code))


def test_the_search_for_names_finds_those_of_every_kind() -> None:
    assert {"notice-kept", "one-intent"} <= table_rules()
    assert {"partner-active", "grant-not-blocked", "grant-rate", "scope", "hits-readable"} <= checked_names()


@pytest.mark.parametrize("rule", sorted(table_rules() | checked_names()))
def test_every_rule_has_its_words_for_both_answers(rule: str) -> None:
    assert RULES[rule].passed.endswith(".")
    assert RULES[rule].failed.endswith(".")
    assert RULES[rule].passed != RULES[rule].failed


@pytest.mark.parametrize("why", [*Fault, *Slip])
def test_every_fault_of_a_token_or_its_request_has_its_words(why: str) -> None:
    assert RULES[why].failed.endswith(".")


def test_no_words_are_kept_for_what_is_no_rule() -> None:
    assert set(RULES) == table_rules() | checked_names() | set(Fault) | set(Slip)


@pytest.mark.parametrize("event", written_events())
def test_every_event_has_its_words(event: str) -> None:
    assert EVENTS[event]


@pytest.mark.parametrize("outcome", ["applied", "accepted", "rejected", "unknown"])
def test_every_outcome_has_its_words(outcome: str) -> None:
    assert OUTCOMES[outcome].endswith(".")


@pytest.mark.parametrize("code", [*Code, *OAuthError, "patient-mismatch", "case-failed", "grants-refused"])
def test_every_code_has_its_advice(code: str) -> None:
    assert advice(code).endswith(".")


def test_what_another_version_wrote_has_no_words_and_does_no_harm() -> None:
    assert rule_sentence("a-rule-to-come", passed=False) == ""
    assert advice("a-code-to-come") == ""
    assert advice(None) == ""
