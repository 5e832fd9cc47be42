"""A tester's desk for the HL7 hospital: messages, acknowledgements, and what PKB makes of them."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import aiohttp

from gateway.simulator import AGGREGATED_READER, PLACER_SYSTEM, PRIVACY_LABEL, Client, DemoAppointment, Simulator
from tests.edges.simulator_desk import NOW, Desk

PKB = "http://fhir.patientsknowbest.com"
ENVELOPE = (
    '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
    'xmlns:wss="http://wsssl.hl7api.patientsknowbest.com/"><soapenv:Header/><soapenv:Body><wss:acceptMessage>'
    "<arg0>{}</arg0></wss:acceptMessage></soapenv:Body></soapenv:Envelope>"
)
FULL = (
    "SCH|{placer}||||||^Heart check^|FU^^LOCAL|||^^^202604140930^202604141000||^^^new@trust.example^^^0163^7^Ask Ada",
    "NTE|||Bring your tablets",
    "PV1||V|^^^^^^^^Ward 9|||||||340",
    "RGS|",
    "AIP|||^Jones^Sam^^^Dr|^Consultant",
    "ZAP|https://manage.example/a?b=1",
)


@dataclass(frozen=True)
class Ack:
    """An acknowledgement as it came over the wire."""

    status: int
    body: str
    code: str = ""
    about: str = ""
    text: str = ""


class Hospital(Desk):
    """The desk, with HL7 and a reader's token."""

    clock: "Clock"

    async def as_reader(self, client: Client = AGGREGATED_READER) -> None:
        form = {"grant_type": "client_credentials", "client_id": client.client_id}
        form["client_secret"] = client.client_secret
        async with self.session.post(self.pkb.aggregated_token_url, data=form) as answer:
            self.token = (await answer.json())["access_token"]

    async def read(self, path: str, method: str = "GET") -> tuple[int, Any]:
        url = path if path.startswith("http") else f"{self.pkb.aggregated_url}/{path}"
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.session.request(method, url, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def post(
        self, body: bytes, partner: str | None = "swiftbook", kind: str = "text/xml; charset=utf-8", **headers: str
    ) -> Ack:
        if partner is not None:
            known = self.pkb.hl7_credentials[partner]
            basic = base64.b64encode(f"{known.username}:{known.password}".encode()).decode()
            headers.setdefault("Authorization", f"Basic {basic}")
        headers["Content-Type"] = kind
        async with self.session.post(self.pkb.hl7_url, data=body, headers=headers) as answer:
            return _read_ack(answer.status, await answer.text())

    async def send(self, *segments: str, partner: str = "swiftbook") -> Ack:
        text = escape("\r".join(segments) + "\r", {"\r": "&#13;"})
        return await self.post(ENVELOPE.format(text).encode(), partner)

    async def siu(self, trigger: str, booked: DemoAppointment, *segments: str, **changed: str) -> Ack:
        """A message about an appointment. Without segments it is minimal."""
        placer = changed.pop("placer", placer_of(booked))
        rest = [segment.replace("{placer}", placer) for segment in segments or (f"SCH|{placer}",)]
        return await self.send(header(trigger), person(booked, **changed), *rest)

    async def pkb_copy(self, booked: DemoAppointment) -> Any:
        return (await self.control("GET", f"/appointments/bradford/{booked.id}"))[1]

    async def by_placer(self, placer: str) -> list[Any]:
        _, bundle = await self.read(f"Appointment?identifier={PLACER_SYSTEM}|{placer}")
        return [entry["resource"] for entry in bundle["entry"]]

    def all(self, scenario: str) -> list[DemoAppointment]:
        return [a for a in super().all(scenario) if a.customer == "bradford"]


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def header(trigger: str, **changed: str) -> str:
    parts = {"alias": "bradford{bradford}", "at": "20260302101500", "id": "c-0001", "mode": "P"} | changed
    return f"MSH|^~\\&|GW|{parts['alias']}|HL7API|PKB|{parts['at']}||SIU^{trigger}|{parts['id']}|{parts['mode']}|2.4"


def person(booked: DemoAppointment, **changed: str) -> str:
    number = changed.get("number", booked.patient_identifier.rpartition("|")[2])
    born = changed.get("born", booked.birth_date.replace("-", ""))
    return f"PID|||X1^^^TRUST^PN~{number}^^^NHS^NH||Test^Ada||{born}|F"


def placer_of(booked: DemoAppointment) -> str:
    return booked.identifier.removeprefix(f"{PLACER_SYSTEM}|")


def label(copy: Any) -> str:
    (held,) = [coding["code"] for coding in copy["meta"]["security"] if coding["system"] == PRIVACY_LABEL]
    return str(held)


def people(copy: Any) -> list[str]:
    return [p["actor"].get("display", p["actor"].get("reference", "")) for p in copy["participant"]]


def extension(copy: Any, name: str) -> Any:
    return next((e for e in copy.get("extension", []) if e["url"] == f"{PKB}/structuredefinition/{name}"), None)


def _read_ack(status: int, body: str) -> Ack:
    found = ET.fromstring(body).find(".//return") if body.startswith("<soap:") else None
    if found is None or found.text is None:
        return Ack(status, body)
    header, answer, end = found.text.split("\r")
    assert header.startswith("MSH|^~\\&|HL7API|PKB|GW|")
    assert header.split("|")[8:9] + header.split("|")[10:] == ["ACK^R01", "P", "2.4"]
    name, code, about, *text = answer.split("|")
    assert (name, end) == ("MSA", "")
    return Ack(status, body, code, about, *text)


@asynccontextmanager
async def open_hospital() -> AsyncIterator[Hospital]:
    """A started simulator that lists the HL7 hospital, and a desk with a reader's token."""
    clock, numbers = Clock(), iter(range(1, 100))
    pkb = Simulator(NOW, clock=clock, new_id=lambda: f"new-{next(numbers)}", hospitals=("bradford",))
    await pkb.start()
    async with aiohttp.ClientSession() as session:
        hospital = Hospital(pkb, session)
        hospital.clock = clock
        await hospital.as_reader()
        yield hospital
    await pkb.close()
