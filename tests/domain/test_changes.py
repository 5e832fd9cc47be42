"""Intents joined with how they ended."""

from datetime import timedelta
from typing import Any

import pytest

from gateway.domain.changes import Changes
from gateway.flow.records import moment
from tests.makers import DAY, NOW, SECOND


def record(event: str, task: str = "t-1", after: timedelta = SECOND, **changes: Any) -> dict[str, Any]:
    owner = ["airedale-cardiology", "airedale"]
    values = {"event": event, "time": moment(NOW + after), "task": task, "customer": "airedale-cardiology"}
    return {**values, "facts": {"owner": owner}, **changes}


def ended(outcome: str, *, final: bool = True, task: str = "t-1", after: timedelta = 2 * SECOND) -> dict[str, Any]:
    return record("outcome", task, after, outcome=outcome, final=final)


def gathered(*records: dict[str, Any], customer: str = "airedale") -> Changes:
    changes = Changes(customer, NOW)
    for each in records:
        changes.take(each)
    return changes


@pytest.mark.parametrize("customer", ["airedale", "airedale-cardiology"])
@pytest.mark.parametrize("outcome", ["applied", "accepted"])
def test_what_happened_is_the_teams_and_its_organisations(customer: str, outcome: str) -> None:
    (made,) = gathered(record("intent"), ended(outcome), customer=customer).made()
    assert (made.intent["event"], made.outcome["outcome"]) == ("intent", outcome)


def test_others_learn_nothing() -> None:
    assert gathered(record("intent"), ended("applied"), customer="leeds").made() == []
    assert gathered(record("intent", facts=None), ended("applied"), customer="leeds").made() == []


@pytest.mark.parametrize("outcome", ["rejected", "unknown"])
def test_what_did_not_happen_or_nobody_knows_is_not_listed_as_made(outcome: str) -> None:
    changes = gathered(record("intent"), ended(outcome, final=outcome == "rejected"))
    assert changes.made() == []
    assert len(changes.in_doubt()) == (outcome == "unknown")


def test_the_last_word_counts_in_whatever_order_chains_are_read() -> None:
    last, before, first = ended("applied", after=DAY), ended("accepted", final=False), ended("unknown", final=False)
    assert [made.outcome["outcome"] for made in gathered(last, before, record("intent"), first).made()] == ["applied"]
    assert gathered(record("intent"), before, ended("rejected", after=DAY)).made() == []


def test_what_was_before_is_left_out_and_the_rest_is_in_order() -> None:
    old = record("intent", "t-0", -SECOND)
    later, earlier = record("intent", "t-2", DAY), record("intent", "t-3")
    ends = [ended("applied", task=task) for task in ("t-0", "t-2", "t-3")]
    changes = gathered(old, later, earlier, *ends, ended("applied", task="t-9", after=-2 * DAY))
    assert [made.intent["task"] for made in changes.made()] == ["t-3", "t-2"]


def test_an_intent_whose_end_is_on_no_record_is_no_change_yet() -> None:
    changes = gathered(record("intent"), {"event": "start"})
    assert (changes.made(), changes.in_doubt()) == ([], [])
