"""Holds every answer against the OpenAPI document: its status, headers and body must be written there.

`tests/journeys/test_openapi.py` proves that this is the document a gateway serves.
"""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from gateway import __version__
from gateway.partner.openapi import openapi

CODES = "https://pkb-gateway.example/codes"
TRANSPORT = {"content-type", "content-length", "date", "connection", "referrer-policy", "transfer-encoding"}
"""Headers that OpenAPI leaves to HTTP, or that only a browser minds."""


@functools.cache
def document() -> Any:
    return json.loads(json.dumps(openapi("http://gateway.example", CODES, __version__)))


@functools.cache
def paths() -> tuple[tuple[re.Pattern[str], Any], ...]:
    found = []
    for template, item in document()["paths"].items():
        pattern = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
        for each in item.get("parameters", ()):
            not_these = "|".join(each["schema"].get("not", {}).get("enum", ()))
            spared = f"(?!(?:{not_these})/)" if not_these else ""
            pattern = pattern.replace(f"{{{each['name']}}}", spared + each["schema"]["pattern"].strip("^$"))
        found.append((re.compile(pattern), item))
    return tuple(found)


def item_of(path: str) -> Any:
    """The path item of a path, without its query; None: there is no such path."""
    return next((item for pattern, item in paths() if pattern.fullmatch(path.partition("?")[0])), None)


def operations() -> Iterator[tuple[str, str, Any]]:
    for template, item in document()["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield template, method.upper(), operation


@functools.cache
def validator(text: str) -> Draft202012Validator:
    schema = json.loads(text)
    return Draft202012Validator({**schema, "components": document()["components"]}, format_checker=FormatChecker())


def fits(schema: Any, value: Any) -> list[str]:
    return [each.message[:500] for each in validator(json.dumps(schema)).iter_errors(value)]


def resolved(node: Any) -> Any:
    if "$ref" not in node:
        return node
    found = document()
    for step in node["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


def answer_of(method: str, path: str, status: int) -> Any:
    """What the document says about an answer. Fails where it says nothing."""
    item = item_of(path)
    if item is None or method.lower() not in item:
        # What HTTP itself forbids is answered before anybody looks for a path.
        names = {404: "NoSuchPath"} if item is None else {405: "NoSuchMethod"}
        if status in {400, 500}:
            return document()["paths"]["/_ping"]["get"]["responses"][str(status)]
        assert status in names, f"{method} {path} is not in the document, and is answered {status}"
        return document()["components"]["responses"][names[status]]
    answers = item[method.lower()]["responses"]
    assert str(status) in answers, f"{method} {path}: {status} is not documented, only {', '.join(answers)}"
    return answers[str(status)]


def hold(method: str, path: str, status: int, headers: Mapping[str, str], raw: bytes) -> None:
    """Hold one answer against the document. Fails with what is wrong about it."""
    told, where = answer_of(method, path, status), f"{method} {path} {status}"
    named = {name.lower(): resolved(header) for name, header in told["headers"].items()}
    given = {name.lower(): value for name, value in headers.items()}
    missing = [name for name, header in named.items() if header["required"] and name not in given]
    assert missing == [] or (raw == b"" and missing == ["etag"]), f"{where} lacks {missing}"
    unknown = set(given) - set(named) - TRANSPORT
    assert not unknown, f"{where} has undocumented headers: {sorted(unknown)}"
    for name in set(named) & set(given):
        assert fits(named[name]["schema"], given[name]) == [], f"{where}: {name}: {given[name]}"
    if method == "HEAD":
        return
    if raw == b"":
        assert status == 200, f"{where} has no body"
        assert "Nothing" in told["description"] or "nothing" in told["description"], f"{where} has no body"
        return
    media = given["content-type"].partition(";")[0]
    assert media in told["content"], f"{where} is {media}"
    if media == "text/html":
        return
    wrong = fits(told["content"][media]["schema"], json.loads(raw))
    assert wrong == [], f"{where}: {wrong}: {raw[:2000]!r}"


def hold_raw(request: bytes, answer: bytes) -> None:
    """The same for bytes as they went over a socket, where they are one answer."""
    if answer.count(b"HTTP/1.1 ") != 1:
        return
    told, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = told.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in rest)
    asked = re.match(rb"([A-Z]+) (/\S*) HTTP/1", request)
    method, path = (each.decode("latin-1") for each in asked.groups()) if asked else ("GET", "/")
    hold(method, path, int(first.split(" ")[1]), headers, body)
