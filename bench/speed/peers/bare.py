"""The same work on the gateway's own libraries, and nothing else: what aiohttp, PyJWT and Python cost by themselves.

The file told by PEER_CONFIG says what to do. Every audit line is safely on disk before the write and before the answer.
"""

import asyncio
import json
import os
import queue
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import uvloop
from aiohttp import ClientSession, TCPConnector, web

TOLD = json.loads(Path(os.environ["PEER_CONFIG"]).read_text(encoding="utf-8"))
BASE = f"http://127.0.0.1:{TOLD['upstream']}"
NOTICE = timedelta(hours=48)
FHIR = "application/fhir+json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Audit:
    """Lines that are on disk when `append` returns; all that wait share one fdatasync."""

    def __init__(self, path: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        threading.Thread(target=self._run, daemon=True).start()

    async def append(self, **record: str) -> None:
        """Write a line."""
        written = self._loop.create_future()
        self._waiting.put((json.dumps(record).encode() + b"\n", written))
        await written

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            batch += [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]
            os.write(self._descriptor, b"".join(line for line, _ in batch))
            os.fdatasync(self._descriptor)
            self._loop.call_soon_threadsafe(_settle, [written for _, written in batch])


def _settle(waiting: list["asyncio.Future[None]"]) -> None:
    for each in waiting:
        each.set_result(None)


class Peer:
    """Its state: the upstream's token, the verdicts on tokens, the audit file."""

    def __init__(self, client: ClientSession) -> None:
        self.client = client
        self.audit = Audit(TOLD["audit"])
        self.verdicts: dict[str, tuple[str, float]] = {}
        self.token, self.until = "", 0.0

    def partner(self, request: web.Request) -> str:
        """Tell who asks."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer":
            raise Refusal(401, "token-missing")
        known = self.verdicts.get(token)
        if known is not None and known[1] > time.monotonic():
            return known[0]
        try:
            claims = jwt.decode(
                token,
                TOLD["publicKey"],
                algorithms=["ES256"],
                audience=TOLD["issuer"],
                issuer=TOLD["issuer"],
                options={"require": ["exp", "sub"]},
            )
        except jwt.InvalidTokenError as error:
            raise Refusal(401, "token-invalid") from error
        self.verdicts[token] = str(claims["sub"]), time.monotonic() + min(60.0, claims["exp"] - time.time())
        return str(claims["sub"])

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """Ask the upstream, with a token of its own."""
        if time.monotonic() >= self.until:
            form = {"grant_type": "client_credentials", "client_id": "peer", "client_secret": "secret"}
            async with self.client.post(f"{BASE}/auth/token", data=form) as response:
                told = await response.json()
            self.token, self.until = told["access_token"], time.monotonic() + 0.8 * told["expires_in"]
        headers = {"Authorization": f"Bearer {self.token}", "Accept": FHIR, **more.pop("headers", {})}
        async with self.client.request(method, f"{BASE}/fhir/{path}", headers=headers, **more) as response:
            return response.status, json.loads(await response.read())

    async def get(self, path: str) -> Any:
        """Read a resource."""
        status, resource = await self.ask("GET", path)
        if status != 200:
            raise Refusal(404 if status == 404 else 502, "not-found" if status == 404 else "upstream-invalid")
        return resource

    async def owned(self, grant: Any, id_: str) -> Any:
        """Read an appointment that the customer owns."""
        appointment = await self.get(f"Appointment/{id_}")
        references = [each["actor"].get("reference", "") for each in appointment["participant"]]
        patients = [each for each in references if each.startswith("Patient/")]
        patient = await self.get(patients[0]) if len(patients) == 1 else {}
        labels = {each["code"] for each in appointment["meta"]["security"] if each["system"].endswith("/privacy-label")}
        if patient.get("managingOrganization", {}).get("reference") != grant["organisation"]:
            raise Refusal(404, "not-found")
        if not labels <= set(grant["labels"]):
            raise Refusal(404, "not-found")
        return appointment

    async def read(self, request: web.Request) -> web.Response:
        """Answer a read."""
        who, customer, id_ = self.partner(request), request.match_info["customer"], request.match_info["id"]
        appointment = await self.owned(granted(customer, who, "read"), id_)
        await self.audit.append(event="read", partner=who, customer=customer, appointment=id_)
        return shown(appointment)

    async def cancel(self, request: web.Request) -> web.Response:
        """Answer a cancel."""
        who, customer, id_ = self.partner(request), request.match_info["customer"], request.match_info["id"]
        grant = granted(customer, who, "cancel")
        body = json.loads(await request.read())
        given = [each["valueCodeableConcept"] for each in body.get("parameter", []) if each["name"] == "reason"]
        if not given or given[0]["coding"][0]["code"] not in grant["reasons"]:
            raise Refusal(400, "missing-parameter")
        appointment = await self.owned(grant, id_)
        version = checked(appointment, request.headers.get("If-Match"))
        changed = {**appointment, "status": "cancelled", "cancelationReason": given[0]}
        await self.audit.append(event="intent", partner=who, customer=customer, appointment=id_)
        headers = {"Content-Type": FHIR, "If-Match": f'W/"{version}"'}
        status, after = await self.ask("PUT", f"Appointment/{id_}", headers=headers, data=json.dumps(changed).encode())
        await self.audit.append(event="outcome", partner=who, customer=customer, appointment=id_, code=str(status))
        if status in {409, 412}:
            raise Refusal(412, "version-conflict")
        if status != 200:
            raise Refusal(502, "upstream-refused")
        return shown(after)


class Refusal(Exception):
    """Turns a request away."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status


def granted(customer: str, who: str, operation: str) -> Any:
    """Give the grant."""
    grant = TOLD["grants"].get(customer)
    if grant is None or grant["partner"] != who or operation not in grant["operations"]:
        raise Refusal(403, "no-grant")
    return grant


def checked(appointment: Any, if_match: str | None) -> str:
    """Give the version of an appointment that may be cancelled."""
    version: str = appointment["meta"]["versionId"]
    if if_match is not None and if_match.removeprefix("W/") != f'"{version}"':
        raise Refusal(412, "version-conflict")
    if appointment["status"] != "booked":
        raise Refusal(409, "already-cancelled" if appointment["status"] == "cancelled" else "not-changeable")
    if datetime.fromisoformat(appointment["start"]) < datetime.now(UTC) + NOTICE:
        raise Refusal(422, "too-late")
    return version


def shown(appointment: Any) -> web.Response:
    """Answer with it."""
    etag = f'W/"{appointment["meta"]["versionId"]}"'
    return web.Response(body=json.dumps(appointment).encode(), headers={"Content-Type": FHIR, "ETag": etag})


@web.middleware
async def refusing(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer those that are turned away, once that is on disk."""
    try:
        return await handler(request)
    except Refusal as refusal:
        await request.app[PEER].audit.append(event="refused", code=str(refusal))
        return web.json_response({"code": str(refusal)}, status=refusal.status)


async def ping(_: web.Request) -> web.Response:
    """Answer."""
    return web.Response(text="up")


PEER = web.AppKey("peer", Peer)


async def application() -> web.Application:
    """Put it together."""
    app = web.Application(middlewares=[refusing])
    app[PEER] = peer = Peer(ClientSession(connector=TCPConnector(limit=128), auto_decompress=False))
    app.router.add_get("/_ping", ping)
    app.router.add_get("/{customer}/fhir/Appointment/{id}", peer.read)
    app.router.add_post("/{customer}/fhir/Appointment/{id}/$cancel", peer.cancel)
    return app


if __name__ == "__main__":
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    web.run_app(application(), host="127.0.0.1", port=TOLD["port"], access_log=None, print=None, loop=loop)
