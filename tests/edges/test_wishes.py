"""The bodies of PUT and PATCH: what is refused at sight, and what a hostile patch comes to."""

import json
import time
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.domain import strict_json
from gateway.domain.codes import Code
from gateway.domain.intents import Unmet
from gateway.domain.strict_json import Number
from gateway.flow.orders import Wish
from gateway.partner.wire import Misfit
from gateway.partner.wishes import DEEPEST, MOST_OPERATIONS, MOST_STEPS, read_patch, read_resource

GOOD: dict[str, Any] = {"resourceType": "Appointment", "id": "a-1", "status": "booked", "comment": "x"}
SHOWN: Any = strict_json.read(
    b'{"resourceType": "Appointment", "id": "a-1", "status": "booked", "weight": 1.10, "comment": "Jane Doe",'
    b' "tags": ["a", "b"], "deep": {"er": {"est": true}}, "a/b": 1, "m~n": 2, "": 3}'
)
NHS_NUMBER = "9434765919"


def resource(body: Any, *, patient_required: bool = False) -> Wish | Misfit:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_resource(data, "a-1", patient_required=patient_required)


def patch(body: Any, *, patient_required: bool = False) -> Wish | Misfit:
    return read_patch(body if isinstance(body, bytes) else json.dumps(body).encode(), patient_required=patient_required)


def patched(*operations: Any) -> Any:
    wish = patch(list(operations))
    assert isinstance(wish, Wish), wish
    before = deepcopy(SHOWN)
    wanted = wish.wanted(SHOWN)
    assert before == SHOWN, "what is shown was changed"
    assert wish.wanted(SHOWN) == wanted, "another time it is something else"
    return wanted


def op(kind: str, path: str, **members: Any) -> dict[str, Any]:
    return {"op": kind, "path": path, **members}


def test_a_resource_is_wanted_as_it_was_sent() -> None:
    wish = resource(b'{"resourceType": "Appointment", "id": "a-1", "weight": 1.10, "unknown": null}')
    assert isinstance(wish, Wish)
    assert wish.wanted(SHOWN) == {"resourceType": "Appointment", "id": "a-1", "weight": Number("1.10"), "unknown": None}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b'{"id": "a-1", "id": "a-1"}', Code.MALFORMED_JSON, id="a member twice"),
        pytest.param(b'{"id": NaN}', Code.MALFORMED_JSON, id="NaN"),
        pytest.param(b"[" * 40 + b"]" * 40, Code.MALFORMED_JSON, id="too deep"),
        pytest.param(b"", Code.MALFORMED_JSON, id="nothing"),
        pytest.param([GOOD], Code.INVALID_PARAMETER, id="array"),
        pytest.param(GOOD | {"resourceType": "Patient"}, Code.INVALID_PARAMETER, id="another type"),
        pytest.param(GOOD | {"id": "a-2"}, Code.INVALID_PARAMETER, id="another id"),
        pytest.param({"resourceType": "Appointment"}, Code.INVALID_PARAMETER, id="no id"),
        pytest.param(GOOD | {"status": None}, Code.INVALID_PARAMETER, id="status is null"),
        pytest.param(GOOD | {"start": 1}, Code.INVALID_PARAMETER, id="start is a number"),
        pytest.param(GOOD | {"comment": ["x"]}, Code.INVALID_PARAMETER, id="comment is an array"),
    ],
)
def test_a_resource_that_no_copy_could_make_good_is_refused(body: Any, code: Code) -> None:
    misfit = resource(body)
    assert isinstance(misfit, Misfit)
    assert misfit.code is code


@pytest.mark.parametrize("read", [resource, patch], ids=["PUT", "PATCH"])
def test_where_the_patient_must_be_named_neither_will_do(read: Any) -> None:
    misfit = read({"no": "resource"}, patient_required=True)
    assert (misfit.code, "$cancel and $change" in misfit.detail) == (Code.MISSING_PARAMETER, True)
    assert read(b"{", patient_required=True).code is Code.MALFORMED_JSON


