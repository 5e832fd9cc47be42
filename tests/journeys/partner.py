"""A small client that speaks as a partner, and to PKB's control API."""

import asyncio
import contextlib
import hashlib
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
from yarl import URL

from tests.journeys import contract
from tests.journeys.processes import Json, Place

REASONS = "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason"
NHS_NUMBER = "https://fhir.nhs.uk/Id/nhs-number"
Seen = TypeVar("Seen")


def parameters(*given: Json) -> Json:
    return {"resourceType": "Parameters", "parameter": list(given)}


def reason(code: str = "pat") -> Json:
    return {"name": "reason", "valueCodeableConcept": {"coding": [{"system": REASONS, "code": code}]}}


def comment(text: str) -> Json:
    return {"name": "comment", "valueString": text}


def instant(name: str, at: datetime) -> Json:
    return {"name": name, "valueInstant": at.isoformat(timespec="seconds")}


def patient(number: str) -> Json:
    return {"name": "patient", "valueIdentifier": {"system": NHS_NUMBER, "value": number}}


def birth_date(at: str) -> Json:
    return {"name": "birthDate", "valueDate": at}


def location(text: str) -> Json:
    return {"name": "location", "valueString": text}


def in_days(days: float) -> datetime:
    return (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)


@dataclass(frozen=True)
class Reply:
    """What a partner got."""

    status: int
    headers: Mapping[str, str]
    raw: bytes
    request_id: str
    seconds: float

    @property
    def body(self) -> Any:
        return json.loads(self.raw) if self.raw else None

    @property
    def code(self) -> str:
        """The error code of an OperationOutcome, otherwise nothing."""
        body = self.body
        if not isinstance(body, dict) or body.get("resourceType") != "OperationOutcome":
            return ""
        coding = body["issue"][0].get("details", {}).get("coding", [{}])
        return str(coding[0].get("code", ""))

    @property
    def task(self) -> str:
        """The id of the Task that `Content-Location` points at."""
        return self.headers["Content-Location"].rsplit("/Task/", 1)[1]


