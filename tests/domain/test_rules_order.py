"""A case that fails two rules is answered by the earlier one: every pair of the rule tables that can both fail."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any

import pytest

from gateway.domain.appointment import Appointment, Cancel, Change, Command, PatientClaim, Read, Status
from gateway.domain.codes import Code
from gateway.domain.decision import Refusal
from gateway.domain.grant import Field, Grant
from gateway.domain.rules import ABOUT_THE_COMMAND, OPEN_TO_CHANGE, VERSION, WITHIN_REACH, Rule, decide, rules_for
from tests.makers import (
    CARDIOLOGY,
    DAY,
    HOUR,
    NOW,
    SEXUAL_HEALTH,
    WHO,
    appointment,
    cancel,
    grant,
    instant,
    move,
    owned_by,
    policy,
)

BOOKED = appointment()
GENEROUS = grant(change_fields=frozenset(Field))


@dataclass(frozen=True)
class Scene:
    """A case that would be permitted, until something is spoilt."""

    command: Command
    appointment: Appointment = BOOKED
    grant: Grant = GENEROUS
    version: str | None = None

    def facts(self, **changes: Any) -> "Scene":
        return replace(self, appointment=replace(self.appointment, **changes))

    def terms(self, **changes: Any) -> "Scene":
        return replace(self, grant=replace(self.grant, **changes))

    def says(self, **changes: Any) -> "Scene":
        """Say something else, where the command has such a thing to say."""
        if isinstance(self.command, Read):
            return self
        known = {name: value for name, value in changes.items() if hasattr(self.command, name)}
        return replace(self, command=replace(self.command, **known))


def repeats_what_pkb_has(scene: Scene) -> Scene:
    match scene.command:
        case Change(start=start, end=end, comment=comment):
            found = scene.facts(start=start.at if start else None, end=end.at if end else None, comment=comment)
            return found.says(location=None, management_url=None)
        case Cancel() | Read():
            return scene


def ends_before_it_starts(scene: Scene) -> Scene:
    match scene.command:
        case Change(start=start) if start:
            return scene.says(end=instant(start.at - HOUR))
        case _:
            return scene


SPOILT: dict[str, Callable[[Scene], Scene]] = {
    "owned-by-customer": lambda s: s.facts(provenance=owned_by("Organization/wharfedale")),
    "labels-granted": lambda s: s.facts(labels=frozenset({SEXUAL_HEALTH})),
    "specialty-granted": lambda s: s.terms(specialties=frozenset({CARDIOLOGY})),
    "patient-matches": lambda s: s.says(claim=PatientClaim("9990000026")),
    "version-expected": lambda s: replace(s, version="6"),
    "not-cancelled": lambda s: s.facts(status=Status.CANCELLED),
    "status-changeable": lambda s: s.facts(status=Status.FULFILLED),
    "start-known": lambda s: s.facts(start=None),
    "in-the-future": lambda s: s.facts(start=NOW - DAY),
    "notice-kept": lambda s: s.facts(start=NOW + HOUR),
    "supported-on-route": lambda s: s.says(management_url="https://x.example"),
    "fields-granted": lambda s: s.terms(change_fields=frozenset()),
    "one-location": lambda s: s.facts(locations=("Ward 1", "Ward 2")).says(location="Ward 7"),
    "reason-allowed": lambda s: s.says(codings=()),
    "something-changes": repeats_what_pkb_has,
    "ends-after-start": ends_before_it_starts,
    "new-start-in-the-future": lambda s: s.says(start=instant(NOW)),
    "new-start-in-the-window": lambda s: s.terms(within=HOUR),
}

NEVER_BOTH: dict[tuple[str, str], str] = {
    ("start-known", "in-the-future"): "without a start nothing is in the past",
    ("one-location", "reason-allowed"): "a cancel moves nothing, a change gives no reason",
    ("reason-allowed", "something-changes"): "a cancel always changes something, a change gives no reason",
}
"""Neighbours that no case fails together, and why."""

TABLE: tuple[Rule, ...] = WITHIN_REACH + VERSION + OPEN_TO_CHANGE + ABOUT_THE_COMMAND
STARTS: dict[str, Scene] = {"change": Scene(move(NOW + 40 * DAY)), "cancel": Scene(cancel())}


def told(scene: Scene) -> tuple[Code | None, list[str]]:
    decision = decide(WHO, scene.command, scene.appointment, policy(scene.grant), NOW, scene.version)
    failed = [check.rule for check in decision.checks if not check.passed]
    return (decision.code if isinstance(decision, Refusal) else None), failed


def spoilt(start: Scene, earlier: str, later: str) -> Scene:
    return SPOILT[earlier](SPOILT[later](start))


def named(rules: tuple[Rule, Rule]) -> str:
    return " before ".join(rule.name for rule in rules)


def test_every_rule_can_be_spoilt_and_no_other_name_is_known() -> None:
    assert list(SPOILT) == [rule.name for rule in TABLE]


@pytest.mark.parametrize("start", list(STARTS))
def test_a_scene_is_permitted_until_it_is_spoilt(start: str) -> None:
    assert told(STARTS[start]) == (None, [])


@pytest.mark.parametrize("rule", TABLE, ids=lambda rule: rule.name)
def test_a_rule_that_alone_decides_gives_its_code(rule: Rule) -> None:
    answers = [told(SPOILT[rule.name](scene)) for scene in STARTS.values()]

    assert (rule.code, rule.name) in [(code, failed[0]) for code, failed in answers if failed]


@pytest.mark.parametrize("rules", list(pairwise(TABLE)), ids=named)
def test_the_earlier_of_two_neighbours_answers(rules: tuple[Rule, Rule]) -> None:
    earlier, later = rules
    scenes = [told(spoilt(start, earlier.name, later.name)) for start in STARTS.values()]
    both = [code for code, failed in scenes if {earlier.name, later.name} <= set(failed)]

    if (earlier.name, later.name) in NEVER_BOTH:
        assert not both
    else:
        assert both
        assert set(both) == {earlier.code}


@pytest.mark.parametrize("start", list(STARTS))
def test_the_first_failed_check_answers_whichever_two_are_spoilt(start: str) -> None:
    codes = {rule.name: rule.code for rule in TABLE}
    for earlier, later in combinations(codes, 2):
        code, failed = told(spoilt(STARTS[start], earlier, later))
        assert failed == sorted(failed, key=list(codes).index)
        assert code == (codes[failed[0]] if failed else None)


def test_the_codes_answer_in_the_public_order() -> None:
    order = list(dict.fromkeys(rule.code.value for rule in TABLE))

    assert order == [
        "not-found",
        "version-conflict",
        "already-cancelled",
        "not-changeable",
        "in-the-past",
        "too-late",
        "not-supported-on-route",
        "field-not-changeable",
        "reason-not-allowed",
        "nothing-to-change",
        "end-before-start",
        "new-time-in-the-past",
        "outside-change-window",
    ]


def test_names_of_rules_are_unique_and_only_the_patient_is_recorded_otherwise() -> None:
    assert len({rule.name for rule in TABLE}) == len(TABLE)
    assert {rule.name: rule.recorded_as for rule in TABLE if rule.recorded_as} == {
        "patient-matches": "patient-mismatch"
    }


@pytest.mark.parametrize("command", [Read(), cancel(), move(NOW)], ids=["read", "cancel", "change"])
def test_a_read_is_asked_for_reach_and_a_write_for_everything(command: Command) -> None:
    assert rules_for(command) == (WITHIN_REACH if isinstance(command, Read) else TABLE)
