"""The OpenAPI document and the page that shows it: whole, of the tables, and safe to open."""

import base64
import hashlib
import html.parser
import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.domain.codes import CATALOGUE, Code
from gateway.domain.grant import Operation
from gateway.partner import wire
from gateway.partner.docs_page import docs_page, element
from gateway.partner.openapi import openapi, openapi_bytes
from gateway.partner.openapi_answers import by_status, codes_of
from gateway.partner.openapi_schemas import schemas
from gateway.partner.search import PARAMETERS
from gateway.partner.table import Name, Route, paths

HERE = ("https://gateway.example", "https://pkb-gateway.example/codes", "1.2.3")
DOCUMENT: Any = json.loads(openapi_bytes(*HERE))
OPERATIONS = [
    (path, method, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
]
ROUTES = [route for _, routes in paths() for route in routes.values()]


def test_the_document_is_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_every_route_of_the_table_is_there_and_no_other() -> None:
    assert {(path, method) for path, method, _ in OPERATIONS} == {
        (path, method.lower()) for path, routes in paths() for method in routes
    }


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=lambda each: str(each)[:60])
def test_every_operation_has_a_name_a_summary_and_its_scope(path: str, method: str, operation: Any) -> None:
    assert operation["summary"][0].isupper()
    assert [each for _, _, each in OPERATIONS if each["operationId"] == operation["operationId"]] == [operation]
    assert bool(operation["security"]) == ("/Appointment" in path or "/Task" in path)


def test_every_code_can_be_given_by_some_route_but_for_that_of_another_method() -> None:
    given = {code for route in ROUTES for code in codes_of(route)}
    assert set(Code) - given == {Code.METHOD_NOT_ALLOWED}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name.value)
def test_codes_stand_under_the_status_of_the_catalogue(route: Route) -> None:
    assert {code: status for status, codes in by_status(route).items() for code in codes} == {
        code: CATALOGUE[code].status for code in codes_of(route)
    }


@pytest.mark.parametrize("schema", DOCUMENT["components"]["schemas"])
def test_every_schema_is_one(schema: str) -> None:
    Draft202012Validator.check_schema(DOCUMENT["components"]["schemas"][schema])


def examples() -> list[tuple[str, Any, Any]]:
    found = []
    for path, method, operation in OPERATIONS:
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in (shape for body in bodies for shape in body.get("content", {}).values()):
            given = {"one": {"value": content["example"]}} if "example" in content else content.get("examples", {})
            for name, example in given.items():
                found.append((f"{method} {path} {name}", content["schema"], example["value"]))
    return found


@pytest.mark.parametrize(("name", "schema", "value"), examples(), ids=lambda each: str(each)[:70])
def test_every_example_is_one_of_its_schema(name: str, schema: Any, value: Any) -> None:
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


@pytest.mark.parametrize(
    ("operation", "name"), [(Operation.CANCEL, "CancelParameters"), (Operation.CHANGE, "ChangeParameters")]
)
def test_the_parameters_of_an_operation_are_those_that_are_read(operation: Operation, name: str) -> None:
    told: Any = schemas(HERE[1])[name]
    given = {each["properties"]["name"]["const"]: list(each["properties"])[1] for each in kinds_of(told)}
    assert given == wire._TYPES[operation]


def kinds_of(parameters: Any) -> list[Any]:
    return list(parameters["properties"]["parameter"]["items"]["oneOf"])


@pytest.mark.parametrize("name", ["CancelParameters", "ChangeParameters"])
def test_what_is_too_long_for_the_reader_is_too_long_for_the_document(name: str) -> None:
    limits = {"comment": 500, "location": 200, "managementUrl": 500}
    for each in kinds_of(schemas(HERE[1])[name]):
        value = list(each["properties"].values())[1]
        assert value.get("maxLength") == limits.get(each["properties"]["name"]["const"])


