"""The page at /docs: the OpenAPI document to read and to try. It needs nothing from anywhere else.

Whatever the document says is text here: `Html` is made by `element` only, and everything else is escaped.
"""

import hashlib
import html
import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

_METHODS: Final = ("get", "post", "put", "patch")
_VOID: Final = frozenset({"input", "meta"})


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Page:
    """The page and the policy that it is served under."""

    body: bytes
    policy: str


@cache
def docs_page(document: bytes) -> Page:
    """Make the page of an OpenAPI document, once."""
    told = json.loads(document)
    style, script = _asset("docs.css"), _asset("docs.js")
    page = "<!doctype html>" + element(
        "html",
        _head(told["info"]["title"], style),
        element(
            "body",
            element("a", "Skip to the operations", href="#operations", **{"class": "skip"}),
            element("header", element("h1", told["info"]["title"]), *_paragraphs(told["info"]["description"])),
            _token(told),
            element("main", *_main(told), id="operations"),
            element("script", Html(script)),
        ),
        lang="en",
    )
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Page(page.encode(), policy)


def element(name: str, /, *children: str, **attributes: str) -> Html:
    """Make an element; children that are no markup, and all attributes, are escaped."""
    given = "".join(f' {key.replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{given}>")
    inner = "".join(each if isinstance(each, Html) else html.escape(each) for each in children)
    return Html(f"<{name}{given}>{inner}</{name}>")


def _asset(name: str) -> str:
    return (files("gateway.partner") / "static" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _head(title: str, style: str) -> Html:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(style)),
    )


def _paragraphs(text: str) -> Iterator[Html]:
    for paragraph in text.strip().split("\n\n"):
        pieces = re.split(r"`([^`]+)`", paragraph)
        yield element("p", *(element("code", each) if place % 2 else each for place, each in enumerate(pieces)))


def _token(told: Any) -> Html:
    schemes = told["components"]["securitySchemes"].values()
    field = element("input", id="token", type="password", autocomplete="off", spellcheck="false")
    return element(
        "section",
        element("h2", "Access token"),
        *(paragraph for scheme in schemes for paragraph in _paragraphs(scheme["description"])),
        element("label", "Token, kept in this page only", field),
        element("p", "Read the ", element("a", "OpenAPI document", href="openapi.json"), " itself."),
    )


def _main(told: Any) -> Iterator[Html]:
    yield element("h2", "Operations")
    for path, item in told["paths"].items():
        for method in _METHODS:
            if method in item:
                yield _operation(path, method, item[method], item.get("parameters", []))
    yield element("h2", "Answers of paths and methods that do not exist")
    yield element("ul", *(element("li", *_paragraphs(each["description"])) for each in _elsewhere(told)))
    yield element("h2", "Schemas")
    for name, schema in told["components"]["schemas"].items():
        shown = element("pre", json.dumps(schema, indent=2, ensure_ascii=False), tabindex="0")
        yield element("details", element("summary", name), element("div", shown), id=f"schema-{name}")


def _elsewhere(told: Any) -> list[Any]:
    return list(told["components"]["responses"].values())


def _operation(path: str, method: str, operation: Any, shared: list[Any]) -> Html:
    title = element(
        "summary",
        element("strong", method.upper()),
        " ",
        element("span", path, **{"class": "path"}),
        element("small", operation["summary"]),
    )
    scopes = [scope for need in operation["security"] for each in need.values() for scope in each]
    needs = element("p", "Scope: ", element("code", ", ".join(scopes))) if scopes else element("p", "No token.")
    inside = (needs, _form(path, method, operation, shared), _answers(operation["responses"]))
    return element("details", title, element("div", *inside), id=f"operation-{operation['operationId']}")


def _form(path: str, method: str, operation: Any, shared: list[Any]) -> Html:
    name = operation["operationId"]
    guarded = {"data-guarded": "yes"} if operation["security"] else {}
    fields = [_field(name, each) for each in (*shared, *operation["parameters"])]
    if "requestBody" in operation:
        fields += _body(name, operation["requestBody"]["content"])
    shown = element("output", aria_live="polite")
    return element(
        "form",
        element("h3", "Try it"),
        *fields,
        element("button", "Send", type="submit"),
        element("pre", shown, tabindex="0", aria_label="Answer"),
        **{"data-path": path, "data-method": method.upper(), **guarded},
    )


def _field(operation: str, parameter: Any) -> Html:
    id_ = f"{operation}-{parameter['in']}-{parameter['name']}"
    given = {"data-in": parameter["in"], "data-name": parameter["name"], "id": id_, "type": "text"}
    if parameter["in"] == "path":
        given["value"] = str(parameter.get("example", ""))
    else:
        given["placeholder"] = str(parameter.get("example", ""))
    if parameter["schema"].get("type") == "array":
        given["data-many"] = "yes"
    if parameter["required"]:
        given["required"] = "required"
    told = [f" ({parameter['in']}) ", parameter.get("description", "")]
    return element("label", element("code", parameter["name"]), *told, element("input", **given))


def _body(operation: str, content: Mapping[str, Any]) -> list[Html]:
    first = next(iter(content.values()))
    examples = [each["value"] for each in first.get("examples", {}).values()]
    text = json.dumps(examples[0], indent=2, ensure_ascii=False) if examples else ""
    if "application/x-www-form-urlencoded" in content:
        text = "&".join(f"{name}=" for name in first["schema"]["properties"])
    media = [element("option", each, value=each) for each in content]
    choice = element("select", *media, id=f"{operation}-media", **{"data-media": "yes"})
    area = element("textarea", text, id=f"{operation}-body", spellcheck="false", **{"data-body": "yes"})
    return [element("label", "Content-Type", choice), element("label", "Body", area)]


def _answers(responses: Mapping[str, Any]) -> Html:
    head = element("tr", *(element("th", word, scope="col") for word in ("Status", "Meaning", "Headers", "Body")))
    rows = [
        element(
            "tr",
            element("th", status, scope="row"),
            element("td", *_paragraphs(answer["description"])),
            element("td", ", ".join(answer["headers"])),
            element("td", *_shapes(answer["content"])),
        )
        for status, answer in responses.items()
    ]
    return element(
        "section", element("h3", "Answers"), element("table", element("thead", head), element("tbody", *rows))
    )


def _shapes(content: Mapping[str, Any]) -> Iterator[Html]:
    for media, shape in content.items():
        names = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(shape["schema"]))
        links = [element("a", name, href=f"#schema-{name}") for name in names]
        yield element("p", element("code", media), *(piece for link in links for piece in (" ", link)))