@pytest.mark.parametrize(
    ("operations", "changes"),
    [
        pytest.param([], {}, id="nothing"),
        pytest.param([op("test", "/status", value="booked")], {}, id="a test alone"),
        pytest.param([op("add", "/comment", value="y")], {"comment": "y"}, id="add over"),
        pytest.param([op("replace", "/comment", value="y", note="ignored")], {"comment": "y"}, id="replace"),
        pytest.param([op("add", "/tags/-", value="c")], {"tags": ["a", "b", "c"]}, id="add to the end"),
        pytest.param([op("add", "/tags/0", value="c")], {"tags": ["c", "a", "b"]}, id="add to the front"),
        pytest.param(
            [op("replace", "/a~1b", value=2), op("replace", "/m~0n", value=3)], {"a/b": 2, "m~n": 3}, id="escapes"
        ),
        pytest.param([op("replace", "/", value=4)], {"": 4}, id="an empty name"),
        pytest.param([op("copy", "/note", **{"from": "/comment"})], {"note": "Jane Doe"}, id="copy"),
        pytest.param([op("test", "", value=GOOD)], Code.VERSION_CONFLICT, id="a test of all that does not hold"),
        pytest.param([op("test", "/nope", value=None)], Code.VERSION_CONFLICT, id="a test of what is not there"),
        pytest.param([op("test", "/tags/-", value=None)], Code.VERSION_CONFLICT, id="a test behind the end"),
        pytest.param([op("test", "/deep/er/est", value=1)], Code.VERSION_CONFLICT, id="true is not 1"),
        pytest.param([op("remove", "/nope")], Code.INVALID_PARAMETER, id="remove what is not there"),
        pytest.param([op("remove", "")], Code.INVALID_PARAMETER, id="remove all"),
        pytest.param([op("replace", "/nope", value=1)], Code.INVALID_PARAMETER, id="replace what is not there"),
        pytest.param([op("add", "/tags/7", value=1)], Code.INVALID_PARAMETER, id="add far behind the end"),
        pytest.param([op("add", "/tags/01", value=1)], Code.INVALID_PARAMETER, id="leading zero"),
        pytest.param([op("add", "/tags/" + "9" * 5000, value=1)], Code.INVALID_PARAMETER, id="an enormous index"),
        pytest.param([op("remove", "/tags/" + "9" * 30)], Code.INVALID_PARAMETER, id="remove at an enormous index"),
        pytest.param([op("replace", "/tags/-1", value=1)], Code.INVALID_PARAMETER, id="from the end"),
        pytest.param([op("add", "/weight/text", value=1)], Code.INVALID_PARAMETER, id="inside a number"),
        pytest.param([op("add", "/comment/0", value=1)], Code.INVALID_PARAMETER, id="inside a text"),
        pytest.param([op("move", "/deep/er/x", **{"from": "/deep"})], Code.INVALID_PARAMETER, id="into itself"),
        pytest.param([op("copy", "/x", **{"from": "/tags/-"})], Code.INVALID_PARAMETER, id="copy from behind the end"),
        pytest.param([op("copy", "/x", **{"from": "/weight/text"})], Code.INVALID_PARAMETER, id="out of a number"),
    ],
)
def test_a_patch_does_what_rfc_6902_says_or_nothing(operations: list[Any], changes: Any) -> None:
    wanted = patched(*operations)
    if isinstance(changes, Code):
        assert isinstance(wanted, Unmet)
        assert wanted.code is changes
        assert "Jane" not in wanted.detail
    else:
        assert wanted == SHOWN | json.loads(json.dumps(changes), parse_int=Number)


def test_one_failed_operation_undoes_those_before_it() -> None:
    assert isinstance(patched(op("add", "/comment", value="y"), op("test", "/status", value="x")), Unmet)


def test_a_patch_may_replace_everything() -> None:
    assert patched(op("replace", "", value=[])) == []


def test_numbers_keep_their_digits() -> None:
    moved = patched(op("move", "/heavy", **{"from": "/weight"}))
    assert moved["heavy"] == Number("1.10")
    exact = patch(b'[{"op": "test", "path": "/weight", "value": 1.10}]')
    rounded = patch(b'[{"op": "test", "path": "/weight", "value": 1.1}]')
    assert isinstance(exact, Wish)
    assert isinstance(rounded, Wish)
    assert exact.wanted(SHOWN) == SHOWN
    assert isinstance(rounded.wanted(SHOWN), Unmet)


