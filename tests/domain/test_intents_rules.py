"""The verdict on a wish, and what no wish can ever come to."""

from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.appointment import Change, Status
from gateway.domain.codes import Code
from gateway.domain.decision import Permit, Refusal
from gateway.domain.grant import Field, Operation
from gateway.domain.intents import EITHER, ELEMENTS, NOTHING, ROOT, Unmet
from gateway.domain.rules import decide
from gateway.domain.strict_json import Number
from tests.domain.wanted import CANCELLED, END, FACTS, LATER, SHOWN, meant, moved, place
from tests.makers import NOW, WHO, appointment, grant, policy

ROWS = [
    # wanted, grant's operations, facts, code
    pytest.param(place(**CANCELLED), ["cancel"], {}, None, id="cancel"),
    pytest.param(place(start=LATER, end="2026-07-02T11:00:00+01:00"), ["change"], {}, None, id="change"),
    pytest.param(place(**CANCELLED), ["change"], {}, Code.OPERATION_NOT_GRANTED, id="no cancel"),
    pytest.param(place(comment="x"), ["cancel"], {}, Code.OPERATION_NOT_GRANTED, id="no change"),
    pytest.param(place(**CANCELLED), ["read"], {}, Code.OPERATION_NOT_GRANTED, id="neither"),
    pytest.param(deepcopy(SHOWN), ["cancel"], {}, Code.NOTHING_TO_CHANGE, id="nothing, with cancel alone"),
    pytest.param(
        deepcopy(SHOWN), ["cancel"], {"status": Status.CANCELLED}, Code.ALREADY_CANCELLED, id="cancelled as it is"
    ),
    pytest.param(place(**CANCELLED, start=LATER), ["change"], {}, Code.MIXED_INTENT, id="mixed before not granted"),
    pytest.param(
        place(**CANCELLED, start=LATER), ["cancel"], {"status": Status.NOSHOW}, Code.MIXED_INTENT, id="mixed early"
    ),
    pytest.param(
        place(comment="x"), ["cancel"], {"status": Status.NOSHOW}, Code.OPERATION_NOT_GRANTED, id="granted first"
    ),
    pytest.param(place(description="x"), ["change"], {"status": Status.NOSHOW}, Code.NOT_CHANGEABLE, id="status first"),
    pytest.param(place(description="x"), ["change"], {}, Code.FIELD_NOT_CHANGEABLE, id="beyond"),
    pytest.param(place(**CANCELLED, description="x"), ["cancel"], {}, Code.FIELD_NOT_CHANGEABLE, id="beyond a cancel"),
    pytest.param(place(status="cancelled"), ["cancel"], {}, Code.REASON_NOT_ALLOWED, id="no reason"),
    pytest.param(place(comment=" "), ["cancel"], {}, Code.INVALID_PARAMETER, id="bad value before not granted"),
    pytest.param(Unmet(Code.VERSION_CONFLICT, "x"), ["cancel"], {}, Code.VERSION_CONFLICT, id="test of a patch"),
]


@pytest.mark.parametrize(("wanted", "operations", "facts", "code"), ROWS)
def test_the_rules_judge_what_it_means(
    wanted: Any, operations: list[str], facts: dict[str, Any], code: Code | None
) -> None:
    told = appointment(**{"comment": FACTS.comment, "locations": FACTS.locations, "places": (2,), **facts})
    terms = policy(grant(operations=frozenset(map(Operation, operations))))
    decision = decide(WHO, meant(wanted, told), told, terms, NOW)

    assert (decision.code if isinstance(decision, Refusal) else None) == code


def test_why_is_told_in_paths_and_only_by_the_rule_that_failed() -> None:
    def detail(wanted: Any, *operations: Operation) -> str:
        decision = decide(WHO, meant(wanted), FACTS, policy(grant(operations=frozenset(operations))), NOW)
        assert isinstance(decision, Refusal)
        return decision.detail

    assert detail(place(description="x"), *EITHER) == "Appointment.description differs from the copy you read."
    assert detail(place(description="x"), Operation.CANCEL) == ""
    assert detail(Unmet(Code.VERSION_CONFLICT, "told"), *EITHER) == "told"
    assert detail(place(**CANCELLED, start=LATER, description="x"), *EITHER) == ""


def test_a_location_of_several_is_refused_as_the_operation_refuses_it() -> None:
    facts = replace(FACTS, locations=("Ward 1", "Ward 3"))
    decision = decide(WHO, meant(place("participant", 2, "actor", "display", value="x"), facts), facts, policy(), NOW)
    assert isinstance(decision, Refusal)
    assert decision.code is Code.FIELD_NOT_CHANGEABLE


def steps_of(value: Any, before: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a document that something may be replaced or taken away at."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [one for step, held in inner for one in ((*before, step), *steps_of(held, (*before, step)))]


MAY_DIFFER = {
    ("start",),
    ("end",),
    ("comment",),
    ("meta", "versionId"),
    ("meta", "lastUpdated"),
    ("participant", 2, "actor", "display"),
}
PLACES = [steps for steps in steps_of(SHOWN) if steps not in MAY_DIFFER]
anything = st.one_of(st.none(), st.booleans(), st.text(max_size=5), st.just(Number("7")), st.just([]), st.just({}))


@given(steps=st.sampled_from(PLACES), value=anything, gone=st.booleans(), name=st.text(max_size=8))
def test_no_other_single_difference_is_ever_carried_out(
    steps: tuple[str | int, ...], value: Any, gone: bool, name: str
) -> None:
    wanted = place(*steps, value=value, gone=gone)
    found = meant(wanted)
    if wanted == SHOWN:
        assert found == NOTHING
        return
    decision = decide(WHO, found, FACTS, policy(), NOW)
    assert isinstance(decision, Refusal)
    assert decision.code is Code.FIELD_NOT_CHANGEABLE
    assert found.beyond is not None
    assert found.beyond.startswith(ROOT)


@given(name=st.text(min_size=1, max_size=12), value=anything)
def test_no_element_can_be_added(name: str, value: Any) -> None:
    if name in SHOWN:
        return
    assert meant(SHOWN | {name: value}).beyond == (f"{ROOT}.{name}" if name in ELEMENTS else ROOT)


texts = st.text("ab ", min_size=1, max_size=8).filter(lambda text: bool(text.strip()))


@given(
    minutes=st.none() | st.integers(1, 1000),
    comment=st.none() | texts,
    location=st.none() | texts,
    length=st.booleans(),
)
def test_the_resource_as_a_change_would_leave_it_is_that_change(
    minutes: int | None, comment: str | None, location: str | None, length: bool
) -> None:
    wanted: Any = deepcopy(SHOWN)
    end = END + timedelta(minutes=minutes) if minutes else None
    if end:
        wanted["end"] = end.isoformat()
        if length:
            wanted["minutesDuration"] = Number.of(30 + (minutes or 0))
    if comment:
        wanted["comment"] = comment
    if location:
        wanted["participant"][2]["actor"] = {"type": "Location", "display": location}

    command = Change(end=moved(end.isoformat()) if end else None, comment=comment, location=location)
    found = meant(wanted)
    assert (found.command, found.beyond) == (command, None)
    asked = decide(WHO, command, FACTS, policy(grant(change_fields=frozenset(Field))), NOW)
    told = decide(WHO, found, FACTS, policy(grant(change_fields=frozenset(Field))), NOW)
    assert isinstance(asked, Permit) == isinstance(told, Permit)
    assert getattr(asked, "code", None) == getattr(told, "code", None)
