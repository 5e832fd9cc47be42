"""The control API: orders misbehaviour, shows what reached PKB, and changes PKB's copy behind its back."""

import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from gateway.simulator.customers import CUSTOMERS, Customer
from gateway.simulator.exact_json import BadJson, read
from gateway.simulator.faults import Fault
from gateway.simulator.store import Copy, Resource, Store
from gateway.simulator.world import World, hand_over

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """An order that cannot be carried out: what is wrong, and where."""

    def __init__(self, status: int, *problems: tuple[str, str]) -> None:
        super().__init__("; ".join(f"{where}: {what}" for where, what in problems))
        self.status = status
        self.problems = problems


class Control:
    """The handlers. `world` gives the present world, `reset` puts a fresh one in its place."""

    def __init__(self, world: Callable[[], World], reset: Callable[[], None], clock: Callable[[], datetime]) -> None:
        self._world = world
        self._reset = reset
        self._clock = clock

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
        return web.json_response(fault.model_dump())

    async def _show_faults(self, _request: web.Request) -> web.Response:
        return web.json_response(self._world().faults.listed())

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self._world().faults.clear()
        return web.json_response([])

    async def _show_writes(self, _request: web.Request) -> web.Response:
        return web.json_response([write.shown() for write in self._world().writes])

    async def _show_appointment(self, request: web.Request) -> web.Response:
        box, _ = self._box(request)
        copy = box.get("Appointment", request.match_info["id"])
        if copy is None:
            raise Refused(404, ("id", "PKB has no such appointment"))
        return _shown(copy)

    async def _store_appointment(self, request: web.Request) -> web.Response:
        box, _ = self._box(request)
        id_, at = request.match_info["id"], self._clock()
        resource = _appointment(await request.read())
        resource.setdefault("id", id_)
        for name in request.query:
            if name != "owner":
                raise Refused(400, (name, "unknown parameter; there is only owner"))
        if "owner" in request.query:
            resource = hand_over(box, id_, resource, _customer("owner", request.query["owner"], 400), at)
        return _shown(box.put("Appointment", id_, resource, at))

    async def _start_over(self, _request: web.Request) -> web.Response:
        self._reset()
        return web.json_response({})

    async def _show_review(self, _request: web.Request) -> web.Response:
        return web.json_response([])

    async def _decide_review(self, _request: web.Request) -> web.Response:
        raise Refused(404, ("n", "the review queue has no such message"))

    def _box(self, request: web.Request) -> tuple[Store, Customer]:
        customer = _customer("customer", request.match_info["customer"], 404)
        return self._world().boxes[customer.box], customer


def _customer(where: str, name: str, status: int) -> Customer:
    customer = CUSTOMERS.get(name)
    if customer is None:
        raise Refused(status, (where, f"must be one of {', '.join(CUSTOMERS)}"))
    return customer


def _appointment(body: bytes) -> Resource:
    try:
        resource = read(body)
    except BadJson as error:
        raise Refused(400, ("body", str(error))) from error
    if not isinstance(resource, dict):
        raise Refused(400, ("body", "must be a JSON object"))
    return resource


def _shown(copy: Copy) -> web.Response:
    headers = {"ETag": f'W/"{copy.version}"'}
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
