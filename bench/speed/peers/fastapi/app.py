"""Reads and cancels appointments upstream for partners with a token: FastAPI, httpx and PyJWT as their guides show."""

import json
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx
import jwt
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

TOLD = json.loads(Path(os.environ["PEER_CONFIG"]).read_text(encoding="utf-8"))
NOTICE = timedelta(hours=48)
FHIR = "application/fhir+json"

log = logging.getLogger("peer")
bearer = HTTPBearer(auto_error=False)


class Coding(BaseModel):
    system: str | None = None
    code: str


class Concept(BaseModel):
    coding: list[Coding]


class Parameter(BaseModel):
    name: str
    valueCodeableConcept: Concept | None = None


class Parameters(BaseModel):
    resourceType: str
    parameter: list[Parameter] = []


class Upstream:
    """The box, with a token of the peer's own."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.token, self.until = "", 0.0

    async def headers(self) -> dict[str, str]:
        if time.monotonic() >= self.until:
            form = {"grant_type": "client_credentials", "client_id": "peer", "client_secret": "secret"}
            response = await self.client.post("/auth/token", data=form)
            response.raise_for_status()
            told = response.json()
            self.token, self.until = told["access_token"], time.monotonic() + 0.8 * told["expires_in"]
        return {"Authorization": f"Bearer {self.token}", "Accept": FHIR}

    async def get(self, path: str) -> Any:
        response = await self.client.get(f"/fhir/{path}", headers=await self.headers())
        if response.status_code == 404:
            raise HTTPException(404, "not-found")
        if response.status_code != 200:
            raise HTTPException(502, "upstream-invalid")
        return response.json()

    async def put(self, path: str, version: str, resource: Any) -> Any:
        headers = {**await self.headers(), "Content-Type": FHIR, "If-Match": f'W/"{version}"'}
        response = await self.client.put(f"/fhir/{path}", headers=headers, json=resource)
        if response.status_code in {409, 412}:
            raise HTTPException(412, "version-conflict")
        if response.status_code != 200:
            raise HTTPException(502, "upstream-refused")
        return response.json()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    limits = httpx.Limits(max_connections=128, max_keepalive_connections=128)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{TOLD['upstream']}", limits=limits) as client:
        app.state.upstream = Upstream(client)
        yield


app = FastAPI(lifespan=lifespan)


async def partner(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> str:
    if credentials is None:
        raise HTTPException(401, "token-missing")
    try:
        claims = jwt.decode(
            credentials.credentials,
            TOLD["publicKey"],
            algorithms=["ES256"],
            audience=TOLD["issuer"],
            issuer=TOLD["issuer"],
            options={"require": ["exp", "sub"]},
        )
    except jwt.InvalidTokenError as error:
        raise HTTPException(401, "token-invalid") from error
    return str(claims["sub"])


async def box(request: Request) -> Upstream:
    upstream: Upstream = request.app.state.upstream
    return upstream


Partner = Annotated[str, Depends(partner)]
Box = Annotated[Upstream, Depends(box)]


def granted(customer: str, who: str, operation: str) -> Any:
    grant = TOLD["grants"].get(customer)
    if grant is None or grant["partner"] != who or operation not in grant["operations"]:
        raise HTTPException(403, "no-grant")
    return grant


async def owned(upstream: Upstream, grant: Any, id_: str) -> Any:
    appointment = await upstream.get(f"Appointment/{id_}")
    references = [each["actor"].get("reference", "") for each in appointment["participant"]]
    patients = [each for each in references if each.startswith("Patient/")]
    if len(patients) != 1:
        raise HTTPException(404, "not-found")
    patient = await upstream.get(patients[0])
    if patient.get("managingOrganization", {}).get("reference") != grant["organisation"]:
        raise HTTPException(404, "not-found")
    labels = [each["code"] for each in appointment["meta"]["security"] if each["system"].endswith("/privacy-label")]
    if not set(labels) <= set(grant["labels"]):
        raise HTTPException(404, "not-found")
    return appointment


def checked(appointment: Any, if_match: str | None) -> str:
    version: str = appointment["meta"]["versionId"]
    if if_match is not None and if_match.removeprefix("W/") != f'"{version}"':
        raise HTTPException(412, "version-conflict")
    if appointment["status"] == "cancelled":
        raise HTTPException(409, "already-cancelled")
    if appointment["status"] != "booked":
        raise HTTPException(409, "not-changeable")
    if datetime.fromisoformat(appointment["start"]) < datetime.now(UTC) + NOTICE:
        raise HTTPException(422, "too-late")
    return version


@app.get("/_ping")
async def ping() -> str:
    return "up"


@app.get("/{customer}/fhir/Appointment/{id_}")
async def read(customer: str, id_: str, who: Partner, upstream: Box, response: Response) -> Any:
    appointment = await owned(upstream, granted(customer, who, "read"), id_)
    response.headers["ETag"] = f'W/"{appointment["meta"]["versionId"]}"'
    log.info(json.dumps({"event": "read", "partner": who, "customer": customer, "appointment": id_}))
    return appointment


@app.post("/{customer}/fhir/Appointment/{id_}/$cancel")
async def cancel(
    customer: str,
    id_: str,
    body: Parameters,
    who: Partner,
    upstream: Box,
    response: Response,
    if_match: Annotated[str | None, Header()] = None,
) -> Any:
    grant = granted(customer, who, "cancel")
    reason = next((each.valueCodeableConcept for each in body.parameter if each.name == "reason"), None)
    if reason is None or reason.coding[0].code not in grant["reasons"]:
        raise HTTPException(400, "missing-parameter")
    appointment = await owned(upstream, grant, id_)
    version = checked(appointment, if_match)
    changed = {**appointment, "status": "cancelled", "cancelationReason": reason.model_dump(exclude_none=True)}
    after = await upstream.put(f"Appointment/{id_}", version, changed)
    response.headers["ETag"] = f'W/"{after["meta"]["versionId"]}"'
    log.info(json.dumps({"event": "cancel", "partner": who, "customer": customer, "appointment": id_}))
    return after


if __name__ == "__main__":
    logging.basicConfig(filename=TOLD["log"], format="%(asctime)s %(message)s", level=logging.INFO)
    # httpx would log each of its requests too.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    uvicorn.run(app, host="127.0.0.1", port=TOLD["port"], log_level="warning", access_log=False)
