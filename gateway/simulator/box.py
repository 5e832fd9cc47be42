"""A Customer FHIR box (R4) in Aidbox's manners: versions, conflicts and errors, and no business rules at all.

Aidbox answers a stale `If-Match` with 409 on PUT and 412 on DELETE, and PUT to an unknown id creates.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from aiohttp import web

from gateway.simulator import answers
from gateway.simulator.customers import Customer
from gateway.simulator.exact_json import BadJson, read
from gateway.simulator.faults import Answer, hang_up, play
from gateway.simulator.search import BadSearch, search
from gateway.simulator.store import Resource, Store, instant
from gateway.simulator.tokens import TokenServer
from gateway.simulator.world import World, all_of, owner_of
from gateway.simulator.writes import opened

TYPES: Final = frozenset({"Appointment", "Patient", "Organization", "Practitioner", "Location"})
WRITING: Final = frozenset({"PUT", "POST", "PATCH", "DELETE"})
MERGE_PATCH: Final = frozenset({"application/merge-patch+json", "application/json", answers.FHIR_JSON})


@dataclass(frozen=True, slots=True)
class Call:
    """A request to a box, read to its end."""

    method: str
    kind: str
    id: str | None
    body: bytes
    resource: Any  # the body as JSON; None when there is none, or none that can be read
    if_match: str | None
    base: str  # path of the box


class BoxDoor:
    """The HTTP side of the boxes."""

    def __init__(
        self,
        world: Callable[[], World],
        tokens: TokenServer,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        self._world = world
        self._tokens = tokens
        self._clock = clock
        self._new_id = new_id

    async def handle(self, request: web.Request) -> web.Response:
        """Every request below `/boxes/{box}/fhir`."""
        body = await request.read()
        world, name = self._world(), request.match_info["box"]
        box = world.boxes.get(name)
        if box is None:
            return answers.refused(404, "No such box")
        call = _read_call(request, body)
        writes = call.method in WRITING and call.id != "_search"
        customers, owner = _touched(box, name, call)
        record = None
        if writes:
            customer = name if owner is None else owner.id
            record = opened(request, body, len(world.writes) + 1, self._clock(), customer)
            world.writes.append(record)
        answer = self._stopped(request, name)
        if answer is None:
            fault = world.faults.take("box", write=writes, customers=customers)
            answer = await play(fault, request, lambda: self._answer(box, call, request))
        if record is not None:
            record.ended(answer)
        return hang_up(request) if answer.response is None else answer.response

    def _stopped(self, request: web.Request, box: str) -> Answer | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        client = self._tokens.client_of(token) if scheme.lower() == "bearer" else None
        if client is None:
            headers = {"WWW-Authenticate": 'Bearer realm="pkb"'}
            return Answer(answers.refused(401, "No valid access token", headers))
        if box not in client.boxes:
            return Answer(answers.refused(403, "Access to this box is denied"))
        return None

    def _answer(self, box: Store, call: Call, request: web.Request) -> Answer:
        if call.kind not in TYPES:
            return Answer(answers.refused(404, "No such resource type"))
        match call.method, call.id:
            case "GET", str(id_):
                return Answer(_read(box, call.kind, id_))
            case ("GET", None) | ("POST", "_search"):
                return Answer(_search(box, call, request))
            case "POST", None:
                return self._create(box, replace(call, id=self._new_id()))
            case "PUT", str(id_):
                return self._update(box, call, id_)
            case "PATCH", str(id_):
                return self._patch(box, call, id_, request.content_type)
            case "DELETE", str(id_):
                return _delete(box, call, id_)
            case _:
                return Answer(answers.refused(405, f"{call.method} is not supported here"))

    def _create(self, box: Store, call: Call) -> Answer:
        refusal = _unusable(call)
        if refusal is not None:
            return Answer(refusal)
        assert call.id is not None
        at = self._clock()
        copy = box.put(call.kind, call.id, _with_created({**call.resource, "id": call.id}, at), at)
        location = f"{call.base}/{call.kind}/{copy.id}/_history/{copy.version}"
        return Answer(answers.resource(copy, 201, {"Location": location}), applied=True)

    def _update(self, box: Store, call: Call, id_: str) -> Answer:
        refusal = _unusable(call)
        if refusal is not None:
            return Answer(refusal)
        if call.resource.get("id", id_) != id_:
            return Answer(answers.refused(422, "id: differs from the id in the address"))
        now = box.get(call.kind, id_)
        if now is None:
            return self._create(box, call)
        if call.if_match not in {None, "*", now.version}:
            return Answer(answers.refused(409, "Version Id mismatch"))
        copy = box.put(call.kind, id_, {**call.resource, "id": id_}, self._clock())
        return Answer(answers.resource(copy), applied=True)

    def _patch(self, box: Store, call: Call, id_: str, content_type: str) -> Answer:
        now = box.get(call.kind, id_)
        if now is None:
            return Answer(_read(box, call.kind, id_))
        if content_type not in MERGE_PATCH:
            return Answer(answers.refused(415, "Only merge patches are supported"))
        if call.if_match not in {None, "*", now.version}:
            return Answer(answers.refused(409, "Version Id mismatch"))
        if not isinstance(call.resource, dict):
            return Answer(answers.refused(422, "A merge patch must be an object"))
        merged = {**_merged(now.resource, call.resource), "id": id_, "resourceType": call.kind}
        return Answer(answers.resource(box.put(call.kind, id_, merged, self._clock())), applied=True)


def _read_call(request: web.Request, body: bytes) -> Call:
    resource = None
    if body and request.match_info.get("id") != "_search":
        try:
            resource = read(body)
        except BadJson:
            resource = None
    return Call(
        method="GET" if request.method == "HEAD" else request.method,
        kind=request.match_info["kind"],
        id=request.match_info.get("id"),
        body=body,
        resource=resource,
        if_match=_tag(request.headers.get("If-Match")),
        base=f"/boxes/{request.match_info['box']}/fhir",
    )


def _tag(header: str | None) -> str | None:
    """The version in `W/"v"`, `"v"` or bare `v`; Aidbox takes all three."""
    return None if header is None else header.strip().removeprefix("W/").strip('"')


def _touched(box: Store, name: str, call: Call) -> tuple[frozenset[str], Customer | None]:
    """Whose data it concerns. A search concerns everybody's in the box."""
    if call.id in {None, "_search"} and call.method != "PUT" and call.resource is None:
        return all_of(name), None
    now = box.get(call.kind, call.id) if call.id is not None else None
    owner = owner_of(box, call.resource if now is None else now.resource)
    return frozenset() if owner is None else owner.names, owner


