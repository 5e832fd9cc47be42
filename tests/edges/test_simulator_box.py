"""The Customer FHIR box and the token server, over real sockets."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from gateway.simulator import GATEWAY, NHS_NUMBER, STRANGER, DemoAppointment, Simulator
from gateway.simulator.exact_json import BadJson, Number, read, write

NOW = datetime(2026, 3, 2, 10, 15, tzinfo=UTC)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class Caller:
    """A client with a token, and the simulator it talks to."""

    def __init__(self, pkb: Simulator, session: aiohttp.ClientSession, clock: Clock) -> None:
        self.pkb = pkb
        self.session = session
        self.clock = clock
        self.token = ""

    async def log_in(self, client: Any = GATEWAY) -> None:
        form = {"grant_type": "client_credentials", "client_id": client.client_id}
        form["client_secret"] = client.client_secret
        async with self.session.post(self.pkb.token_url, data=form) as answer:
            assert answer.status == 200
            self.token = (await answer.json())["access_token"]

    async def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, Mapping[str, str]]:
        named = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/fhir+json"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.pkb.box_url('airedale')}/{path}"
        async with self.session.request(method, url, data=body, headers=named) as answer:
            return answer.status, await answer.read(), answer.headers

    def first(self, scenario: str = "changeable") -> DemoAppointment:
        return next(a for a in self.pkb.appointments if a.scenario == scenario)


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    clock = Clock()
    pkb = Simulator(NOW, clock=clock, new_id=lambda: "made-up-by-the-server")
    await pkb.start()
    async with aiohttp.ClientSession() as session:
        caller = Caller(pkb, session, clock)
        await caller.log_in()
        yield caller
    await pkb.close()


def code(body: bytes) -> str:
    outcome = json.loads(body)
    assert outcome["resourceType"] == "OperationOutcome"
    return str(outcome["issue"][0]["code"])


# Numbers


@pytest.mark.parametrize("digits", ["1.10", "1e2", "1E+2", "-0", "0.0", "12345678901234567890", "-1.0e-7"])
def test_a_number_is_written_as_it_was_read(digits: str) -> None:
    text = f'{{"a":[{digits},"{digits}",true,null],"b":{{}}}}'.encode()
    assert write(read(text)) == text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"\xff", "byte 0", id="not UTF-8"),
        pytest.param(b'{"a":}', "line 1 column 6", id="syntax"),
        pytest.param(b'{"a":NaN}', "NaN", id="NaN"),
        pytest.param(b"[" * 100_000, "deep", id="depth"),
    ],
)
def test_what_is_not_json_is_refused_with_its_place(body: bytes, message: str) -> None:
    with pytest.raises(BadJson, match=message):
        read(body)


def test_text_stays_text_even_a_lone_surrogate() -> None:
    assert write("é") == '"é"'.encode()
    assert write(read(rb'"\ud800"')) == rb'"\ud800"'


def test_a_float_has_no_exact_form() -> None:
    with pytest.raises(TypeError):
        write({"a": 1.5})


async def test_a_put_keeps_every_value_but_version_and_time(caller: Caller) -> None:
    booked = caller.first()
    _, before, _ = await caller.ask("GET", f"Appointment/{booked.id}")
    changed = before.replace(b'"status":"booked"', b'"status":"cancelled","weight":[1.10,1e2,-0,0.50]')
    status, after, headers = await caller.ask("PUT", f"Appointment/{booked.id}", changed)
    assert status == 200
    version = json.loads(after)["meta"]["versionId"]
    assert int(version) > int(booked.version)
    assert headers["ETag"] == f'W/"{version}"'
    expected = read(changed)
    expected["meta"] |= {"versionId": version, "lastUpdated": "2026-03-02T10:15:00.000000Z"}
    assert after == write(expected)
    assert (await caller.ask("GET", f"Appointment/{booked.id}"))[1] == after


async def test_the_demonstration_carries_what_a_careless_writer_loses(caller: Caller) -> None:
    strange = caller.first().id.replace("-01", "-04")
    _, body, _ = await caller.ask("GET", f"Appointment/{strange}")
    appointment = read(body)
    assert Number("1.10") in [extension.get("valueDecimal") for extension in appointment["extension"]]
    assert appointment["pasRecord"]["revision"] == Number("1e2")
    assert {"_start", "contained"} <= appointment.keys()
    assert appointment["meta"]["extension"][0]["url"] == "ex:createdAt"
    assert b'valueDecimal":1.10' in body


# Manners of Aidbox


async def test_a_read_names_the_version(caller: Caller) -> None:
    booked = caller.first()
    status, body, headers = await caller.ask("GET", f"Appointment/{booked.id}")
    assert (status, headers["ETag"]) == (200, f'W/"{booked.version}"')
    assert headers["Last-Modified"] == "Mon, 02 Mar 2026 10:15:00 GMT"
    assert headers["Content-Type"].startswith("application/fhir+json")
    assert json.loads(body)["meta"]["versionId"] == booked.version


@pytest.mark.parametrize("form", ['W/"{}"', '"{}"', "{}", "*"], ids=["weak", "strong", "bare", "any"])
async def test_a_put_on_the_version_just_read_is_applied(caller: Caller, form: str) -> None:
    booked = caller.first()
    _, body, _ = await caller.ask("GET", f"Appointment/{booked.id}")
    tag = form.format(booked.version)
    assert (await caller.ask("PUT", f"Appointment/{booked.id}", body, If_Match=tag))[0] == 200


async def test_a_stale_put_is_a_conflict_and_changes_nothing(caller: Caller) -> None:
    booked = caller.first()
    _, before, _ = await caller.ask("GET", f"Appointment/{booked.id}")
    status, body, _ = await caller.ask("PUT", f"Appointment/{booked.id}", before, If_Match='W/"1"')
    assert (status, code(body), json.loads(body)["id"]) == (409, "conflict", "conflict")
    assert (await caller.ask("GET", f"Appointment/{booked.id}"))[1] == before
    assert [(write.answer, write.applied) for write in caller.pkb.writes] == [(409, False)]


async def test_a_put_to_an_unknown_id_creates(caller: Caller) -> None:
    new = b'{"resourceType":"Appointment","status":"booked"}'
    status, body, headers = await caller.ask("PUT", "Appointment/new-1", new, If_Match='W/"7"')
    assert status == 201
    created = json.loads(body)
    assert created["id"] == "new-1"
    assert created["meta"]["extension"] == [{"url": "ex:createdAt", "valueInstant": "2026-03-02T10:15:00.000000Z"}]
    version = created["meta"]["versionId"]
    assert headers["Location"] == f"/boxes/airedale/fhir/Appointment/new-1/_history/{version}"


async def test_a_post_creates_under_an_id_of_the_server(caller: Caller) -> None:
    status, body, _ = await caller.ask("POST", "Patient", b'{"resourceType":"Patient","meta":{"tag":[]}}')
    assert (status, json.loads(body)["id"]) == (201, "made-up-by-the-server")


async def test_versions_are_numbered_across_the_whole_box(caller: Caller) -> None:
    versions = []
    for path, kind in (("Patient/p-1", "Patient"), ("Appointment/a-1", "Appointment"), ("Patient/p-1", "Patient")):
        _, body, _ = await caller.ask("PUT", path, json.dumps({"resourceType": kind}).encode())
        versions.append(int(json.loads(body)["meta"]["versionId"]))
    assert versions == [versions[0], versions[0] + 1, versions[0] + 2]


async def test_a_deletion_leaves_a_mark_and_can_be_undone_by_a_put(caller: Caller) -> None:
    path = f"Appointment/{caller.first().id}"
    assert code((await caller.ask("DELETE", path, If_Match='W/"1"'))[1]) == "conflict"
    assert (await caller.ask("DELETE", path, If_Match='W/"1"'))[0] == 412
    status, body, _ = await caller.ask("DELETE", path)
    assert status == 200
    assert (await caller.ask("DELETE", path))[0] == 204
    gone = await caller.ask("GET", path)
    assert (gone[0], code(gone[1])) == (410, "deleted")
    assert (await caller.ask("PATCH", path, b"{}"))[0] == 410
    assert (await caller.ask("PUT", path, body))[0] == 201


async def test_a_merge_patch_sets_and_removes(caller: Caller) -> None:
    path = f"Appointment/{caller.first().id}"
    patch = b'{"comment":null,"status":"pending","pasRecord":{"fee":2.00},"note":{"a":1}}'
    status, body, _ = await caller.ask("PATCH", path, patch)
    assert status == 200
    patched = read(body)
    assert "comment" not in patched
    assert (patched["status"], patched["pasRecord"]["fee"]) == ("pending", Number("2.00"))
    assert (await caller.ask("PATCH", path, patch, If_Match='"1"'))[0] == 409
    assert (await caller.ask("PATCH", path, b"[]"))[0] == 422
    assert (await caller.ask("PATCH", path, b"[]", Content_Type="application/json-patch+json"))[0] == 415


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "issue"),
    [
        pytest.param("GET", "Appointment/nothing", None, 404, "not-found", id="unknown id"),
        pytest.param("GET", "Basic/1", None, 404, "not-found", id="unknown type"),
        pytest.param("PUT", "Appointment/x", b"{", 400, "structure", id="malformed"),
        pytest.param("PUT", "Appointment/x", b"", 400, "structure", id="empty"),
        pytest.param("PUT", "Appointment/x", b"[]", 422, "invalid", id="no object"),
        pytest.param("POST", "Appointment", b"null", 422, "invalid", id="null"),
        pytest.param("PUT", "Appointment/x", b'{"resourceType":"Patient"}', 422, "invalid", id="wrong type"),
        pytest.param("PUT", "Patient/x", b'{"resourceType":"Patient","id":"y"}', 422, "invalid", id="another id"),
        pytest.param("GET", "Patient?colour=red", None, 422, "invalid", id="unknown search parameter"),
        pytest.param("GET", "Patient?_count=many", None, 422, "invalid", id="bad count"),
        pytest.param("PUT", "Appointment", b"{}", 405, "not-supported", id="no id"),
    ],
)
async def test_errors_are_operation_outcomes(
    caller: Caller, method: str, path: str, body: bytes | None, status: int, issue: str
) -> None:
    answer = await caller.ask(method, path, body)
    assert (answer[0], code(answer[1])) == (status, issue)
    assert not any(write.applied for write in caller.pkb.writes)


async def test_no_business_rule_stops_a_write(caller: Caller) -> None:
    nonsense = b'{"resourceType":"Appointment","status":"nonsense","meta":5,"participant":["x",{"actor":7}]}'
    assert (await caller.ask("PUT", f"Appointment/{caller.first('past').id}", nonsense))[0] == 200


@pytest.mark.parametrize(
    "query",
    [
        "Appointment?identifier={0.identifier}",
        "Appointment?actor:Patient.identifier={0.patient_identifier}",
        "Appointment?patient=Patient/patient-{0.id}&status=booked,cancelled",
        "Appointment?patient=patient-{0.id}",
        "Appointment?_id={0.id}",
    ],
)
async def test_a_search_finds_the_one_appointment(caller: Caller, query: str) -> None:
    booked = caller.first()
    status, body, _ = await caller.ask("GET", query.format(booked).replace("|", "%7C"))
    bundle = json.loads(body)
    assert (status, bundle["type"], bundle["total"]) == (200, "searchset", 1)
    assert [entry["resource"]["id"] for entry in bundle["entry"]] == [booked.id]


async def test_a_search_by_post_is_no_write_and_counts(caller: Caller) -> None:
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    status, body, _ = await caller.ask("POST", "Appointment/_search", b"status=booked&_count=2", **form)
    bundle = json.loads(body)
    assert status == 200
    assert bundle["total"] > 2
    assert len(bundle["entry"]) == 2
    number = caller.first().patient_identifier.removeprefix(f"{NHS_NUMBER}|")
    _, body, _ = await caller.ask("GET", f"Patient?identifier={number}")
    assert json.loads(body)["total"] == 1
    assert caller.pkb.writes == []


# Tokens


@pytest.mark.parametrize(
    "header", ["", "Bearer made-up", "Basic Zm9vOmJhcg==", "Bearer"], ids=["none", "unknown", "basic", "empty"]
)
async def test_nothing_is_answered_without_a_good_token(caller: Caller, header: str) -> None:
    path = f"Appointment/{caller.first().id}"
    for method in ("GET", "PUT"):
        status, body, headers = await caller.ask(method, path, b"{}", Authorization=header)
        assert (status, code(body)) == (401, "login")
        assert headers["WWW-Authenticate"].startswith("Bearer")
    assert [(write.method, write.answer, write.applied) for write in caller.pkb.writes] == [("PUT", 401, False)]


async def test_a_client_that_was_not_let_into_the_box_is_forbidden(caller: Caller) -> None:
    await caller.log_in(STRANGER)
    status, body, _ = await caller.ask("GET", f"Appointment/{caller.first().id}")
    assert (status, code(body)) == (403, "forbidden")


async def test_a_token_expires(caller: Caller) -> None:
    path = f"Appointment/{caller.first().id}"
    caller.clock.now += timedelta(seconds=299)
    assert (await caller.ask("GET", path))[0] == 200
    caller.clock.now += timedelta(seconds=1)
    assert (await caller.ask("GET", path))[0] == 401


async def test_a_revoked_token_is_good_no_more(caller: Caller) -> None:
    caller.pkb.tokens.revoke()
    assert (await caller.ask("GET", f"Appointment/{caller.first().id}"))[0] == 401


async def test_the_token_answer_has_keycloaks_members(caller: Caller) -> None:
    credentials = base64.b64encode(f"{GATEWAY.client_id}:{GATEWAY.client_secret}".encode()).decode()
    headers = {"Authorization": f"Basic {credentials}"}
    form = {"grant_type": "client_credentials"}
    async with caller.session.post(caller.pkb.token_url, data=form, headers=headers) as answer:
        members = await answer.json()
    assert members["token_type"].lower() == "bearer"
    assert members["expires_in"] == 300
    assert "refresh_token" not in members
    claims = json.loads(base64.urlsafe_b64decode(members["access_token"].split(".")[1] + "=="))
    assert claims["azp"] == GATEWAY.client_id
    assert claims["iss"].endswith("/auth/realms/pkb")
    assert caller.pkb.tokens.issued == 2


@pytest.mark.parametrize(
    ("form", "authorization", "status", "error"),
    [
        pytest.param({"client_id": "pkb-gateway"}, None, 400, "invalid_request", id="no grant type"),
        pytest.param({"grant_type": "password"}, None, 400, "unsupported_grant_type", id="another grant type"),
        pytest.param({"grant_type": "client_credentials"}, None, 401, "invalid_client", id="no credentials"),
        pytest.param(
            {"grant_type": "client_credentials", "client_id": "pkb-gateway", "client_secret": "wrong"},
            None,
            401,
            "invalid_client",
            id="wrong secret",
        ),
        pytest.param({"grant_type": "client_credentials"}, "Basic !", 401, "invalid_client", id="broken Basic"),
        pytest.param(b"{}", None, 400, "invalid_request", id="not a form"),
    ],
)
async def test_token_errors_say_which(
    caller: Caller, form: Any, authorization: str | None, status: int, error: str
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    async with caller.session.post(caller.pkb.token_url, data=form, headers=headers) as answer:
        members = await answer.json()
    assert answer.status == status
    assert members.keys() == {"error", "error_description"}
    assert members["error"] == error


async def test_an_unknown_box_is_not_found(caller: Caller) -> None:
    async with caller.session.get(f"{caller.pkb.box_url('nowhere')}/Patient/1") as answer:
        assert answer.status == 404


async def test_two_simulators_cannot_share_a_port(caller: Caller) -> None:
    second = Simulator(NOW)
    with pytest.raises(RuntimeError):
        _ = second.url
    with pytest.raises(OSError, match="in use"):
        await second.start(port=int(caller.pkb.url.rpartition(":")[2]))
    await second.close()


async def test_many_requests_at_once_are_answered(caller: Caller) -> None:
    path = f"Appointment/{caller.first().id}"
    answers = await asyncio.gather(*(caller.ask("GET", path) for _ in range(200)))
    assert {answer[0] for answer in answers} == {200}