ABUSE = {
    "no array": {"op": "add", "path": "/comment", "value": "x"},
    "merge patch": {"comment": None},
    "Parameters": {"resourceType": "Parameters", "parameter": []},
    "a text": [json.dumps(op("add", "/comment", value="x"))],
    "an array in the array": [[op("add", "/comment", value="x")]],
    "no op": [{"path": "/comment", "value": "x"}],
    "unknown op": [op("append", "/comment", value="x")],
    "op in capitals": [op("Add", "/comment", value="x")],
    "op is a list": [{"op": ["add"], "path": "/comment", "value": "x"}],
    "op is an object": [{"op": {}, "path": "/comment", "value": "x"}],
    "op is null": [{"op": None, "path": "/comment", "value": "x"}],
    "no path": [{"op": "add", "value": "x"}],
    "path is a number": [{"op": "add", "path": 1, "value": "x"}],
    "path is an array": [{"op": "add", "path": ["comment"], "value": "x"}],
    "path without a slash": [op("add", "comment", value="x")],
    "path as FHIRPath": [op("replace", "Appointment.comment", value="x")],
    "bad escape": [op("add", "/a~2b", value="x")],
    "half an escape": [op("add", "/a~", value="x")],
    "no value": [op("add", "/comment")],
    "no value to replace by": [op("replace", "/comment")],
    "no value to test": [op("test", "/comment")],
    "no from": [op("move", "/comment")],
    "from is null": [op("copy", "/comment", **{"from": None})],
    "from without a slash": [op("copy", "/comment", **{"from": "status"})],
    "many operations": [op("test", "/status", value="booked")] * (MOST_OPERATIONS + 1),
    "a long way": [op("add", "/a" * (MOST_STEPS + 1), value="x")],
    "long comment": [op("add", "/comment", value="x" * 501)],
    "comment of control characters": [op("replace", "/comment", value="a\u0000b")],
    "comment is an object": [op("replace", "/comment", value={"x": NHS_NUMBER})],
    "start without offset": [op("replace", "/start", value="2030-01-01T10:00:00")],
    "end is a number": [op("replace", "/end", value=1)],
}


@pytest.mark.parametrize("name", ABUSE)
def test_what_is_no_patch_is_refused_at_sight_and_nothing_of_it_repeated(name: str) -> None:
    misfit = patch(ABUSE[name])
    assert isinstance(misfit, Misfit)
    assert misfit.code is Code.INVALID_PARAMETER
    assert NHS_NUMBER not in misfit.detail


def test_members_that_come_twice_are_refused_before_any_library_sees_them() -> None:
    misfit = patch(b'[{"op": "test", "op": "remove", "path": "/comment", "value": "x"}]')
    assert isinstance(misfit, Misfit)
    assert misfit.code is Code.MALFORMED_JSON


def copies(into: str) -> list[Any]:
    return [op("copy", into % number, **{"from": ""}) for number in range(MOST_OPERATIONS)]


BOMBS = {
    "doubling": copies("/x%d"),
    "doubling in place": [op("copy", f"/deep/x{n}", **{"from": "/deep"}) for n in range(MOST_OPERATIONS)],
    "deeper and deeper": [
        op("add", "/x", value={}),
        *[op("move", "/y" + "/d" * 30, **{"from": "/x"}), op("move", "/x", **{"from": "/y"})] * 24,
    ],
    "an array doubled": [op("add", "/x", value=["a"] * 1900), *[op("copy", "/x/-", **{"from": "/x"})] * 49],
    "the largest that is let through": [
        op("add", "/x", value=["a"] * 1900),
        *[op("move", "/y", **{"from": "/x"}), op("move", "/x", **{"from": "/y"})] * 24,
    ],
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_patch_that_grows_is_stopped_early(name: str) -> None:
    wish = patch(BOMBS[name])
    assert isinstance(wish, Wish)
    begun = time.perf_counter()
    wanted = wish.wanted(SHOWN)
    assert time.perf_counter() - begun < 1.5
    if name != "the largest that is let through":
        assert isinstance(wanted, Unmet)


def test_nothing_gets_so_deep_that_python_loses_its_footing() -> None:
    path, operations = "", [op("add", "/x", value={})]
    for _ in range(MOST_STEPS - 2):
        path += "/d"
        operations.append(op("add", "/x" + path, value={}))
    operations.append(op("copy", "/x" + path + "/d", **{"from": "/x"}))
    operations += [op("copy", "/x" + path + "/d", **{"from": "/x"})] * 10
    wanted = patched(*operations)
    assert isinstance(wanted, Unmet)
    assert DEEPEST < 100


pointers = st.lists(
    st.sampled_from(
        ["deep", "er", "tags", "0", "-", "9" * 5000, "comment", "weight", "", "~0", "~1", "é", "-1", "1e3"]
    ),
    max_size=4,
).map(lambda steps: "".join(f"/{step}" for step in steps))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
operation = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": pointers},
    optional={"value": values, "from": pointers},
)


@given(st.lists(operation, max_size=8))
@example([op("add", "", value=[]), op("add", "/0", value=1), op("copy", "/-", **{"from": "/0"})])
@example([op("add", "", value="x"), op("move", "/a", **{"from": "/b"})])
@example([op("add", "", value=None), op("remove", "/a")])
def test_whatever_is_sent_comes_to_a_copy_or_to_a_refusal(operations: list[Any]) -> None:
    wish = patch(operations)
    if isinstance(wish, Wish):
        wanted = wish.wanted(SHOWN)
        assert isinstance(wanted, Unmet) or strict_json.write(wanted)


@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_no_body_makes_either_reader_fail(body: bytes) -> None:
    assert isinstance(resource(body), Wish | Misfit)
    assert isinstance(patch(body), Wish | Misfit)
