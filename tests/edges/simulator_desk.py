"""A tester's desk before the simulator: the control API, and a box with a token."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp

from gateway.simulator import GATEWAY, DemoAppointment, Simulator

NOW = datetime(2026, 3, 2, 10, 15, 20, tzinfo=UTC)


class Desk:
    """A tester's desk: the control API, and the box with a token."""

    def __init__(self, pkb: Simulator, session: aiohttp.ClientSession) -> None:
        self.pkb = pkb
        self.session = session
        self.token = ""

    async def log_in(self) -> int:
        form = {"grant_type": "client_credentials", "client_id": GATEWAY.client_id}
        async with self.session.post(
            self.pkb.token_url, data=form | {"client_secret": GATEWAY.client_secret}
        ) as answer:
            if answer.content_type == "application/json" and answer.status == 200:
                self.token = (await answer.json())["access_token"]
            return answer.status

    async def control(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        async with self.session.request(method, f"{self.pkb.control_url}{path}", data=data) as answer:
            return answer.status, await answer.json()

    async def order(self, **fault: Any) -> None:
        status, answer = await self.control("POST", "/faults", fault)
        assert status == 200, answer

    async def box(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {self.token}"}
        data = None if body is None else json.dumps(body).encode()
        url = f"{self.pkb.box_url('airedale')}/{path}"
        async with self.session.request(method, url, data=data, headers=headers, allow_redirects=False) as answer:
            return answer.status, await answer.text()

    async def arrival(self) -> None:
        while not self.pkb.writes:  # noqa: ASYNC110 - the simulator's list is plain and wakes nobody
            await asyncio.sleep(0.005)

    async def copy(self, booked: DemoAppointment) -> Any:
        status, copy = await self.control("GET", f"/appointments/{booked.customer}/{booked.id}")
        assert status == 200
        return copy

    async def cancel(self, booked: DemoAppointment) -> tuple[int, str]:
        changed = {**await self.copy(booked), "status": "cancelled"}
        return await self.box("PUT", f"Appointment/{booked.id}", changed)

    async def owner(self, appointment_id: str) -> str:
        _, copy = await self.control("GET", f"/appointments/airedale/{appointment_id}")
        reference = copy["participant"][0]["actor"]["reference"]
        return str(json.loads((await self.box("GET", reference))[1])["managingOrganization"]["reference"])

    def all(self, scenario: str) -> list[DemoAppointment]:
        return [a for a in self.pkb.appointments if a.scenario == scenario]

    def first(self, scenario: str = "changeable") -> DemoAppointment:
        return self.all(scenario)[0]


@asynccontextmanager
async def open_desk() -> AsyncIterator[Desk]:
    """A started simulator with the demonstration's data, and a desk that is logged in."""
    pkb = Simulator(NOW)
    await pkb.start()
    async with aiohttp.ClientSession() as session:
        desk = Desk(pkb, session)
        assert await desk.log_in() == 200
        yield desk
    await pkb.close()
