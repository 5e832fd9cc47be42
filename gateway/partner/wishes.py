"""The bodies of PUT and PATCH: a whole Appointment, or a patch of one. Nothing of a body is ever repeated.

What a body wants is compared with PKB's copy later. Here only that is refused which no copy could make good.
"""

import copy
from collections.abc import Callable
from typing import Final

from jsonpatch import JsonPatch, JsonPatchException, JsonPatchTestFailed
from jsonpointer import JsonPointerException

from gateway.domain import strict_json
from gateway.domain.codes import Code
from gateway.domain.grant import Field
from gateway.domain.intents import Unmet
from gateway.domain.strict_json import Object, Value
from gateway.domain.values import read_instant, why_unfit
from gateway.flow.orders import Wish
from gateway.partner.wire import Misfit

MOST_OPERATIONS: Final = 50
MOST_STEPS: Final = 32
"""Between the root and the place that one operation names."""
MOST_VALUES: Final = 2_000
DEEPEST: Final = 96
"""Of the copy while a patch copies and moves within it: PKB's own may be 64 deep, and what comes with a patch 32."""

_TAKE_A_VALUE: Final = frozenset({"add", "replace", "test"})
_TAKE_A_SOURCE: Final = frozenset({"copy", "move"})
_SET_A_VALUE: Final = frozenset({"add", "replace"})
_STRINGS: Final = ("status", "start", "end", "comment")
_CLAIMLESS: Final = (
    "The customer requires patient and birthDate, which only $cancel and $change can carry. Use one of these."
)


def read_resource(body: bytes, id_: str, *, patient_required: bool) -> Wish | Misfit:
    """Read the body of a PUT; what is missing is told before what is wrong."""
    wanted = _read(body, patient_required=patient_required)
    if isinstance(wanted, Misfit):
        return wanted
    if not isinstance(wanted, dict) or wanted.get("resourceType") != "Appointment":
        return Misfit(Code.INVALID_PARAMETER, "The body must be a FHIR Appointment resource.", "Appointment")
    if wanted.get("id") != id_:
        return Misfit(Code.INVALID_PARAMETER, "The id of the resource must be the one in the path.", "Appointment.id")
    for name in _STRINGS:
        if not isinstance(wanted.get(name, ""), str):
            return Misfit(Code.INVALID_PARAMETER, f"{name} must be a string.", f"Appointment.{name}")
    return Wish(lambda _: wanted)


def read_patch(body: bytes, *, patient_required: bool) -> Wish | Misfit:
    """Read the body of a PATCH, a JSON Patch (RFC 6902)."""
    told = _read(body, patient_required=patient_required)
    if isinstance(told, Misfit):
        return told
    if not isinstance(told, list) or len(told) > MOST_OPERATIONS:
        return Misfit(Code.INVALID_PARAMETER, f"A JSON Patch is an array of at most {MOST_OPERATIONS} operations.")
    operations: list[Object] = []
    for number, operation in enumerate(told):
        if not isinstance(operation, dict) or not _is_operation(operation):
            return Misfit(Code.INVALID_PARAMETER, f"Operation {number} is none of RFC 6902.")
        if (why := _why_unfit(operation)) is not None:
            return Misfit(Code.INVALID_PARAMETER, f"Operation {number}: {why}")
        operations.append(operation)
    return Wish(_patching(operations))


def _read(body: bytes, *, patient_required: bool) -> "Value | Misfit":
    try:
        value = strict_json.read(body)
    except strict_json.MalformedJson as error:
        return Misfit(Code.MALFORMED_JSON, f"{str(error).capitalize()}.")
    return Misfit(Code.MISSING_PARAMETER, _CLAIMLESS) if patient_required else value


def _is_operation(operation: Object) -> bool:
    """Whether an operation is whole; the library finds some of that out only while it is at work."""
    kind = operation.get("op")
    if not isinstance(kind, str):
        return False
    if kind in _TAKE_A_VALUE and "value" not in operation:
        return False
    pointers = [operation.get("path"), *([operation.get("from")] if kind in _TAKE_A_SOURCE else [])]
    if not all(isinstance(pointer, str) and pointer.count("/") <= MOST_STEPS for pointer in pointers):
        return False
    try:
        JsonPatch([operation])
        JsonPatch([{"op": "remove", "path": pointer} for pointer in pointers])
    except (JsonPatchException, JsonPointerException):
        return False
    return True


def _why_unfit(operation: Object) -> str | None:
    """Say why an operation gives an element a value that no appointment can have."""
    path, value = operation["path"], operation.get("value")
    if operation["op"] not in _SET_A_VALUE:
        return None
    match path:
        case "/comment":
            return why_unfit(Field.COMMENT, value) if isinstance(value, str) else "comment must be a string."
        case "/start" | "/end":
            fits = isinstance(value, str) and read_instant(value) is not None
            return None if fits else "start and end are FHIR instants with seconds and offset."
        case _:
            return None


def _patching(operations: list[Object]) -> "Callable[[Object], Value | Unmet]":
    def wanted(shown: Object) -> "Value | Unmet":
        document: Value = copy.deepcopy(shown)
        for number, operation in enumerate(operations):
            try:
                document = JsonPatch([operation]).apply(document, in_place=True)
            except JsonPatchTestFailed:
                return Unmet(Code.VERSION_CONFLICT, f"The test of operation {number} does not hold for PKB's copy.")
            except (JsonPatchException, JsonPointerException):
                return Unmet(Code.INVALID_PARAMETER, f"Operation {number} does not fit PKB's copy.")
            # Whoever copies a thing into itself doubles it each time.
            if operation["op"] in _TAKE_A_SOURCE and not _is_bounded(document):
                return Unmet(Code.INVALID_PARAMETER, f"Operation {number} makes too much of the resource.")
        return document

    return wanted


def _is_bounded(document: Value) -> bool:
    """Whether a document is neither too deep nor too large, without going deep itself."""
    level, count = [document], 0
    for _ in range(DEEPEST):
        if not level:
            return True
        count += len(level)
        if count > MOST_VALUES:
            return False
        level = [held for value in level for held in _held(value)]
    return not level


def _held(value: Value) -> "list[Value]":
    match value:
        case dict():
            return list(value.values())
        case list():
            return value
        case _:
            return []
