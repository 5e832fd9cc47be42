"""Clients that others wrote, as they come from the package index, against the real process."""

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT, private_key_jwt_sign
from fhirclient.auth import FHIRAuth
from fhirclient.client import FHIRClient
from fhirclient.models.appointment import Appointment
from fhirclient.models.codeableconcept import CodeableConcept
from fhirclient.models.fhirinstant import FHIRInstant
from fhirclient.models.parameters import Parameters
from fhirclient.server import FHIRNotFoundException, FHIRPermissionDeniedException
from fhirpy import AsyncFHIRClient
from fhirpy.base.exceptions import ForbiddenError, MultipleResourcesFound, OperationOutcome, ResourceNotFound
from joserfc.jwk import ECKey

from tests.journeys.partner import Client, comment, parameters, reason
from tests.journeys.processes import Json, Place

Told = TypeVar("Told")
AIREDALE = "airedale/fhir"


@pytest.fixture(autouse=True)
def sessions() -> Iterator[list[requests.Session]]:
    """Close what the clients keep open."""
    kept: list[requests.Session] = []
    yield kept
    for session in kept:
        session.close()


def answer_of(error: requests.HTTPError) -> tuple[int, str]:
    assert error.response is not None
    return error.response.status_code, code_of(error.response.json())


def code_of(body: Any) -> str:
    return str(body["issue"][0]["details"]["coding"][0]["code"])


async def apart(work: Callable[[], Told]) -> Told:
    """Run a client that blocks."""
    return await asyncio.to_thread(work)


def fhirpy(client: Client, **headers: str) -> AsyncFHIRClient:
    token = client.place.token("swiftbook")
    return AsyncFHIRClient(
        f"{client.place.gateway_url}/{AIREDALE}", authorization=f"Bearer {token}", extra_headers=headers
    )


def smart(place: Place, sessions: list[requests.Session], **settings: Any) -> FHIRClient:
    """A fhirclient that has looked at our CapabilityStatement."""
    base = f"{place.gateway_url}/{AIREDALE}"
    made = FHIRClient(settings={"app_id": "swiftbook", "api_base": base, **settings})
    sessions.append(made.server.session)
    made.prepare()
    return made


def with_token(place: Place, sessions: list[requests.Session]) -> FHIRClient:
    made = smart(place, sessions)
    made.server.auth = FHIRAuth.create("oauth2", {"access_token": place.token("swiftbook")})
    return made


def private_key(place: Place) -> ECKey:
    return ECKey.import_key(Path(place.told["partners"]["swiftbook"]["private_key_file"]).read_text(encoding="ascii"))


def signer(place: Place, lifetime: int = 240) -> PrivateKeyJWT:
    """Authlib's way to prove a client: its own lifetime of an hour is twelve times what SMART allows."""
    told = place.told["partners"]["swiftbook"]
    claims = {"exp": int(time.time()) + lifetime}
    return PrivateKeyJWT(told["token_url"], claims=claims, headers={"kid": told["kid"]}, alg=told["alg"])


def authlib(place: Place, sessions: list[requests.Session], method: PrivateKeyJWT) -> OAuth2Session:
    made = OAuth2Session("swiftbook", private_key(place), token_endpoint_auth_method="private_key_jwt")
    made.register_client_auth_method(method)
    sessions.append(made)
    return made


# fhirpy


async def test_fhirpy_reads_and_refreshes_an_appointment(client: Client) -> None:
    made = await client.fresh()
    got = await fhirpy(client).get("Appointment", made)
    assert got == await client.copy(made)

    appointment = await fhirpy(client).reference("Appointment", made).to_resource()
    await client.put(made, {**await client.copy(made), "comment": "Bring your glasses."})
    await appointment.refresh()
    assert appointment["comment"] == "Bring your glasses."


async def test_fhirpy_searches_and_walks_the_pages(client: Client) -> None:
    like = client.demo("changeable", 3)
    made = {like["id"], await client.fresh(participant=(await client.copy(like["id"]))["participant"])}
    made.add(await client.fresh(participant=(await client.copy(like["id"]))["participant"]))
    query = {"patient.identifier": like["patient_identifier"], "date": "ge2020-01-01"}
    search = fhirpy(client).resources("Appointment").search(**query)
    assert {each["id"] for each in await search.fetch()} == made
    assert {each["id"] for each in await search.limit(1).fetch_all()} == made
    first = await search.first()
    assert first is not None
    assert first["id"] in made