def _unusable(call: Call) -> web.Response | None:
    """Simple syntax only, as PKB says: anything that is JSON and says the right type is taken."""
    if call.resource is None:
        try:
            read(call.body)
        except BadJson as error:
            return answers.refused(400, f"Malformed JSON: {error}")
    if not isinstance(call.resource, dict):
        return answers.refused(422, "A resource must be an object")
    if call.resource.get("resourceType") != call.kind:
        return answers.refused(422, f"resourceType: must be {call.kind}")
    return None


def _with_created(resource: Resource, at: datetime) -> Resource:
    """Aidbox notes the time of creation in an extension of its own."""
    meta = resource.get("meta", {})
    known = meta.get("extension", []) if isinstance(meta, dict) else None
    if not isinstance(known, list) or any(e.get("url") == "ex:createdAt" for e in known if isinstance(e, dict)):
        return resource
    created = {"url": "ex:createdAt", "valueInstant": instant(at)}
    return {**resource, "meta": {**meta, "extension": [created, *known]}}


def _read(box: Store, kind: str, id_: str) -> web.Response:
    copy = box.get(kind, id_)
    if copy is not None:
        return answers.resource(copy)
    if box.was_deleted(kind, id_):
        return answers.refused(410, f"Resource {kind}/{id_} was deleted")
    return answers.refused(404, f"Resource {kind}/{id_} not found")


def _search(box: Store, call: Call, request: web.Request) -> web.Response:
    wanted = list(request.query.items())
    if call.id == "_search":
        wanted += parse_qsl(call.body.decode("utf-8", "replace"), keep_blank_values=True)
    try:
        bundle = search(box, call.kind, wanted, f"{call.base}/{call.kind}?{request.query_string}")
    except BadSearch as error:
        return answers.refused(422, str(error))
    return web.Response(body=bundle, content_type=answers.FHIR_JSON)


def _delete(box: Store, call: Call, id_: str) -> Answer:
    now = box.get(call.kind, id_)
    if now is None:
        return Answer(web.Response(status=204))
    if call.if_match not in {None, "*", now.version}:
        return Answer(answers.refused(412, "Version Id mismatch"))
    box.remove(call.kind, id_)
    return Answer(answers.resource(now), applied=True)


def _merged(old: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged
