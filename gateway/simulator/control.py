"""The control API: orders misbehaviour, shows what reached PKB, and changes PKB's copy behind its back."""

import json
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.simulator.aggregated_resources import owned
from gateway.simulator.customers import EVERY_CUSTOMER, Customer
from gateway.simulator.exact_json import BadJson, read
from gateway.simulator.faults import Fault
from gateway.simulator.review import Decision, Held
from gateway.simulator.store import Copy, Resource
from gateway.simulator.world import World, hand_over

_URL: Final = ":/?#[]@!$&'()*+,;=%"
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """An order that cannot be carried out: what is wrong, and where."""

    def __init__(self, status: int, *problems: tuple[str, str]) -> None:
        super().__init__("; ".join(f"{where}: {what}" for where, what in problems))
        self.status = status
        self.problems = problems


class _Decision(BaseModel):
    """The body of `POST /hl7-review/{n}`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    decision: Decision


class Control:
    """The handlers.

    `world` gives the present world, `reset` puts a fresh one in its place, `decide` settles a held message.
    """

    def __init__(
        self,
        world: Callable[[], World],
        reset: Callable[[], None],
        clock: Callable[[], datetime],
        decide: Callable[[int, Decision], tuple[Held, bool]],
    ) -> None:
        self._world = world
        self._reset = reset
        self._clock = clock
        self._decide = decide

    def application(self) -> web.Application:
        """To be mounted where the control API shall be."""
        application = web.Application(middlewares=[_errors_as_json])
        application.add_routes(
            [
                web.post("/faults", self._add_fault),
                web.get("/faults", self._show_faults),
                web.delete("/faults", self._clear_faults),
                web.get("/writes", self._show_writes),
                web.get("/appointments/{customer}/{id}", self._show_appointment),
                web.put("/appointments/{customer}/{id}", self._store_appointment),
                web.put("/patients/{customer}/{id}", self._store_patient),
                web.post("/reset", self._start_over),
                web.get("/hl7-review", self._show_review),
                web.post("/hl7-review/{n}", self._decide_review),
            ]
        )
        return application

    async def _add_fault(self, request: web.Request) -> web.Response:
        try:
            fault = Fault.model_validate_json(await request.read())
        except ValidationError as error:
            raise Refused(400, *_problems(error)) from error
        self._world().faults.add(fault)
        return web.json_response(fault.shown())

    async def _show_faults(self, _request: web.Request) -> web.Response:
        return web.json_response(self._world().faults.listed())

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        """No more faults; what a lag still hides from readers is shown."""
        self._world().faults.clear()
        self._world().aggregated.reveal()
        return web.json_response([])

    async def _show_writes(self, _request: web.Request) -> web.Response:
        return web.json_response([write.shown() for write in self._world().writes])

    async def _show_appointment(self, request: web.Request) -> web.Response:
        world, customer, id_ = self._world(), _named(request), request.match_info["id"]
        copy = world.copy(customer, id_)
        if copy is None:
            raise Refused(404, ("id", "PKB has no such appointment"))
        url = world.aggregated.management_urls.get(id_) if customer.route == "hl7" else None
        return _shown(copy, {} if url is None else {"X-Management-Url": quote(url, safe=_URL)})

    async def _store_appointment(self, request: web.Request) -> web.Response:
        world, customer, at = self._world(), _named(request), self._clock()
        id_, resource = request.match_info["id"], _resource(await request.read())
        resource.setdefault("id", id_)
        for name in request.query:
            if name != "owner":
                raise Refused(400, (name, "unknown parameter; there is only owner"))
        owner = _customer("owner", request.query["owner"], 400) if "owner" in request.query else None
        if customer.route == "hl7":
            resource = resource if owner is None else owned(resource, owner)
            return _shown(world.aggregated.put("Appointment", id_, resource, at))
        box = world.boxes[customer.box]
        resource = resource if owner is None else hand_over(box, id_, resource, owner, at)
        return _shown(box.put("Appointment", id_, resource, at))

    async def _store_patient(self, request: web.Request) -> web.Response:
        world, customer, id_ = self._world(), _named(request), request.match_info["id"]
        held = world.aggregated if customer.route == "hl7" else world.boxes[customer.box]
        return _shown(held.put("Patient", id_, _resource(await request.read()), self._clock()))

    async def _start_over(self, _request: web.Request) -> web.Response:
        self._reset()
        return web.json_response({})

    async def _show_review(self, _request: web.Request) -> web.Response:
        return web.json_response([held.shown() for held in self._world().review.waiting.values()])

    async def _decide_review(self, request: web.Request) -> web.Response:
        number = request.match_info["n"]
        n = int(number) if _NUMBER.fullmatch(number) else 0
        if n not in self._world().review.waiting:
            raise Refused(404, ("n", "the review queue has no such message"))
        try:
            decision = _Decision.model_validate_json(await request.read()).decision
        except ValidationError as error:
            raise Refused(400, *_problems(error)) from error
        held, applied = self._decide(n, decision)
        return web.json_response({**held.shown(), "decision": decision, "applied": applied})


def _named(request: web.Request) -> Customer:
    return _customer("customer", request.match_info["customer"], 404)


def _customer(where: str, name: str, status: int) -> Customer:
    customer = EVERY_CUSTOMER.get(name)
    if customer is None:
        raise Refused(status, (where, f"must be one of {', '.join(EVERY_CUSTOMER)}"))
    return customer


def _resource(body: bytes) -> Resource:
    try:
        resource = read(body)
    except BadJson as error:
        raise Refused(400, ("body", str(error))) from error
    if not isinstance(resource, dict):
        raise Refused(400, ("body", "must be a JSON object"))
    return resource


def _shown(copy: Copy, more: dict[str, str] | None = None) -> web.Response:
    headers = {"ETag": f'W/"{copy.version}"', **(more or {})}
    return web.Response(body=copy.body, content_type="application/json", headers=headers)


def _problems(error: ValidationError) -> list[tuple[str, str]]:
    return [
        (".".join(str(step) for step in problem["loc"]) or "body", problem["msg"].removeprefix("Value error, "))
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    ]


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as refused:
        problems: list[dict[str, Any]] = [{"where": where, "what": what} for where, what in refused.problems]
        return _error(refused.status, str(refused), problems)
    except web.HTTPException as raised:
        headers = {"Allow": raised.headers["Allow"]} if "Allow" in raised.headers else {}
        return _error(raised.status, f"{request.method} {request.path}: {raised.reason}", [], headers)


def _error(
    status: int, error: str, problems: list[dict[str, Any]], headers: dict[str, str] | None = None
) -> web.Response:
    body = json.dumps({"error": error, "problems": problems}).encode()
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