async def test_fhirpy_finds_the_one_appointment_of_a_business_identifier(client: Client) -> None:
    like = client.demo("changeable", 4)
    found = await fhirpy(client).resources("Appointment").search(identifier=like["identifier"]).get()
    assert found["id"] == like["id"]
    with pytest.raises(ResourceNotFound, match="No resources found"):
        await fhirpy(client).resources("Appointment").search(identifier=like["identifier"] + "0").get()


async def test_fhirpy_asks_for_actions_changes_and_cancels(client: Client) -> None:
    made = await client.fresh()
    appointment = await fhirpy(client).reference("Appointment", made).to_resource()
    actions = await appointment.execute("$actions", method="get")
    assert {each["name"]: each["part"][0]["valueBoolean"] for each in actions["parameter"]} == {
        "read": True,
        "change": True,
        "cancel": True,
    }
    changed = await appointment.execute("$change", data=parameters(comment("Second floor.")))
    assert (changed["id"], changed["comment"]) == (made, "Second floor.")
    cancelled = await appointment.execute("$cancel", data=parameters(reason()))
    assert cancelled["status"] == (await client.copy(made))["status"] == "cancelled"


async def test_fhirpy_updates_with_the_version_it_read_in_a_header(client: Client) -> None:
    """fhirpy sends no If-Match by itself; its `extra_headers` do."""
    made = await client.fresh()
    unaware = await fhirpy(client).reference("Appointment", made).to_resource()
    unaware["comment"] = "Ask for Kit."
    with pytest.raises(OperationOutcome) as told:
        await unaware.save()
    assert code_of(told.value.resource) == "version-required"
    assert "If-Match" in told.value.resource["issue"][0]["diagnostics"]
    assert await client.writes(made) == []

    version = unaware["meta"]["versionId"]
    aware = fhirpy(client, **{"If-Match": f'W/"{version}"'})
    appointment = await aware.reference("Appointment", made).to_resource()
    appointment["comment"] = "Ask for Kit."
    await appointment.save()
    assert (appointment["comment"], appointment["status"]) == ("Ask for Kit.", "booked")
    with pytest.raises(MultipleResourcesFound) as conflict:  # fhirpy's word for every 412
        await appointment.save()
    assert code_of(json.loads(str(conflict.value))) == "version-conflict"
    assert (await client.copy(made))["comment"] == "Ask for Kit."


async def test_fhirpy_cancels_by_a_whole_resource_and_by_a_json_patch(client: Client) -> None:
    whole, patched = await client.fresh(), await client.fresh()
    told = reason()["valueCodeableConcept"]
    appointment = await fhirpy(client).get("Appointment", whole)
    put = fhirpy(client, **{"If-Match": f'W/"{appointment["meta"]["versionId"]}"'})
    saved = await put.execute(
        f"Appointment/{whole}", method="put", data={**appointment, "status": "cancelled", "cancelationReason": told}
    )
    assert saved["status"] == (await client.copy(whole))["status"] == "cancelled"

    version = (await fhirpy(client).get("Appointment", patched))["meta"]["versionId"]
    headers = {"If-Match": f'W/"{version}"', "Content-Type": "application/json-patch+json"}
    steps: Any = [
        {"op": "replace", "path": "/status", "value": "cancelled"},
        {"op": "add", "path": "/cancelationReason", "value": told},
    ]
    done = await fhirpy(client, **headers).execute(f"Appointment/{patched}", method="patch", data=steps)
    assert done["status"] == (await client.copy(patched))["status"] == "cancelled"


async def test_fhirpy_is_told_that_its_own_kind_of_patch_is_none(client: Client) -> None:
    appointment = await fhirpy(client).reference("Appointment", await client.fresh()).to_resource()
    with pytest.raises(OperationOutcome) as told:
        await appointment.patch(comment="Ask for Sam.")
    assert code_of(told.value.resource) == "unsupported-media-type"
    assert "application/json-patch+json" in told.value.resource["issue"][0]["diagnostics"]


