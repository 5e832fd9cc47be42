"""The simulator as a whole: one port for token servers, boxes, Aggregated, HL7 and the control API."""

import secrets
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from aiohttp import web

from gateway.simulator import aggregated_door, facade_tokens, hl7_door, tokens
from gateway.simulator.aggregated_door import AggregatedDoor
from gateway.simulator.box import BoxDoor
from gateway.simulator.control import Control
from gateway.simulator.customers import (
    AGGREGATED_READER,
    EVERY_CUSTOMER,
    GATEWAY,
    HL7_CREDENTIALS,
    Client,
    Customer,
    Hl7Credentials,
)
from gateway.simulator.demo import DemoAppointment
from gateway.simulator.hl7_door import Hl7Door
from gateway.simulator.tokens import TokenServer
from gateway.simulator.world import World
from gateway.simulator.writes import Write


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _random_id() -> str:
    return str(uuid.uuid4())


class Simulator:
    """PKB on one machine. `now` is what the demonstration's appointments are relative to, also after a reset.

    Every hospital's data is there; `hospitals` are those whose appointments and customers are listed.
    """

    def __init__(
        self,
        now: datetime,
        *,
        clock: Callable[[], datetime] = _utc_now,
        new_id: Callable[[], str] = _random_id,
        token_lifetime: int = 300,  # seconds
        hospitals: tuple[str, ...] = ("airedale",),
    ) -> None:
        self._now = now
        self._hospitals = hospitals
        self.world = World(now, hospitals)
        self.tokens = TokenServer(token_lifetime, clock, secrets.token_bytes(32))
        self._boxes = BoxDoor(lambda: self.world, self.tokens, clock, new_id)
        self._aggregated = AggregatedDoor(lambda: self.world, self.tokens, clock)
        self._hl7 = Hl7Door(lambda: self.world, clock, new_id)
        self._control = Control(lambda: self.world, self.reset, clock, self._hl7.decide)
        self._runner: web.AppRunner | None = None
        self._url: str | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one. Raises OSError when the port is taken."""
        application = web.Application(client_max_size=16 * 1024**2)
        router = application.router
        router.add_post(tokens.PATH, self._token)
        router.add_post(facade_tokens.PATH, self._facade_token)
        router.add_route("*", "/boxes/{box}/fhir/{kind}", self._boxes.handle)
        router.add_route("*", "/boxes/{box}/fhir/{kind}/{id}", self._boxes.handle)
        router.add_route("*", f"{aggregated_door.BASE}/{{kind}}", self._aggregated.handle)
        router.add_route("*", f"{aggregated_door.BASE}/{{kind}}/{{id}}", self._aggregated.handle)
        router.add_post(hl7_door.PATH, self._hl7.handle)
        application.add_subapp("/control", self._control.application())
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._url = f"http://{host}:{runner.addresses[0][1]}"

    async def close(self) -> None:
        """Stop listening and drop what is under way."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def reset(self) -> None:
        """The demonstration's data again, no faults, no writes; tokens stay good."""
        self.world = World(self._now, self._hospitals)

    async def _token(self, request: web.Request) -> web.Response:
        return await self.tokens.answer(request, self.world.faults)

    async def _facade_token(self, request: web.Request) -> web.Response:
        return await facade_tokens.answer(request, self.world.faults)

    @property
    def url(self) -> str:
        """Where everything is."""
        if self._url is None:
            raise RuntimeError("the simulator has not been started")
        return self._url

    @property
    def control_url(self) -> str:
        """The control API."""
        return f"{self.url}/control"

    @property
    def token_url(self) -> str:
        """The token endpoint."""
        return f"{self.url}{tokens.PATH}"

    @property
    def facade_token_url(self) -> str:
        """The token endpoint of the other family; its tokens are good for nothing that is simulated."""
        return f"{self.url}{facade_tokens.PATH}"

    def box_url(self, box: str) -> str:
        """The FHIR base address of a box."""
        return f"{self.url}/boxes/{box}/fhir"

    @property
    def aggregated_url(self) -> str:
        """The FHIR base address of the Aggregated endpoint."""
        return f"{self.url}{aggregated_door.BASE}"

    @property
    def aggregated_token_url(self) -> str:
        """Its token endpoint: the same identity server as for boxes, where another client is let in."""
        return self.token_url

    @property
    def aggregated_credentials(self) -> Client:
        """What the gateway reads aggregated data with."""
        return AGGREGATED_READER

    @property
    def hl7_url(self) -> str:
        """The SOAP endpoint that takes HL7 messages."""
        return f"{self.url}{hl7_door.PATH}"

    @property
    def hl7_credentials(self) -> Mapping[str, Hl7Credentials]:
        """By partner: user name, password, and alias → customer."""
        return HL7_CREDENTIALS

    @property
    def client_credentials(self) -> Client:
        """What the gateway calls PKB with."""
        return GATEWAY

    @property
    def appointments(self) -> tuple[DemoAppointment, ...]:
        """The demonstration's appointments, as they were at the start."""
        return self.world.appointments

    @property
    def customers(self) -> Mapping[str, Customer]:
        """The listed hospitals and their teams, and those they share a box with."""
        boxes = {EVERY_CUSTOMER[hospital].box for hospital in self._hospitals}
        return {customer.id: customer for customer in EVERY_CUSTOMER.values() if customer.box in boxes}

    @property
    def writes(self) -> list[Write]:
        """Every write since the start or the last reset."""
        return self.world.writes
