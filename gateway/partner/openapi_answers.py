"""What each route can answer: the steps of a request, the codes of each, and which routes take it.

The OpenAPI document is made from this table; tests hold every answer against it, and every entry against an answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.domain.codes import CATALOGUE, Code
from gateway.domain.grant import Operation
from gateway.partner.table import Name, Route


@dataclass(frozen=True, slots=True)
class Step:
    """Codes that a step can answer with, on the routes that take it."""

    codes: tuple[Code, ...]
    on: Callable[[Route], bool]


def has_body(route: Route) -> bool:
    """Whether the route reads a body; the form of a token request has answers of its own."""
    return route.writes or (route.media is not None and route.name is not Name.TOKEN)


def whole_resource(route: Route) -> bool:
    """Whether the intent of a write shows only in comparison with PKB's copy (PUT and PATCH)."""
    return route.writes and len(route.operations) > 1


def _always(_: Route) -> bool:
    return True


def _writes(route: Route) -> bool:
    return route.writes


def _fhir(route: Route) -> bool:
    return route.name is not Name.TOKEN


def _guarded(route: Route) -> bool:
    return route.letter is not None


def _of_customer(route: Route) -> bool:
    return _guarded(route) or route.name in {Name.METADATA, Name.SMART_CONFIGURATION}


def _reads_pkb(route: Route) -> bool:
    return _guarded(route) and route.name is not Name.TASK


def _cancels(route: Route) -> bool:
    return route.writes and Operation.CANCEL in route.operations


def _changes(route: Route) -> bool:
    return route.writes and Operation.CHANGE in route.operations


STEPS: Final = (
    Step((Code.MALFORMED_REQUEST,), _always),
    Step((Code.NOT_FOUND,), _of_customer),
    Step((Code.DRAINING, Code.OVERLOADED), _fhir),
    Step((Code.TOKEN_MISSING, Code.TOKEN_EXPIRED, Code.TOKEN_INVALID), _guarded),
    Step((Code.PARTNER_SUSPENDED, Code.RATE_LIMITED, Code.SCOPE_INSUFFICIENT), _guarded),
    Step((Code.NO_GRANT, Code.GRANT_NOT_YET_VALID, Code.GRANT_EXPIRED), _guarded),
    # No grant is without `read`.
    Step((Code.OPERATION_NOT_GRANTED,), _writes),
    Step((Code.NOT_ACCEPTABLE,), lambda route: _guarded(route) or route.name is Name.METADATA),
    # Nothing may come packed, not even the nothing that comes with a GET.
    Step((Code.UNSUPPORTED_MEDIA_TYPE,), _fhir),
    Step((Code.REQUEST_TIMEOUT,), has_body),
    Step((Code.BODY_TOO_LARGE,), _guarded),
    Step((Code.INVALID_PARAMETER,), _fhir),
    Step((Code.VERSION_REQUIRED,), whole_resource),
    Step((Code.MALFORMED_JSON,), _writes),
    Step((Code.MISSING_PARAMETER,), lambda route: route.writes or route.name is Name.SEARCH),
    Step((Code.REQUEST_IN_PROGRESS, Code.IDEMPOTENCY_KEY_REUSED), _writes),
    Step((Code.UPSTREAM_REFUSED, Code.UPSTREAM_INVALID), _reads_pkb),
    Step((Code.UPSTREAM_UNAVAILABLE, Code.UPSTREAM_TIMEOUT), _reads_pkb),
    Step((Code.APPOINTMENT_BUSY, Code.VERSION_CONFLICT), _writes),
    Step((Code.MIXED_INTENT,), whole_resource),
    Step((Code.ALREADY_CANCELLED, Code.NOT_CHANGEABLE, Code.IN_THE_PAST, Code.TOO_LATE), _writes),
    Step((Code.NOT_SUPPORTED_ON_ROUTE,), _writes),
    Step((Code.FIELD_NOT_CHANGEABLE, Code.NOTHING_TO_CHANGE), _changes),
    Step((Code.REASON_NOT_ALLOWED,), _cancels),
    Step((Code.END_BEFORE_START, Code.NEW_TIME_IN_THE_PAST, Code.OUTSIDE_CHANGE_WINDOW), _changes),
    Step((Code.AUDIT_UNAVAILABLE,), _guarded),
    Step((Code.STATE_UNAVAILABLE,), lambda route: route.writes or route.name is Name.TASK),
    Step((Code.OUTCOME_UNKNOWN,), _writes),
    Step((Code.INTERNAL,), _always),
)


def codes_of(route: Route) -> tuple[Code, ...]:
    """Every code a route can answer with, in the order of the catalogue."""
    able = {code for step in STEPS if step.on(route) for code in step.codes}
    return tuple(code for code in CATALOGUE if code in able)


def by_status(route: Route) -> dict[int, tuple[Code, ...]]:
    """The same, by HTTP status."""
    codes = codes_of(route)
    statuses = sorted({CATALOGUE[code].status for code in codes})
    return {status: tuple(code for code in codes if CATALOGUE[code].status == status) for status in statuses}