async def test_fhirpy_gets_its_own_errors_with_our_codes(client: Client) -> None:
    reading = fhirpy(client)
    with pytest.raises(ResourceNotFound) as missing:
        await reading.get("Appointment", "nowhere")
    assert code_of(json.loads(str(missing.value))) == "not-found"
    with pytest.raises(OperationOutcome) as late:
        await reading.execute(f"Appointment/{client.demo('inside-notice')['id']}/$cancel", data=parameters(reason()))
    assert code_of(late.value.resource) == "too-late"
    stranger = AsyncFHIRClient(
        f"{client.place.gateway_url}/{AIREDALE}", authorization=f"Bearer {client.place.token('newcomer')}"
    )
    with pytest.raises(ForbiddenError) as barred:
        await stranger.get("Appointment", client.demo("changeable")["id"])
    assert code_of(json.loads(str(barred.value))) == "no-grant"


# fhirclient


async def test_fhirclient_authorises_itself_by_what_the_capability_statement_says(
    client: Client, sessions: list[requests.Session]
) -> None:
    told = client.place.told["partners"]["swiftbook"]
    key = private_key(client.place)
    assertion = private_key_jwt_sign(
        key, "swiftbook", told["token_url"], alg=told["alg"], header={"kid": told["kid"]}, expires_in=240
    )

    def authorised() -> FHIRClient:
        made = smart(client.place, sessions, jwt_token=assertion, scope="system/Appointment.rs")
        assert not made.ready
        made.authorize()
        return made

    made = await apart(authorised)
    assert made.ready
    known = await client.fresh()
    assert (await apart(lambda: Appointment.read(known, made.server))).status == "booked"


async def test_fhirclient_reads_every_element_as_pkb_has_it(client: Client, sessions: list[requests.Session]) -> None:
    made = await client.fresh()
    server = (await apart(lambda: with_token(client.place, sessions))).server
    read = await apart(lambda: Appointment.read(made, server))
    assert read.as_json() == await client.copy(made)
    statement = server.capabilityStatement
    assert (statement.fhirVersion, statement.rest[0].resource[0].type) == ("4.0.1", "Appointment")


async def test_fhirclient_searches_and_walks_the_pages(client: Client, sessions: list[requests.Session]) -> None:
    like = client.demo("changeable", 6)
    participant = (await client.copy(like["id"]))["participant"]
    begun = "2031-05-06T10:00:00Z"
    times = {"start": begun, "end": "2031-05-06T10:30:00Z", "participant": participant}
    made = {await client.fresh(**times), await client.fresh(**times), await client.fresh(**times)}
    query = {"patient": {"identifier": like["patient_identifier"]}, "date": "ge2031-05-06", "_count": "2"}

    def walked() -> list[str]:
        server = with_token(client.place, sessions).server
        return [each.id for each in Appointment.where(query).perform_resources_iter(server)]

    found = await apart(walked)
    assert len(found) == 3
    assert set(found) == made


async def test_fhirclient_asks_for_actions_changes_and_cancels(
    client: Client, sessions: list[requests.Session]
) -> None:
    made = await client.fresh()
    server = (await apart(lambda: with_token(client.place, sessions))).server

    def post(operation: str, *given: Json) -> Appointment:
        sent = Parameters(parameters(*given)).as_json()
        return Appointment(server.post_json(f"Appointment/{made}/{operation}", sent).json())

    actions = await apart(lambda: Parameters.read_from(f"Appointment/{made}/$actions", server))
    assert [each.name for each in actions.parameter] == ["read", "change", "cancel"]
    assert (await apart(lambda: post("$change", comment("Third floor.")))).comment == "Third floor."
    assert (await apart(lambda: post("$cancel", reason()))).status == "cancelled"
    assert (await client.copy(made))["status"] == "cancelled"


