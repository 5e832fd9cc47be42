"""The headers that the OpenAPI document names: of every answer, and of those that have more to say."""

from collections.abc import Mapping
from typing import Final

from gateway.partner.headers import Media
from gateway.partner.table import Name, Route

Header = Mapping[str, object]
_UUID: Final = {"type": "string", "pattern": "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"}
_SECONDS: Final = {"type": "string", "pattern": "^[1-9][0-9]*$"}

_RATES: Final = ("RateLimit-Policy", "RateLimit")
ALWAYS: Final = ("X-Request-Id", "X-Correlation-Id", "Cache-Control", "X-Content-Type-Options")


def headers() -> Mapping[str, Header]:
    """Every named header of an answer."""
    return {
        "X-Request-Id": _header("The request's own UUID, or a new one.", _UUID, required=True),
        "X-Correlation-Id": _header("As the request had it, where it was a UUID.", _UUID),
        "Cache-Control": _header("Nothing may be kept.", {"const": "no-store"}, required=True),
        "X-Content-Type-Options": _header("No guessing.", {"const": "nosniff"}, required=True),
        "RateLimit-Policy": _header(
            "The partner's rate and, where there is one, the grant's.", _text(r'^"partner";q=\d+;w=\d+')
        ),
        "RateLimit": _header("What is left of each rate, and when it is full again.", _text(r'^"partner";r=\d+;t=\d+')),
        "Retry-After": _header("Seconds.", _SECONDS),
        "ETag": _header("The version, for If-Match.", _text(r'^W/"[\x21\x23-\x7e]+"$')),
        "Content-Location": _header("The Task of a write.", _text(r"^https?://[^ ]+/fhir/Task/[A-Za-z0-9.-]+$")),
        "Idempotent-Replayed": _header("The answer to the first of the same requests.", {"const": "true"}),
        "WWW-Authenticate": _header("What is missing.", _text(r'^(Bearer|Basic) realm="[^"]+"')),
        "Accept-Patch": _header("What a PATCH may be.", {"const": ", ".join(Media.JSON_PATCH.value)}),
        "Allow": _header("The methods of the path.", _text("^[A-Z]+(, [A-Z]+)*$")),
        "Content-Security-Policy": _header(
            "Nothing but the page's own style and script.", _text("^default-src 'none'")
        ),
        "Pragma": _header("Nothing may be kept.", {"const": "no-cache"}),
    }


def of_answer(route: Route, status: int) -> Mapping[str, object]:
    """Name the headers an answer may carry; those that it always carries are marked as required."""
    named: dict[str, object] = {name: ref(name) for name in ALWAYS}
    guarded, success = route.letter is not None, status < 300
    if guarded:
        named |= {name: must(name) if success or status == 429 else ref(name) for name in _RATES}
    if status in {429, 503}:
        named["Retry-After"] = must("Retry-After")
    elif (route.writes and status == 409) or (route.name is Name.TASK and success):
        named["Retry-After"] = ref("Retry-After")
    if status == 401:
        named["WWW-Authenticate"] = must("WWW-Authenticate")
    if status == 415 and route.media is Media.JSON_PATCH:
        named["Accept-Patch"] = must("Accept-Patch")
    if status == 202:
        named["Content-Location"] = must("Content-Location")
    elif route.writes and status in {409, 504}:
        named["Content-Location"] = ref("Content-Location")
    if route.writes:
        named["Idempotent-Replayed"] = ref("Idempotent-Replayed")
    return named


def ref(name: str) -> Mapping[str, object]:
    """Point at a header of the document."""
    return {"$ref": f"#/components/headers/{name}"}


def must(name: str) -> Header:
    """A header that is always there."""
    return {**headers()[name], "required": True}


def _header(told: str, schema: Mapping[str, object], *, required: bool = False) -> Header:
    return {"description": told, "required": required, "schema": schema}


def _text(pattern: str) -> Mapping[str, object]:
    return {"type": "string", "pattern": pattern}
