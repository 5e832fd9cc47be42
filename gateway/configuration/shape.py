"""Shapes by pydantic: its errors become complaints in plain English, with the keys the file knows."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, Final, Generic, TypeVar

from pydantic import Field, PlainValidator, TypeAdapter, ValidationError, ValidationInfo, WithJsonSchema

from gateway.configuration import words
from gateway.configuration.problems import Complaint, Place, Step
from gateway.configuration.secret import REFERENCE_PATTERN, Reading, Secret, read_secret

T = TypeVar("T")
Json = Mapping[str, Any]

Whole = Annotated[int, Field(strict=True)]
YesNo = Annotated[bool, Field(strict=True)]
_QUOTED: Final = re.compile(r"'([^']*)'")


def reading_of(info: ValidationInfo) -> Reading:
    """Give what the caller of Shape.read passed along."""
    assert isinstance(info.context, Reading)
    return info.context


def leaf(read: Callable[[Any], Any], **schema: Any) -> tuple[PlainValidator, WithJsonSchema]:
    """Pair a reader of one value with what an editor may know of it."""
    return PlainValidator(read), WithJsonSchema({"type": "string", **schema})


def leaf_here(read: Callable[[Any, Reading], Any], **schema: Any) -> tuple[PlainValidator, WithJsonSchema]:
    """Pair a reader that depends on the surroundings with what an editor may know of the value."""

    def validate(value: object, info: ValidationInfo) -> Any:
        return read(value, reading_of(info))

    return PlainValidator(validate), WithJsonSchema({"type": "string", **schema})


SecretReference = Annotated[Secret, *leaf_here(read_secret, pattern=REFERENCE_PATTERN)]


class Shape(Generic[T]):
    """The shape of one file."""

    def __init__(self, type_: Any) -> None:
        self._adapter: TypeAdapter[T] = TypeAdapter(type_)

    @cached_property
    def json_schema(self) -> dict[str, Any]:
        """The shape for editors (JSON Schema 2020-12), and for messages that name the keys there are."""
        return self._adapter.json_schema(by_alias=True)

    def read(self, values: Mapping[str, Any], reading: Reading) -> T | list[Complaint]:
        """Give the value, or everything that is wrong with its shape."""
        try:
            return self._adapter.validate_python(dict(values), context=reading)
        except ValidationError as error:
            schema = self.json_schema
            return [_complaint(schema, dict(each)) for each in error.errors(include_url=False)]


def _complaint(schema: Json, error: Json) -> Complaint:
    place, holder = _walk(schema, error["loc"])
    return Complaint(place, _message(error, place, holder))


_EXPECTED: Final = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "bool_type": "true or false without quotes",
    "list_type": "a list in [ ]",
    "tuple_type": "a list in [ ]",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dataclass_type": "a table",
}


def _message(error: Json, place: Place, holder: Json) -> str:
    """Say it to somebody who has never seen a stack trace. Values of strange types are not repeated."""
    type_, details = error["type"], error.get("ctx", {})
    if type_ in _EXPECTED:
        return f"expected {_EXPECTED[type_]}, found {words.kind_of(error['input'])}"
    match type_:
        case "missing":
            about = holder.get("properties", {}).get(str(place[-1]), {}).get("description")
            return "this key is missing" + (f": {about}" if about else "")
        case "extra_forbidden" | "unexpected_keyword_argument":
            known = holder.get("properties", {})
            hint = words.near(str(place[-1]), known) or f"; known here: {words.listed(known, 'and')}"
            return f"unknown key{hint}"
        case "value_error":
            return str(details["error"])
        case "too_short":
            return "must not be an empty list"
        case "greater_than_equal":
            return f"must be at least {details['ge']}"
        case "less_than_equal":
            return f"must be at most {details['le']}"
        case "literal_error":
            return _not_in(error["input"], details["expected"])
        case "union_tag_not_found":
            return f"the key {_unquoted(details)} is missing: it says what this is"
        case "union_tag_invalid":
            return f"{_unquoted(details)} = {_not_in(details['tag'], details['expected_tags'])}"
        case _:
            return str(error["msg"])


def _unquoted(details: Json) -> str:
    return str(details["discriminator"]).strip("'")


def _not_in(value: object, expected: str) -> str:
    known = _QUOTED.findall(expected) or [expected]
    if not isinstance(value, str):
        return f"expected {words.listed(known)}, found {words.kind_of(value)}"
    return f"{words.echo(value)} is not known here; expected {words.listed(known)}{words.near(value, known)}"


def _walk(schema: Json, steps: Iterable[Step]) -> tuple[Place, Json]:
    """Follow pydantic's location through the schema: what is not in the file (tags of unions) drops out.

    The second value is the schema of the table that holds the last step.
    """
    place: Place = ()
    node: Json = schema
    holder: Json = schema
    for step in steps:
        node = _plain(schema, node)
        if "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"].get(step, "#/$defs/")}
            continue
        if step == "[key]":
            continue
        holder = node
        place = (*place, step)
        node = _below(node, step)
    return place, _plain(schema, holder)


def _below(node: Json, step: Step) -> Json:
    if isinstance(step, int):
        items: Json = node.get("items", {})
        return items
    # pydantic describes a table whose keys follow a pattern under that pattern.
    patterns = list(node.get("patternProperties", {}).values())
    others = patterns[0] if patterns else node.get("additionalProperties") or {}
    named: Json = node.get("properties", {}).get(step) or others
    return named


def _plain(schema: Json, node: Json) -> Json:
    """Look through references and `or null`."""
    while "$ref" in node or "anyOf" in node:
        if "$ref" in node:
            node = schema.get("$defs", {}).get(node["$ref"].removeprefix("#/$defs/"), {})
        else:
            node = next(each for each in node["anyOf"] if each.get("type") != "null")
    return node


Id = Annotated[str, *leaf(words.identifier, pattern=words.ID_PATTERN)]
Name = Annotated[str, *leaf(words.text, minLength=1, maxLength=words.LONGEST)]
Exact = Annotated[str, *leaf(words.exact, minLength=1, maxLength=words.LONGEST)]