async def test_fhirclient_updates_with_the_version_it_read_in_a_header(
    client: Client, sessions: list[requests.Session]
) -> None:
    """fhirclient sends no If-Match by itself; the headers of its session do."""
    made = await client.fresh()
    server = (await apart(lambda: with_token(client.place, sessions))).server
    appointment = await apart(lambda: Appointment.read(made, server))
    begun = datetime.fromisoformat((await client.copy(made))["start"]) + timedelta(days=1)
    appointment.start = FHIRInstant(begun.isoformat())
    appointment.end = FHIRInstant((begun + timedelta(minutes=20)).isoformat())
    appointment.minutesDuration = 20
    with pytest.raises(requests.HTTPError) as told:
        await apart(appointment.update)
    assert answer_of(told.value) == (428, "version-required")

    server.session.headers["If-Match"] = f'W/"{appointment.meta.versionId}"'
    saved = Appointment(await apart(appointment.update))
    assert (saved.start.datetime, saved.minutesDuration) == (begun, 20)
    with pytest.raises(requests.HTTPError) as conflict:
        await apart(appointment.update)
    assert answer_of(conflict.value) == (412, "version-conflict")


async def test_fhirclient_cancels_by_a_whole_resource(client: Client, sessions: list[requests.Session]) -> None:
    made = await client.fresh()
    server = (await apart(lambda: with_token(client.place, sessions))).server
    appointment = await apart(lambda: Appointment.read(made, server))
    appointment.status = "cancelled"
    appointment.cancelationReason = CodeableConcept(reason()["valueCodeableConcept"])
    server.session.headers["If-Match"] = f'W/"{appointment.meta.versionId}"'
    assert (await apart(appointment.update))["status"] == "cancelled"
    assert (await client.copy(made))["status"] == "cancelled"


async def test_fhirclient_gets_its_own_errors_with_our_codes(client: Client, sessions: list[requests.Session]) -> None:
    server = (await apart(lambda: with_token(client.place, sessions))).server
    with pytest.raises(FHIRNotFoundException) as missing:
        await apart(lambda: Appointment.read("nowhere", server))
    assert code_of(missing.value.response.json()) == "not-found"
    server.auth = FHIRAuth.create("oauth2", {"access_token": client.place.token("newcomer")})
    with pytest.raises(FHIRPermissionDeniedException) as barred:
        await apart(lambda: Appointment.read(client.demo("changeable")["id"], server))
    assert code_of(barred.value.response.json()) == "no-grant"


# Authlib


async def test_authlib_discovers_the_token_address_gets_a_token_and_uses_it(
    client: Client, sessions: list[requests.Session]
) -> None:
    place = client.place
    known = client.demo("changeable", 7)

    def walked() -> tuple[Any, requests.Response]:
        url = f"{place.gateway_url}/{AIREDALE}/.well-known/smart-configuration"
        with urllib.request.urlopen(url) as response:
            told = json.load(response)
        assert "private_key_jwt" in told["token_endpoint_auth_methods_supported"]
        session = authlib(place, sessions, signer(place))
        token = session.fetch_token(
            told["token_endpoint"], grant_type="client_credentials", scope="system/Appointment.rs"
        )
        return token, session.get(f"{place.gateway_url}/{AIREDALE}/Appointment/{known['id']}")

    token, read = await apart(walked)
    assert (token["token_type"], token["scope"], token["expires_in"]) == ("bearer", "system/Appointment.rs", 300)
    assert (read.status_code, read.json()) == (200, await client.copy(known["id"]))


@pytest.mark.parametrize("lifetime", [3600, 310], ids=["an hour", "just over five minutes"])
async def test_authlib_is_refused_an_assertion_that_lives_longer_than_smart_allows(
    client: Client, sessions: list[requests.Session], lifetime: int
) -> None:
    session = authlib(client.place, sessions, signer(client.place, lifetime))
    url = client.place.told["partners"]["swiftbook"]["token_url"]
    with pytest.raises(OAuthError, match=r"invalid_client.*at most five minutes ahead"):
        await apart(lambda: session.fetch_token(url, grant_type="client_credentials"))


async def test_authlib_is_refused_the_same_assertion_twice(client: Client, sessions: list[requests.Session]) -> None:
    # Authlib keeps the jti that it made in the claims it was given, so that a second request repeats it.
    session = authlib(client.place, sessions, signer(client.place))
    url = client.place.told["partners"]["swiftbook"]["token_url"]
    await apart(lambda: session.fetch_token(url, grant_type="client_credentials"))
    with pytest.raises(OAuthError, match=r"invalid_client.*a new jti"):
        await apart(lambda: session.fetch_token(url, grant_type="client_credentials"))