@dataclass
class Client:
    """Speaks to one gateway as its partners do, and to PKB's control API."""

    place: Place
    session: aiohttp.ClientSession = field(init=False)

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=60)
        self.session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    def at(self, place: Place) -> "Client":
        """The same, towards another gateway; it shares the connections of this one."""
        other = Client(place)
        other.session = self.session
        return other

    async def ask(
        self,
        method: str,
        path: str,
        *,
        partner: str = "swiftbook",
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Json | None = None,
        data: bytes | None = None,
    ) -> Reply:
        """Send one request under a request id of its own. `token` "" sends none."""
        request_id = str(uuid.uuid4())
        sent = {"X-Request-Id": request_id}
        bearer = self.place.token(partner) if token is None else token
        if bearer:
            sent["Authorization"] = f"Bearer {bearer}"
        if body is not None or data is not None:
            sent["Content-Type"] = "application/fhir+json"
            data = json.dumps(body).encode() if data is None else data
        sent |= headers or {}
        url = URL(self.place.gateway_url + path, encoded=True)
        begun = time.monotonic()
        async with self.session.request(method, url, headers=sent, data=data, allow_redirects=False) as response:
            raw = await response.read()
            seconds = time.monotonic() - begun
            contract.hold(method, path, response.status, response.headers, raw)
            return Reply(response.status, response.headers.copy(), raw, request_id, seconds)

    async def read(self, appointment: str, *, customer: str = "airedale", **how: Any) -> Reply:
        return await self.ask("GET", f"/{customer}/fhir/Appointment/{appointment}", **how)

    async def cancel(self, appointment: str, *given: Json, customer: str = "airedale", **how: Any) -> Reply:
        """Cancel with these parameters; without any, for a good reason."""
        if "data" not in how:
            how.setdefault("body", parameters(*(given or (reason(),))))
        return await self.ask("POST", f"/{customer}/fhir/Appointment/{appointment}/$cancel", **how)

    async def change(self, appointment: str, *given: Json, customer: str = "airedale", **how: Any) -> Reply:
        if "data" not in how:
            how.setdefault("body", parameters(*given))
        return await self.ask("POST", f"/{customer}/fhir/Appointment/{appointment}/$change", **how)

    async def task(self, task: str, *, customer: str = "airedale", **how: Any) -> Reply:
        return await self.ask("GET", f"/{customer}/fhir/Task/{task}", **how)

    async def raw(self, data: bytes, *, shut: bool = False) -> bytes:
        """Send bytes as they are and read until the gateway closes; `shut` ends our sending side."""
        url = URL(self.place.gateway_url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        try:
            writer.write(data)
            await writer.drain()
            if shut:
                writer.write_eof()
            async with asyncio.timeout(30):
                answer = await reader.read()
            contract.hold_raw(data, answer)
            return answer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    # PKB, by its control API

    async def _control(self, method: str, path: str, **how: Any) -> bytes:
        async with self.session.request(method, self.place.told["pkb_control_url"] + path, **how) as response:
            answer = await response.read()
            assert response.status == 200, answer
            return answer

    async def fault(self, kind: str, value: int | str | None = None, **rest: Any) -> None:
        fault = {"target": "box", "kind": kind, "value": value, "count": 0, **rest}
        await self._control("POST", "/faults", json=fault)

    async def clear(self) -> None:
        await self._control("DELETE", "/faults")

    async def writes(self, appointment: str | None = None) -> list[Json]:
        """The writes that PKB saw, of one appointment or of all."""
        every: list[Json] = json.loads(await self._control("GET", "/writes"))
        return [each for each in every if appointment is None or each["path"].endswith(f"/{appointment}")]

    async def copy_text(self, appointment: str, customer: str = "airedale") -> str:
        return (await self._control("GET", f"/appointments/{customer}/{appointment}")).decode()

    async def copy(self, appointment: str, customer: str = "airedale") -> Json:
        found: Json = json.loads(await self.copy_text(appointment, customer))
        return found

    async def put(self, appointment: str, resource: Json, owner: str | None = None, customer: str = "airedale") -> Json:
        path = f"/appointments/{customer}/{appointment}" + (f"?owner={owner}" if owner else "")
        stored: Json = json.loads(await self._control("PUT", path, json=resource))
        return stored

    async def put_text(self, appointment: str, text: str, customer: str = "airedale") -> None:
        """Let PKB hold a resource exactly as written."""
        await self._control("PUT", f"/appointments/{customer}/{appointment}", data=text.encode())

    async def faults_left(self) -> list[Json]:
        """The faults that have not struck yet, or not as often as ordered."""
        left: list[Json] = json.loads(await self._control("GET", "/faults"))
        return left

    async def review(self) -> list[Json]:
        """The messages that PKB took and holds for a person to look at."""
        held: list[Json] = json.loads(await self._control("GET", "/hl7-review"))
        return held

    async def decide(self, number: int, decision: str) -> Json:
        settled: Json = json.loads(await self._control("POST", f"/hl7-review/{number}", json={"decision": decision}))
        return settled

    def demo(self, scenario: str, number: int = 0) -> Json:
        """The sandbox's own appointments of a scenario in the box that Airedale's journeys are about."""
        box = {"airedale", "airedale-cardiology"}
        known = [each for each in self.place.told["appointments"] if each["customer"] in box]
        return dict([each for each in known if each["scenario"] == scenario][number])

    async def fresh(self, scenario: str = "changeable", **members: Any) -> str:
        """Make PKB hold a new appointment like a demo one but for these members; None takes a member away."""
        like = await self.copy(self.demo(scenario)["id"])
        made = f"j-{uuid.uuid4().hex[:20]}"
        changed = {name: value for name, value in {**like, "id": made, **members}.items() if value is not None}
        await self.put(made, changed)
        return made

    # The audit stream

    async def audit_of(self, request_id: str, event: str | None = None, count: int = 1) -> list[Json]:
        """The records of one request, waiting for as many as there must be: some are written without being awaited."""

        async def found() -> list[Json]:
            lines = [line for line in self.place.lines() if request_id.encode() in line]
            every = [each for each in map(json.loads, lines) if each["request_id"] == request_id]
            return [each for each in every if event is None or each["event"] == event]

        return await until(found, lambda records: len(records) >= count)

    async def regrant(self, text: str) -> None:
        """Replace the grants file and wait until it is in force."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        replace_file(self.place.grants, text)

        async def loaded() -> list[Json]:
            return [json.loads(line) for line in self.place.lines() if b'"grants-loaded"' in line]

        await until(loaded, lambda records: bool(records) and records[-1]["grants_digest"] == digest)


async def until(look: Callable[[], Awaitable[Seen]], good: Callable[[Seen], bool], seconds: float = 15.0) -> Seen:
    """Look again and again until it is good; gives what was seen last."""
    end = time.monotonic() + seconds
    while True:
        seen = await look()
        if good(seen):
            return seen
        assert time.monotonic() < end, seen
        await asyncio.sleep(0.05)


def replace_file(path: Path, text: str) -> None:
    """Put a new content in the place of a file, at once for whoever reads it."""
    draft = path.with_suffix(f".{uuid.uuid4().hex[:8]}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
