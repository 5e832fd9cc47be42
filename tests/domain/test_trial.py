"""A decision tried out: the rules' own, but for what nobody said."""

import pytest
from hypothesis import given

from gateway.domain.appointment import Appointment, Cancel, Change, Command, Read, Status
from gateway.domain.codes import Code
from gateway.domain.decision import Permit, Refusal
from gateway.domain.grant import Operation
from gateway.domain.rules import decide
from gateway.domain.trial import Trial, try_out
from tests.makers import NOW, WHO, appointment, cancel, grant, move, no_grants, policy
from tests.strategies import appointments, commands


@pytest.mark.parametrize(
    ("bare", "rule"),
    [
        pytest.param(Cancel(()), "reason-allowed", id="a cancel without a reason"),
        pytest.param(Change(), "something-changes", id="a change of nothing"),
    ],
)
def test_a_command_that_says_nothing_stands_for_one_that_could_be_granted(bare: Command, rule: str) -> None:
    trial = try_out(WHO, bare, appointment(), policy(), NOW)
    assert isinstance(trial.decision, Permit)
    assert trial.unasked == rule
    assert rule not in [check.rule for check in trial.decision.checks]
    assert trial.decision.facts is not None


def test_what_else_stands_against_it_is_still_told() -> None:
    trial = try_out(WHO, Cancel(()), appointment(status=Status.CANCELLED), policy(), NOW)
    assert isinstance(trial.decision, Refusal)
    assert (trial.decision.code, trial.unasked) == (Code.ALREADY_CANCELLED, "reason-allowed")
    assert "reason-allowed" not in [check.rule for check in trial.decision.checks]


def test_what_never_came_to_the_rules_is_told_as_it_is() -> None:
    assert try_out(WHO, Cancel(()), appointment(), no_grants(), NOW) == Trial(
        decide(WHO, Cancel(()), appointment(), no_grants(), NOW)
    )


def test_a_bad_reason_is_refused_and_not_passed_over() -> None:
    few = policy(grant(cancel_reasons=frozenset({"other"})))
    trial = try_out(WHO, cancel(), appointment(), few, NOW)
    assert isinstance(trial.decision, Refusal)
    assert (trial.decision.code, trial.unasked) == (Code.REASON_NOT_ALLOWED, None)


def test_a_read_has_nothing_left_to_say() -> None:
    assert try_out(WHO, Read(), appointment(), policy(), NOW) == Trial(
        decide(WHO, Read(), appointment(), policy(), NOW)
    )


@given(commands(), appointments())
def test_a_command_that_says_something_is_decided_as_for_a_partner(command: Command, seen: Appointment) -> None:
    if command in (Change(claim=command.claim), Cancel((), claim=command.claim)):
        command = Read()
    expected = decide(WHO, command, seen, policy(), NOW, "7")
    if not (isinstance(command, Cancel) and not command.codings):
        assert try_out(WHO, command, seen, policy(), NOW, "7") == Trial(expected)


def test_a_move_into_the_past_is_refused() -> None:
    trial = try_out(WHO, move(NOW), appointment(), policy(), NOW)
    assert isinstance(trial.decision, Refusal)
    assert trial.decision.code is Code.NEW_TIME_IN_THE_PAST
    assert Operation.CHANGE in grant().operations
