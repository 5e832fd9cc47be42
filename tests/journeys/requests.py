"""A good request for every operation of the OpenAPI document, and what may be done to it."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from gateway.partner.token_endpoint import ASSERTION_TYPE, CLIENT_CREDENTIALS
from tests.journeys.hospital import booked
from tests.journeys.partner import REASONS, Client, Reply, parameters
from tests.journeys.processes import Json
from tests.journeys.test_tokens_journey import assertion

WRITES = ("cancel", "change", "update", "patch")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True)
class Wish:
    """What a write is to come to, however it is said."""

    cancel: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)

    def parameters(self) -> Json:
        kinds = {"start": "valueInstant", "end": "valueInstant", "managementUrl": "valueUrl"}
        given: list[Json] = [
            {"name": name, kinds.get(name, "valueString"): value} for name, value in self.values.items()
        ]
        if self.cancel:
            given.insert(0, {"name": "reason", "valueCodeableConcept": self.concept()})
        return parameters(*given)

    def concept(self) -> Json:
        return {"coding": [{"system": REASONS, "code": self.cancel}]}

    def elements(self) -> Json:
        cancelled = {"status": "cancelled", "cancelationReason": self.concept()} if self.cancel else {}
        return {**cancelled, **self.values}


@dataclass(frozen=True)
class Request:
    """One request, ready to be sent."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    data: bytes | None = None
    guarded: bool = True

    def but(self, *, headers: Mapping[str, str] | None = None, **other: Any) -> "Request":
        return replace(self, headers={**self.headers, **(headers or {})}, **other)

    def without(self, header: str) -> "Request":
        return replace(self, headers={name: value for name, value in self.headers.items() if name != header})

    async def send(self, client: Client, **how: Any) -> Reply:
        token = {} if self.guarded else {"token": ""}
        return await client.ask(self.method, self.path, **{"headers": self.headers, "data": self.data, **token, **how})


@dataclass(frozen=True)
class Subject:
    """PKB's copy that a request is about."""

    customer: str
    copy: Json

    @property
    def id(self) -> str:
        return str(self.copy["id"])

    @property
    def start(self) -> datetime:
        return datetime.fromisoformat(self.copy["start"])


async def subject(client: Client, scenario: str = "changeable", customer: str = "airedale") -> Subject:
    if customer == "bradford":
        id_ = (await booked(client)).id
        return Subject(customer, (await client.read(id_, customer=customer)).body)
    return Subject(customer, await client.copy(await client.fresh(scenario)))


def write(operation: str, about: Subject, wish: Wish) -> Request:
    """Say a wish in the way of an operation."""
    path = f"/{about.customer}/fhir/Appointment/{about.id}"
    fhir = {"Content-Type": "application/fhir+json"}
    if operation in {"cancel", "change"}:
        return Request("POST", f"{path}/${operation}", fhir, json.dumps(wish.parameters()).encode())
    match = {"If-Match": f'W/"{about.copy["meta"]["versionId"]}"'}
    if operation == "update":
        return Request("PUT", path, {**fhir, **match}, json.dumps({**about.copy, **wish.elements()}).encode())
    steps = [{"op": "add", "path": f"/{name}", "value": value} for name, value in wish.elements().items()]
    patch = {"Content-Type": "application/json-patch+json", **match}
    return Request("PATCH", path, patch, json.dumps(steps).encode())


def usual(operation: str) -> Wish:
    """A wish that is granted."""
    if operation == "cancel":
        return Wish("pat")
    return Wish(values={"comment": f"Please bring {uuid.uuid4().hex}."})


def token_form(client: Client, proof: str | None = None, **other: str | None) -> Request:
    fields = {
        "grant_type": CLIENT_CREDENTIALS,
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": proof or assertion(client, "swiftbook"),
        **other,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    return Request("POST", "/oauth2/token", FORM, urlencode(given).encode(), guarded=False)


async def good(client: Client, operation: str, path: str, method: str, customer: str = "airedale") -> Request:
    """A request that an operation carries out; one that writes is about an appointment of its own."""
    if operation in WRITES:
        return write(operation, await subject(client, customer=customer), usual(operation))
    if operation == "token":
        return token_form(client)
    demo = client.demo("changeable")
    sought = urlencode({"identifier": demo["identifier"]}, quote_via=quote)
    guarded = "{id}" in path
    path = path.replace("{customer}", customer).replace("{id}", demo["id"])
    match operation:
        case "search":
            return Request(method, f"{path}?{sought}")
        case "search-form":
            return Request(method, path, FORM, sought.encode())
        case "task":
            await client.fault("drop-before", on="write", count=1)
            unknown = await client.cancel(await client.fresh())
            return Request(method, f"/{customer}/fhir/Task/{unknown.task}")
        case _:
            return Request(method, path, guarded=guarded)
