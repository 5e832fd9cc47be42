"""The Aggregated FHIR endpoint (R4): PKB's one view of all sources, for reading only, and a little behind."""

from collections.abc import Callable
from datetime import datetime
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

from gateway.simulator import answers
from gateway.simulator.aggregated_resources import source_of
from gateway.simulator.aggregated_store import View
from gateway.simulator.customers import BRADFORD, BY_SOURCE, Client
from gateway.simulator.faults import Answer, hang_up, play
from gateway.simulator.search import BadSearch, search
from gateway.simulator.tokens import TokenServer
from gateway.simulator.world import World

BASE: Final = "/aggregated/fhir"
TYPES: Final = frozenset({"Appointment", "Patient", "Organization"})


class AggregatedDoor:
    """The HTTP side of the Aggregated endpoint."""

    def __init__(self, world: Callable[[], World], tokens: TokenServer, clock: Callable[[], datetime]) -> None:
        self._world = world
        self._tokens = tokens
        self._clock = clock

    async def handle(self, request: web.Request) -> web.Response:
        """Every request below `/aggregated/fhir`."""
        body, world = await request.read(), self._world()
        answer = self._stopped(request)
        if answer is None:
            touched = _touched(world.aggregated.seen(self._clock()), request)
            fault = world.faults.take("aggregated", write=False, customers=touched)
            answer = await play(fault, request, lambda: Answer(self._answer(world, request, body)))
        return hang_up(request) if answer.response is None else answer.response

    def _stopped(self, request: web.Request) -> Answer | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        client: Client | None = self._tokens.client_of(token) if scheme.lower() == "bearer" else None
        if client is None:
            headers = {"WWW-Authenticate": 'Bearer realm="pkb"'}
            return Answer(answers.refused(401, "No valid access token", headers))
        if not client.aggregated:
            return Answer(answers.refused(403, "Access to aggregated data is denied"))
        return None

    def _answer(self, world: World, request: web.Request, body: bytes) -> web.Response:
        view = world.aggregated.seen(self._clock())
        kind, id_ = request.match_info["kind"], request.match_info.get("id")
        match request.method, id_:
            case ("GET" | "HEAD", None) | ("POST", "_search"):
                form = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True) if body else []
                return _search(view, kind, [*request.query.items(), *form], request)
            case ("GET" | "HEAD", str()):
                copy = view.get(kind, id_)
                missing = f"Resource {kind}/{id_} not found"
                return answers.refused(404, missing) if copy is None else answers.resource(copy)
            case _:
                return answers.refused(405, f"{request.method} is not supported here: the endpoint is read only")


def _touched(view: View, request: web.Request) -> frozenset[str]:
    """Whose data it concerns: an appointment's source; of people and searches, the one hospital there is."""
    copy = view.get(request.match_info["kind"], request.match_info.get("id", ""))
    source = None if copy is None else source_of(copy.resource)
    owner = BY_SOURCE.get(source or "")
    return frozenset({BRADFORD.id}) if owner is None else owner.names


def _search(view: View, kind: str, wanted: list[tuple[str, str]], request: web.Request) -> web.Response:
    """A type that is not aggregated is searched in vain, without an error."""
    address = f"{request.scheme}://{request.host}{BASE}/{kind}?{request.query_string}"
    try:
        bundle = search(view, kind, wanted if kind in TYPES else [], address)
    except BadSearch as error:
        return answers.refused(400, str(error))
    return web.Response(body=bundle, content_type=answers.FHIR_JSON)
