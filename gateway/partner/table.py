"""The table of routes: what is not in it does not exist. Answers, documents and the CapabilityStatement read it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gateway.domain.grant import Operation
from gateway.partner.headers import Media

CUSTOMER_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
RESERVED_IDS: Final = frozenset({"oauth2", "docs"})
RESOURCE_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")


class Name(StrEnum):
    """The routes by name, as logs and metrics call them."""

    PING = "ping"
    JWKS = "jwks"
    TOKEN = "token"  # noqa: S105 - the name of a route
    METADATA = "metadata"
    SMART_CONFIGURATION = "smart-configuration"
    READ = "read"
    ACTIONS = "actions"
    CANCEL = "cancel"
    CHANGE = "change"
    TASK = "task"
    SEARCH = "search"
    UPDATE = "update"
    PATCH = "patch"
    OPENAPI = "openapi"
    DOCS = "docs"


@dataclass(frozen=True, slots=True)
class Route:
    """One route, and what it takes to pass the gate; `letter` None: open to everybody."""

    name: Name
    letter: str | None = None
    operations: frozenset[Operation] = frozenset()
    media: Media | None = None
    """What its body is, where it is not the FHIR of every write."""
    queries: bool = False
    """Whether it takes query parameters."""
    operation: Operation | None = field(init=False)
    """The one operation it is about."""

    def __post_init__(self) -> None:
        only = next(iter(self.operations)) if len(self.operations) == 1 else None
        object.__setattr__(self, "operation", only)

    @property
    def writes(self) -> bool:
        """Whether it may change an appointment."""
        return self.letter == "u"


@dataclass(frozen=True, slots=True)
class Match:
    """A path that exists: its routes by method, and the ids in it."""

    routes: Mapping[str, Route]
    customer: str | None = None
    resource: str | None = None

    @property
    def allow(self) -> str:
        """List the methods, for `Allow`."""
        return ", ".join(sorted(self.routes))


_READ = frozenset({Operation.READ})
_EITHER = frozenset({Operation.CHANGE, Operation.CANCEL})
"""What a PUT or a PATCH may come to; which of them is known once PKB was read."""

_ROOT: Mapping[tuple[str, ...], Mapping[str, Route]] = {
    ("_ping",): {"GET": Route(Name.PING)},
    (".well-known", "jwks.json"): {"GET": Route(Name.JWKS)},
    ("oauth2", "token"): {"POST": Route(Name.TOKEN)},
    ("openapi.json",): {"GET": Route(Name.OPENAPI)},
    ("docs",): {"GET": Route(Name.DOCS)},
}
_CUSTOMER: Mapping[tuple[str, ...], Mapping[str, Route]] = {
    ("metadata",): {"GET": Route(Name.METADATA)},
    (".well-known", "smart-configuration"): {"GET": Route(Name.SMART_CONFIGURATION)},
    ("Appointment",): {"GET": Route(Name.SEARCH, "s", _READ, queries=True)},
    # No resource id has an underscore, so that this path is nobody's.
    ("Appointment", "_search"): {"POST": Route(Name.SEARCH, "s", _READ, Media.FORM)},
}
_RESOURCE: Mapping[tuple[str, ...], Mapping[str, Route]] = {
    ("Appointment",): {
        "GET": Route(Name.READ, "r", _READ),
        "PUT": Route(Name.UPDATE, "u", _EITHER),
        "PATCH": Route(Name.PATCH, "u", _EITHER, Media.JSON_PATCH),
    },
    ("Appointment", "$actions"): {"GET": Route(Name.ACTIONS, "r", _READ)},
    ("Appointment", "$cancel"): {"POST": Route(Name.CANCEL, "u", frozenset({Operation.CANCEL}))},
    ("Appointment", "$change"): {"POST": Route(Name.CHANGE, "u", frozenset({Operation.CHANGE}))},
    ("Task",): {"GET": Route(Name.TASK, "r", frozenset(Operation))},
}


def match(segments: tuple[str, ...]) -> Match | None:
    """Find a path in the table; None: there is no such path."""
    if segments in _ROOT:
        return Match(_ROOT[segments])
    if len(segments) < 3 or segments[1] != "fhir" or not _is_customer(segments[0]):
        return None
    customer, path = segments[0], segments[2:]
    if path in _CUSTOMER:
        return Match(_CUSTOMER[path], customer)
    if len(path) in {2, 3} and RESOURCE_ID.fullmatch(path[1]):
        routes = _RESOURCE.get((path[0], *path[2:]))
        return Match(routes, customer, path[1]) if routes is not None else None
    return None


def paths() -> Iterator[tuple[str, Mapping[str, Route]]]:
    """List every path there is, as a template, with its routes by method."""
    for path, routes in _ROOT.items():
        yield "/" + "/".join(path), routes
    for path, routes in _CUSTOMER.items():
        yield "/".join(("/{customer}/fhir", *path)), routes
    for (kind, *rest), routes in _RESOURCE.items():
        yield "/".join(("/{customer}/fhir", kind, "{id}", *rest)), routes


def _is_customer(segment: str) -> bool:
    return CUSTOMER_ID.fullmatch(segment) is not None and segment not in RESERVED_IDS
