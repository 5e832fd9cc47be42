"""A sandbox process, further gateways beside it, and a small client that speaks as a partner and as PKB's operator."""

import asyncio
import contextlib
import hashlib
import json
import re
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
from yarl import URL

from gateway.partner.access_tokens import Scopes, TokenPress
from gateway.partner.keys import read_signing_keys

REASONS = "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason"
NHS_NUMBER = "https://fhir.nhs.uk/Id/nhs-number"
EVERYTHING = "system/Appointment.rus"
START_SECONDS = 60.0

Json = dict[str, Any]
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


def in_days(days: float) -> datetime:
    return (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)


@dataclass(frozen=True)
class Place:
    """A running gateway in front of a sandbox's PKB."""

    told: Mapping[str, Any]
    gateway_url: str
    admin_url: str
    audit: Path
    pid: int = 0

    @property
    def directory(self) -> Path:
        return Path(self.told["config_file"]).parent

    @property
    def grants(self) -> Path:
        return Path(self.told["grants_file"])

    def token(self, partner: str, scope: str = EVERYTHING, age: float = 0.0) -> str:
        """A token as the gateway itself would have issued it `age` seconds ago, good for an hour."""
        keys = read_signing_keys((self.directory / "keys" / "tokens.pem").read_text(encoding="ascii"))
        press = TokenPress(self.gateway_url, keys, 3600)
        issued = datetime.now(UTC) - timedelta(seconds=age)
        return press.issue(partner, Scopes.read(scope), issued, uuid.uuid4().hex).text

    def records(self) -> list[Json]:
        """Everything that is in the audit folder now, whole lines only."""
        lines: list[bytes] = []
        for path in sorted(self.audit.glob("*.jsonl")):
            lines += [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        return [json.loads(line) for line in lines]


@dataclass
class Sandbox:
    """A `pkb-gateway sandbox` process."""

    process: subprocess.Popen[bytes]
    place: Place

    @property
    def gateway_pid(self) -> int:
        """The gateway is the sandbox's only child."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        return int(children.split()[0])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def sandbox_process(directory: Path) -> Iterator[Sandbox]:
    """Run a sandbox on free ports until the caller is done with it."""
    directory.mkdir(parents=True, exist_ok=True)
    told_file = directory / "sandbox.json"
    ports = ["--port", "0", "--admin-port", "0", "--pkb-port", "0"]
    command = [sys.executable, "-m", "gateway", "sandbox", "--directory", str(directory), *ports]
    with (directory / "sandbox.out").open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            _wait(told_file.exists, process, directory / "sandbox.out")
            told = json.loads(told_file.read_text(encoding="utf-8"))
            place = Place(told, told["gateway_url"], told["admin_url"], Path(told["audit_directory"]))
            yield Sandbox(process, place)
        finally:
            process.terminate()
            process.wait(60)


@contextlib.contextmanager
def gateway_process(place: Place, name: str, settings: str = "", audit: str = "") -> Iterator[Place]:
    """Run one more gateway on a sandbox's files, with settings of its own added."""
    with started_gateway(place, name, settings, audit) as (further, process):
        try:
            yield further
        finally:
            process.terminate()
            process.wait(60)


@contextlib.contextmanager
def started_gateway(
    place: Place, name: str, settings: str = "", audit: str = ""
) -> Iterator[tuple[Place, subprocess.Popen[bytes]]]:
    """Start one more gateway, for a caller that ends the process itself; `name` is its audit folder too."""
    port, admin_port = free_port(), free_port()
    config = place.directory / f"{name}.toml"
    config.write_text(_further_settings(place, name, (port, admin_port), settings, audit), encoding="utf-8")
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
    log = config.with_suffix(".log")
    with log.open("ab") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            _wait(lambda: _listens(port) and _listens(admin_port), process, log)
            urls = (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}")
            yield Place(place.told, *urls, place.directory / name, process.pid), process
        finally:
            if process.poll() is None:
                process.kill()


def _further_settings(place: Place, name: str, ports: tuple[int, int], settings: str, audit: str) -> str:
    text = Path(place.told["config_file"]).read_text(encoding="utf-8")
    for pattern, new in (
        (r"public_url = .*", f'public_url = "http://127.0.0.1:{ports[0]}"'),
        (r"(listen = .*port = )\d+", rf"\g<1>{ports[0]}"),
        (r"(admin = .*port = )\d+", rf"\g<1>{ports[1]}"),
        (r'directory = "audit"', f'directory = "{name}"\n{audit}'),
        (r"sqlite:///state.db", f"sqlite:///{name}.db"),
    ):
        text, count = re.subn(pattern, new, text)
        assert count == 1, pattern
    return f"{text}\n{settings}\n"


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while not ready():
        assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")[-3000:]
        assert time.monotonic() < until, log.read_text(encoding="utf-8", errors="replace")[-3000:]
        time.sleep(0.05)


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
                return await reader.read()
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

    async def copy_text(self, appointment: str) -> str:
        return (await self._control("GET", f"/appointments/airedale/{appointment}")).decode()

    async def copy(self, appointment: str) -> Json:
        found: Json = json.loads(await self.copy_text(appointment))
        return found

    async def put(self, appointment: str, resource: Json, owner: str | None = None) -> Json:
        query = f"?owner={owner}" if owner else ""
        stored: Json = json.loads(
            await self._control("PUT", f"/appointments/airedale/{appointment}{query}", json=resource)
        )
        return stored

    async def put_text(self, appointment: str, text: str) -> None:
        """Let PKB hold a resource exactly as written."""
        await self._control("PUT", f"/appointments/airedale/{appointment}", data=text.encode())

    def demo(self, scenario: str, number: int = 0) -> Json:
        """The sandbox's own appointments of a scenario."""
        return dict([each for each in self.place.told["appointments"] if each["scenario"] == scenario][number])

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
            every = [each for each in self.place.records() if each["request_id"] == request_id]
            return [each for each in every if event is None or each["event"] == event]

        return await until(found, lambda records: len(records) >= count)

    async def regrant(self, text: str) -> None:
        """Replace the grants file and wait until it is in force."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        replace_file(self.place.grants, text)

        async def loaded() -> list[Json]:
            return [each for each in self.place.records() if each["event"] == "grants-loaded"]

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


@contextlib.asynccontextmanager
async def client_of(place: Place) -> AsyncIterator[Client]:
    async with Client(place) as client:
        yield client


GRANT_FIELDS = '["start", "end", "comment", "location"]'


def partner_table(name: str, *, rate: str = "60000/min", status: str = "active") -> str:
    """A partner that borrows swiftbook's keys; its tokens are made by `Place.token`."""
    return (
        f'\n[partners.{name}]\nname = "{name}"\npkb_client_id = "pkb-{name}"\nstatus = "{status}"\nrate = "{rate}"\n'
        f'authentication = [{{ method = "private_key_jwt", jwks_file = "keys/swiftbook.jwks.json" }}]\n'
    )


def grant_table(partner: str, *lines: str, customer: str = "airedale", days: tuple[int, int] = (-60, 365)) -> str:
    """A grant of every operation unless a line says `operations`; `days` are its begin and end from today."""
    today = datetime.now(UTC).date()
    begin, end = (today + timedelta(days=each) for each in days)
    every = (
        () if any(line.startswith("operations") for line in lines) else ('operations = ["read", "change", "cancel"]',)
    )
    shape = "\n".join((*every, *lines))
    return (
        f'\n[[grants]]\nid = "{customer}-{partner}"\ncustomer = "{customer}"\npartner = "{partner}"\n'
        f'from = {begin}\nuntil = {end}\nprivacy_labels = ["GENERAL_HEALTH"]\n{shape}\napproved_by = "journey"\n'
    )


def with_added(grants: str, partners: str, grants_added: str) -> str:
    """A grants file with more partners (before the customers) and more grants (at its end)."""
    place = grants.index("\n[customers.")
    return grants[:place] + partners + grants[place:] + grants_added
