"""The OpenAPI 3.1 document, made from the table of routes, the table of steps and the catalogue of codes."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Final

from gateway.domain.codes import CATALOGUE, Code
from gateway.domain.search import MOST_COUNT, USUAL_COUNT
from gateway.partner.answers import FHIR_JSON, as_bytes
from gateway.partner.headers import Media
from gateway.partner.openapi_answers import by_status, has_body, whole_resource
from gateway.partner.openapi_examples import EXAMPLES, refusal
from gateway.partner.openapi_headers import ALWAYS, headers, must, of_answer, ref
from gateway.partner.openapi_schemas import Schema, error_with, schemas
from gateway.partner.openapi_schemas import ref as schema_ref
from gateway.partner.search import IDENTIFIER, PATIENT
from gateway.partner.table import CUSTOMER_ID, RESERVED_IDS, RESOURCE_ID, Name, Route, paths
from gateway.partner.token_endpoint import ASSERTION_TYPE, CLIENT_CREDENTIALS, STATUSES, OAuthError
from gateway.partner.token_endpoint import PATH as TOKEN_PATH

Node = Mapping[str, object]
JSON: Final = "application/json"
HTML: Final = "text/html"
_SCHEME: Final = "partner"
_ABOUT: Final = """\
FHIR R4 for partners that act on patients' appointments on behalf of a customer (`{customer}`).

Every error is an OperationOutcome with a stable code, and every code that an operation can answer with is listed. \
A path that is not listed is 404 `not-found`, another method 405 `method-not-allowed` with `Allow`; both carry \
`X-Request-Id`. Query names are exact and unencoded; paths are never percent-encoded.
"""
_SUMMARIES: Final[Mapping[str, str]] = {
    "ping": "Name, version and commit",
    "jwks": "The gateway's own public signing keys",
    "token": "Get an access token with a signed assertion (private_key_jwt)",
    "metadata": "CapabilityStatement; the same for every customer, known or not",
    "smart-configuration": "Where and how to get tokens; the same for every customer, known or not",
    "read": "Read one appointment",
    "actions": "What this partner may do with the appointment now; changes nothing",
    "cancel": "Cancel an appointment",
    "change": "Change an appointment's time, comment or place",
    "task": "How an earlier change or cancel stands",
    "search": "Search for appointments",
    "openapi": "This document",
    "docs": "A page to read this document and to try it",
    "update": "Cancel or change an appointment by sending the whole resource",
    "patch": "Cancel or change an appointment with a JSON Patch",
}


@cache
def openapi_bytes(public_url: str, codes_system: str, version: str) -> bytes:
    """Write the document of one deployment, once; it is the same for everybody."""
    return as_bytes(openapi(public_url, codes_system, version))


def openapi(public_url: str, codes_system: str, version: str) -> dict[str, object]:
    """Make the document. `public_url` is the gateway's, `codes_system` that of the error codes."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "PKB Partner Appointment Gateway",
            "version": version,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": public_url}],
        "paths": {
            path: {
                **_path_parameters(path),
                **{method.lower(): _operation(path, method, route, codes_system) for method, route in routes.items()},
            }
            for path, routes in paths()
        },
        "components": {
            "schemas": schemas(codes_system),
            "headers": headers(),
            "securitySchemes": {_SCHEME: _security(public_url)},
            "responses": dict(_elsewhere(codes_system)),
        },
    }


def _security(public_url: str) -> Node:
    told = (
        "Client credentials as in SMART Backend Services: instead of a secret the client sends `client_assertion`, a "
        "JWT signed with its own private key (`private_key_jwt`), each good once. Tokens are good for minutes. What a "
        "token allows is decided by the customer's grant, on every request."
    )
    scopes = {
        "system/Appointment.r": "read, $actions and Task",
        "system/Appointment.s": "search",
        "system/Appointment.u": "writes",
    }
    flow = {"tokenUrl": f"{public_url}{TOKEN_PATH}", "scopes": scopes}
    return {"type": "oauth2", "description": told, "flows": {"clientCredentials": flow}}


def _elsewhere(codes_system: str) -> Iterator[tuple[str, Node]]:
    """The answers that belong to no operation."""
    always = {name: ref(name) for name in ALWAYS}
    for name, code in (("NoSuchPath", Code.NOT_FOUND), ("NoSuchMethod", Code.METHOD_NOT_ALLOWED)):
        allow = {"Allow": must("Allow")} if code is Code.METHOD_NOT_ALLOWED else {}
        yield (
            name,
            {"description": _told([code]), "headers": {**always, **allow}, "content": _refusal(codes_system, [code])},
        )