def test_the_parameters_of_a_search_are_those_that_are_read() -> None:
    given = DOCUMENT["paths"]["/{customer}/fhir/Appointment"]["get"]["parameters"]
    assert {each["name"] for each in given if each["in"] == "query"} == set(PARAMETERS)


def test_a_document_is_made_once_and_names_its_gateway() -> None:
    assert openapi_bytes(*HERE) is openapi_bytes(*HERE)
    assert openapi("http://other.example", *HERE[1:])["servers"] == [{"url": "http://other.example"}]


class Reader(html.parser.HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.inside: dict[str, str] = {}
        self.attributes: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in {"input", "meta"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.inside[self.open[-1]] = self.inside.get(self.open[-1], "") + data if self.open else data


def read(document: bytes) -> tuple[Reader, str]:
    page, reader = docs_page(document), Reader()
    reader.feed(page.body.decode().removeprefix("<!doctype html>"))
    assert reader.open == []
    return reader, page.policy


def test_the_page_loads_nothing_from_anywhere() -> None:
    reader, policy = read(openapi_bytes(*HERE))
    loading = {"src", "srcset", "data", "action", "formaction", "background", "style"}
    assert [each for each in reader.attributes if each[1] in loading or each[1].startswith("on")] == []
    assert {value for tag, name, value in reader.attributes if name == "href" and value[0] != "#"} == {"openapi.json"}
    assert not re.search(r"url\(|@import|https?:", reader.inside["style"])
    assert not re.search(r"innerHTML|eval|document\.write|https?:", reader.inside["script"])
    assert "'unsafe" not in policy


def test_the_policy_lets_the_own_style_and_script_in_and_nothing_else() -> None:
    reader, policy = read(openapi_bytes(*HERE))

    def digest(name: str) -> str:
        return base64.b64encode(hashlib.sha256(reader.inside[name].encode()).digest()).decode()

    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{digest('style')}'",
        f"script-src 'sha256-{digest('script')}'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]


def test_whatever_the_document_says_is_text_on_the_page() -> None:
    evil = "</pre><script>alert(1)</script>\"'><img src=x onerror=alert(1)>"

    def spoiled(node: Any) -> Any:
        match node:
            case dict():
                return {name: spoiled(value) for name, value in node.items()}
            case list():
                return [spoiled(value) for value in node]
            case str() if " " in node:
                return node + evil
        return node

    clean, _ = read(openapi_bytes(*HERE))
    reader, _ = read(json.dumps(spoiled(DOCUMENT)).encode())
    assert reader.inside["script"] == clean.inside["script"]
    assert [(tag, name) for tag, name, _ in reader.attributes] == [(tag, name) for tag, name, _ in clean.attributes]


def test_markup_is_made_of_elements_only() -> None:
    assert element("p", "a<b", element("b", "&"), title='"') == '<p title="&quot;">a&lt;b<b>&amp;</b></p>'


def test_every_field_of_the_page_has_a_label_and_an_id_of_its_own() -> None:
    reader, _ = read(openapi_bytes(*HERE))
    ids = [value for _, name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    body = docs_page(openapi_bytes(*HERE)).body.decode()
    fields = len(re.findall(r"<(?:input|select|textarea) ", body))
    assert fields == len(re.findall(r"<label>(?:(?!</label>).)*<(?:input|select|textarea) ", body, re.DOTALL)) > 30


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(scheme: int) -> None:
    reader, _ = read(openapi_bytes(*HERE))
    colours = dict(re.findall(r"--(\w+): (#\w{6})", re.findall(r":root \{(.*?)\}", reader.inside["style"])[scheme]))
    for text, ground in [("ink", "paper"), ("ink", "soft"), ("mark", "paper"), ("wrong", "soft"), ("paper", "mark")]:
        light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def test_the_names_of_routes_are_told_apart_in_the_document() -> None:
    assert {operation["operationId"] for _, _, operation in OPERATIONS} == {name.value for name in Name} | {
        "search-form"
    }
