"""Answers in Aidbox's manners: an OperationOutcome with an id, and fatal issues."""

import json
from typing import Any, Final

from aiohttp import web

from gateway.simulator.store import Copy

FHIR_JSON: Final = "application/fhir+json"


def outcome(id_: str, code: str, diagnostics: str) -> dict[str, Any]:
    """An OperationOutcome as Aidbox's documentation shows it."""
    return {
        "resourceType": "OperationOutcome",
        "id": id_,
        "text": {"status": "generated", "div": diagnostics},
        "issue": [{"severity": "fatal", "code": code, "diagnostics": diagnostics}],
    }


_REFUSALS: Final = {
    400: ("bad-request", "structure"),
    401: ("unauthorized", "login"),
    403: ("forbidden", "forbidden"),
    404: ("not-found", "not-found"),
    405: ("method-not-allowed", "not-supported"),
    409: ("conflict", "conflict"),
    410: ("deleted", "deleted"),
    412: ("precondition-failed", "conflict"),
    415: ("unsupported-media-type", "not-supported"),
    422: ("invalid", "invalid"),
}


def refused(status: int, diagnostics: str, headers: dict[str, str] | None = None) -> web.Response:
    """An error."""
    body = json.dumps(outcome(*_REFUSALS[status], diagnostics)).encode()
    return web.Response(status=status, body=body, content_type=FHIR_JSON, headers=headers)


def resource(copy: Copy, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A resource with its version as ETag."""
    named = {"ETag": f'W/"{copy.version}"', "Last-Modified": copy.modified, **(headers or {})}
    return web.Response(status=status, body=copy.body, content_type=FHIR_JSON, headers=named)