def _path_parameters(path: str) -> Node:
    customer = {"type": "string", "pattern": f"^{CUSTOMER_ID.pattern}$", "not": {"enum": sorted(RESERVED_IDS)}}
    given: list[Node] = []
    if "{customer}" in path:
        given.append(_parameter("path", "customer", customer, "Whom the partner acts for.", example="airedale"))
    if "{id}" in path:
        id_ = {"type": "string", "pattern": f"^{RESOURCE_ID.pattern}$"}
        given.append(_parameter("path", "id", id_, "The resource's id.", example="a1"))
    return {"parameters": given} if given else {}


def _parameter(
    place: str, name: str, schema: Node, told: str, *, required: bool = False, example: object = None
) -> dict[str, object]:
    made: dict[str, object] = {
        "name": name,
        "in": place,
        "description": told,
        "required": required or place == "path",
        "schema": schema,
    }
    return made if example is None else {**made, "example": example}


def _operation(path: str, method: str, route: Route, codes_system: str) -> Node:
    form = route.name is Name.SEARCH and method == "POST"
    made: dict[str, object] = {
        "operationId": f"{route.name.value}-form" if form else route.name.value,
        "summary": _SUMMARIES.get(route.name, route.name.value) + (", with a form" if form else ""),
        "tags": [path.split("/")[3] if route.letter else "open"],
        "parameters": [*_headers_in(route), *(_search_parameters() if route.queries else ())],
    }
    content = _request(route)
    if content:
        made["requestBody"] = {"required": True, "content": content}
    made["responses"] = {str(status): answer for status, answer in sorted(_answers(route, codes_system).items())}
    made["security"] = [{_SCHEME: [f"system/Appointment.{route.letter}"]}] if route.letter else []
    return made


def _headers_in(route: Route) -> Iterator[Node]:
    uuid = {"type": "string", "format": "uuid"}
    yield _parameter("header", "X-Request-Id", uuid, "Taken over if it is a UUID.")
    yield _parameter("header", "X-Correlation-Id", uuid, "Given back if it is a UUID.")
    if not route.writes:
        return
    tag = {"type": "string", "pattern": r'^(W/)?"[\x21\x23-\x7e]+"$'}
    told = "The version you have read, one entity tag."
    yield _parameter("header", "If-Match", tag, told, required=whole_resource(route), example='W/"3"')
    key = {"type": "string", "pattern": r"^[\x21-\x7e]{1,128}$"}
    yield _parameter("header", "Idempotency-Key", key, "The same key: the same request, carried out once.")
    known = {"type": "string", "enum": ["return=representation", "return=minimal", "return=OperationOutcome"]}
    yield _parameter("header", "Prefer", known, "What a successful answer shows; other values are ignored.")


def _search_parameters() -> list[Node]:
    token = {"type": "string", "pattern": r"^[^\s|,$\\]+\|[^|,$\\]+$"}
    count = {"type": "integer", "minimum": 1, "maximum": MOST_COUNT, "default": USUAL_COUNT}
    dates = {"type": "array", "items": {"type": "string", "pattern": "^(eq|gt|lt|ge|le)?[0-9]{4}"}}
    nhs = "https://fhir.nhs.uk/Id/nhs-number|9000000009"
    return [
        _parameter("query", PATIENT, token, "This or identifier: an identifier of the patient.", example=nhs),
        _parameter("query", IDENTIFIER, token, "A business identifier of the appointment."),
        {**_parameter("query", "date", dates, "The start; all must hold."), "style": "form", "explode": True},
        _parameter("query", "status", {"type": "string"}, "One status, or several with commas between."),
        _parameter("query", "_count", count, "Hits on a page."),
        _parameter("query", "_cursor", {"type": "string"}, "Of a next link; it stands alone."),
    ]


def _request(route: Route) -> dict[str, object]:
    if route.name is Name.TOKEN:
        return {Media.FORM.value[0]: {"schema": _token_form()}}
    if not has_body(route):
        return {}
    if route.media is Media.FORM:
        properties = {str(each["name"]): each["schema"] for each in _search_parameters()}
        form = {"type": "object", "properties": properties, "additionalProperties": False}
        return {Media.FORM.value[0]: {"schema": form, "examples": EXAMPLES["search-form"]}}
    media = route.media or Media.FHIR
    name = {Name.CANCEL: "CancelParameters", Name.CHANGE: "ChangeParameters"}.get(route.name)
    if name is None:
        name = "JsonPatch" if media is Media.JSON_PATCH else "Appointment"
    return {each: {"schema": schema_ref(name), "examples": EXAMPLES[name]} for each in media.value}


