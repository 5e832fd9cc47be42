"""Appointments of the hospital that is reached by HL7, and the messages about them that PKB saw."""

import asyncio
import tomllib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.journeys.partner import Client, birth_date, patient
from tests.journeys.processes import Json, Place

CUSTOMER = "bradford"
URL = "https://swiftbook.example/manage/1?a=b&c=%26"


@dataclass(frozen=True)
class Booked:
    """One appointment under its three names: PKB's id, the hospital's placer id, and whose it is."""

    id: str
    placer: str
    number: str
    born: str
    held: Json
    """PKB's copy when it was made."""

    @property
    def who(self) -> tuple[Json, Json]:
        """The patient, as the partner must name it on this route."""
        return patient(self.number), birth_date(self.born)


def demo(place: Place, scenario: str, number: int) -> Json:
    known = [each for each in place.told["appointments"] if each["customer"] == CUSTOMER]
    return dict([each for each in known if each["scenario"] == scenario][number])


async def booked(client: Client, scenario: str = "changeable", **members: Any) -> Booked:
    """Make PKB hold a new appointment like the fourth demo one, which has two clinicians; members replace its own."""
    like = demo(client.place, scenario, 3)
    system = like["identifier"].split("|")[0]
    made, placer = f"h-{uuid.uuid4().hex[:20]}", f"J{uuid.uuid4().hex[:12].upper()}"
    identifier = [{"system": system, "value": placer}]
    resource = {**await client.copy(like["id"], CUSTOMER), "id": made, "identifier": identifier, **members}
    held = await client.put(made, resource, customer=CUSTOMER)
    return Booked(made, placer, like["patient_identifier"].split("|")[1], like["birth_date"], held)


@dataclass(frozen=True)
class Sent:
    """One message as PKB got it."""

    text: str
    write: Json

    def field(self, segment: str, number: int) -> str:
        """A field as sent; empty where the segment is not there or too short."""
        found = [line.split("|") for line in self.text.splitlines() if line.startswith(f"{segment}|")]
        # In MSH the first separator is field 1 itself.
        place = number - 1 if segment == "MSH" else number
        return found[0][place] if found and place < len(found[0]) else ""

    @property
    def trigger(self) -> str:
        return self.field("MSH", 9).split("^")[1]

    @property
    def control_id(self) -> str:
        return self.field("MSH", 10)

    @property
    def placer(self) -> str:
        return self.field("SCH", 1)


async def messages(client: Client, placer: str | None = None) -> list[Sent]:
    """The messages that PKB saw, about one appointment or all."""
    every = [Sent(each["message"], each) for each in await client.writes() if each["target"] == "hl7"]
    return [sent for sent in every if placer is None or sent.placer == placer]


async def management_url(client: Client, booking: Booked) -> str | None:
    url = f"{client.place.told['pkb_control_url']}/appointments/{CUSTOMER}/{booking.id}"
    async with client.session.get(url) as response:
        return response.headers.get("X-Management-Url")


async def count_appointments(client: Client) -> int:
    """How many appointments PKB shows of the hospital."""
    route = tomllib.loads((client.place.directory / "gateway.toml").read_text(encoding="utf-8"))["routes"][CUSTOMER]
    token: Mapping[str, str] = route["read"]["token"]
    secret = await asyncio.to_thread((client.place.directory / token["client_secret"][5:]).read_text, "ascii")
    form = {"grant_type": "client_credentials", "client_id": token["client_id"], "client_secret": secret}
    async with client.session.post(token["url"], data=form) as response:
        bearer = (await response.json())["access_token"]
    url = f"{route['read']['base_url']}/Appointment?_count=1"
    async with client.session.get(url, headers={"Authorization": f"Bearer {bearer}"}) as response:
        return int((await response.json(content_type=None))["total"])


def without_stamp(copy: Json) -> Json:
    """A resource but for what every write of PKB's changes."""
    return {**copy, "meta": {**copy["meta"], "versionId": "", "lastUpdated": ""}}


def differing(before: Json, after: Json) -> set[str]:
    """The members in which two copies differ, PKB's stamp left out."""
    one, other = without_stamp(before), without_stamp(after)
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


def people(copy: Json) -> list[Json]:
    """Everybody who takes part, places left out."""
    return [each for each in copy["participant"] if each["actor"].get("type") != "Location"]