def _token_form() -> Schema:
    text = {"type": "string"}
    return {
        "type": "object",
        "properties": {
            "grant_type": {"const": CLIENT_CREDENTIALS},
            "client_assertion_type": {"const": ASSERTION_TYPE},
            "client_assertion": {**text, "description": "iss = sub = your partner id, aud = this URL, jti, exp."},
            "client_id": {**text, "description": "If given, your partner id."},
            "scope": {**text, "description": "Left out: system/Appointment.rus"},
        },
        "required": ["grant_type", "client_assertion_type", "client_assertion"],
    }


_SUCCESS: Final[Mapping[str, tuple[str, str]]] = {
    "ping": (JSON, "Ping"),
    "jwks": (JSON, "KeySet"),
    "token": (JSON, "Token"),
    "metadata": (FHIR_JSON, "CapabilityStatement"),
    "smart-configuration": (JSON, "SmartConfiguration"),
    "read": (FHIR_JSON, "Appointment"),
    "actions": (FHIR_JSON, "Offers"),
    "task": (FHIR_JSON, "Task"),
    "search": (FHIR_JSON, "Bundle"),
}


def _answers(route: Route, codes_system: str) -> dict[int, Node]:
    answers: dict[int, Node] = dict(_successes(route))
    for status, codes in by_status(route).items():
        answers[status] = {
            "description": _told(codes),
            "headers": of_answer(route, status),
            "content": _refusal(codes_system, codes),
        }
    if route.name is Name.TOKEN:
        for status in sorted({*STATUSES.values(), 429}):
            answers[status] = _oauth(route, status, answers.get(status))
    return answers


def _oauth(route: Route, status: int, other: Node | None) -> Node:
    """An answer in the words of OAuth, beside the one of FHIR that has the same status."""
    errors = [error for error, usual in STATUSES.items() if usual == status]
    if status == 429:
        errors = [OAuthError.TEMPORARILY_UNAVAILABLE]
    words = {"properties": {"error": {"enum": [error.value for error in errors]}}}
    told = ", ".join(f"`{error}`" for error in errors)
    content: dict[str, object] = {JSON: {"schema": {"allOf": [schema_ref("OAuthError"), words]}}}
    if other is not None:
        told = f"{told}\n\n{other['description']}"
        assert isinstance(other["content"], dict), "every refusal has content"
        content |= other["content"]
    return {
        "description": told,
        "headers": {**of_answer(route, status), "Pragma": ref("Pragma")},
        "content": content,
    }


def _successes(route: Route) -> Iterator[tuple[int, Node]]:
    told = _SUMMARIES.get(route.name, "Done")
    if route.writes:
        yield 200, _written(route)
        notice = {FHIR_JSON: {"schema": schema_ref("Notice"), "examples": EXAMPLES["Notice"]}}
        taken = "PKB took it; what it did cannot be seen yet. Follow the Task."
        yield 202, {"description": taken, "headers": of_answer(route, 202), "content": notice}
    elif route.name is Name.OPENAPI:
        content = {JSON: {"schema": {"type": "object", "required": ["openapi", "paths"]}}}
        yield 200, {"description": told, "headers": of_answer(route, 200), "content": content}
    elif route.name is Name.DOCS:
        policy = {"Content-Security-Policy": must("Content-Security-Policy")}
        content = {HTML: {"schema": {"type": "string"}}}
        yield 200, {"description": told, "headers": {**of_answer(route, 200), **policy}, "content": content}
    else:
        media, name = _SUCCESS[route.name]
        named = dict(of_answer(route, 200))
        if route.name is Name.READ:
            named["ETag"] = must("ETag")
        if route.name is Name.TOKEN:
            named["Pragma"] = must("Pragma")
        body: dict[str, object] = {"schema": schema_ref(name)}
        if name in EXAMPLES:
            body["examples"] = EXAMPLES[name]
        yield 200, {"description": told, "headers": named, "content": {media: body}}


def _written(route: Route) -> Node:
    told = (
        "Applied and seen in PKB. The appointment; nothing with `Prefer: return=minimal` or a token without `r`; "
        "an OperationOutcome with `return=OperationOutcome`."
    )
    either = {"oneOf": [schema_ref("Appointment"), schema_ref("Notice")]}
    content = {FHIR_JSON: {"schema": either, "examples": EXAMPLES["Appointment"]}}
    return {"description": told, "headers": {**of_answer(route, 200), "ETag": ref("ETag")}, "content": content}


def _refusal(codes_system: str, codes: Sequence[Code]) -> dict[str, object]:
    return {FHIR_JSON: {"schema": error_with(codes), "example": refusal(codes_system, codes[0])}}


def _told(codes: Sequence[Code]) -> str:
    return "\n\n".join(f"`{code.value}` {CATALOGUE[code].advice}" for code in codes)
