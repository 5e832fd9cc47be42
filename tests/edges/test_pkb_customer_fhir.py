import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.domain.appointment import CANCEL_REASON_SYSTEM, Cancel, Change, Patient, Status
from gateway.domain.codes import Code
from gateway.domain.grant import Coding, Customer, CustomerKind, Ownership, Route, RouteKind
from gateway.flow.ports import Doubt, NotSent, Sighting, Turned, Upstream, UpstreamFault, WriteAnswer, Written
from gateway.pkb.breaker import BreakerState
from gateway.pkb.credentials import TokenSettings
from gateway.pkb.customer_fhir import BoxSettings, CustomerFhir
from gateway.pkb.http import LARGEST_ANSWER, HttpClient
from tests.edges.pkb_documents import appointment, meta, participant, patient
from tests.edges.raw_upstream import HANG_UP, RawUpstream, Reply, document_of, raw_upstream, reply

CUSTOMER = Customer(
    "airedale",
    "Airedale",
    CustomerKind.ORGANISATION,
    "Organization/airedale",
    Route("airedale-box", RouteKind.CUSTOMER_FHIR, Ownership.MANAGING_ORGANISATION),
    ZoneInfo("Europe/London"),
    frozenset({"GENERAL_HEALTH"}),
)
CANCEL = Cancel((Coding(CANCEL_REASON_SYSTEM, "pat"),), reason_text="Moved away")
GET = "GET /fhir/Appointment/a1"
PUT = "PUT /fhir/Appointment/a1"
PATIENT = "GET /fhir/Patient/p1"
TOKEN = "POST /token"


@dataclass
class Bench:
    """A box on a raw server, and the edge that speaks to it."""

    upstream: RawUpstream
    box: CustomerFhir
    alarms: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    async def read(self, seconds: float = 5.0, *, fresh: bool = True) -> Sighting | None:
        port: Upstream = self.box
        return await port.read(CUSTOMER, "a1", soon(seconds), fresh=fresh)

    async def fault(self, seconds: float = 5.0) -> UpstreamFault:
        with pytest.raises(UpstreamFault) as caught:
            await self.read(seconds)
        return caught.value

    async def sighting(self) -> Sighting:
        found = await self.read()
        assert found is not None
        return found

    async def write(self, seconds: float = 5.0) -> WriteAnswer:
        return await self.box.write(CUSTOMER, CANCEL, await self.sighting(), soon(seconds))


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


def box_at(url: str, token_url: str, http: HttpClient, alarms: list[tuple[str, dict[str, object]]]) -> CustomerFhir:
    def alarm(event: str, /, **facts: object) -> None:
        alarms.append((event, facts))

    settings = BoxSettings(f"{url}/fhir", TokenSettings(f"{token_url}/token", "gateway", "secret"))
    return CustomerFhir("airedale-box", settings, http, lambda: 0.0, alarm)


def granted(token: str) -> Reply:
    return reply(200, {"access_token": token, "token_type": "bearer", "expires_in": 3600})


def cancelled(version: str = "18", **members: Any) -> dict[str, Any]:
    reason = {"coding": [{"system": CANCEL_REASON_SYSTEM, "code": "pat"}]}
    document = {"meta": {"versionId": version}, "status": "cancelled", "cancelationReason": reason}
    return appointment(**(document | members))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with raw_upstream() as upstream, HttpClient("gateway/test") as http:
        alarms: list[tuple[str, dict[str, object]]] = []
        bench = Bench(upstream, box_at(upstream.url, upstream.url, http, alarms), alarms)
        upstream.on(TOKEN, granted("t1"), granted("t2"), granted("t3"))
        upstream.on(GET, reply(200, appointment(), {"ETag": 'W/"17"'}))
        upstream.on(PATIENT, reply(200, patient()))
        upstream.on(PUT, reply(200, cancelled()))
        yield bench
        await bench.box.close()


async def test_a_read_tells_the_appointment_and_its_patient(bench: Bench) -> None:
    raw = b'{ "tariff": 1.10, ' + json.dumps(appointment()).encode()[1:]
    bench.upstream.on(GET, reply(200, raw))

    found = await bench.sighting()

    assert found.body == raw
    assert found.appointment.version == "17"
    assert found.appointment.patient == Patient("Patient/p1", "9990548609", date(1960, 2, 29))
    assert found.appointment.provenance.managing_organisation == "Organization/airedale"
    assert [f"{heard.method} {heard.target}" for heard in bench.upstream.heard] == [TOKEN, GET, PATIENT]
    assert bench.upstream.heard[1].headers["authorization"] == "Bearer t1"
    assert bench.upstream.heard[1].headers["accept"] == "application/fhir+json"


@pytest.mark.parametrize("status", [404, 410])
async def test_an_absent_appointment_is_none(bench: Bench, status: int) -> None:
    bench.upstream.on(GET, reply(status, b"<html>"))

    assert await bench.read() is None
    assert bench.upstream.count(GET) == 1
    assert bench.upstream.count(PATIENT) == 0


@pytest.mark.parametrize("id_", [".", "..", "a/b", "", "é"])
async def test_an_id_that_is_none_is_never_asked_for(bench: Bench, id_: str) -> None:
    assert await bench.box.read(CUSTOMER, id_, soon(), fresh=True) is None
    assert bench.upstream.heard == []


async def test_an_absent_patient_proves_no_owner(bench: Bench) -> None:
    bench.upstream.on(PATIENT, reply(404))

    found = await bench.sighting()

    assert found.appointment.patient is None
    assert found.appointment.provenance.patients == 0


async def test_several_patients_are_not_asked_for(bench: Bench) -> None:
    bench.upstream.on(GET, reply(200, appointment(participant=[participant("Patient/p1"), participant("Patient/p2")])))

    assert (await bench.sighting()).appointment.provenance.patients == 2
    assert bench.upstream.count(PATIENT) == 0


HTML = reply(200, b"<html>Sign in</html>", {"Content-Type": "text/html"})
HUGE = reply(200, b" " * (LARGEST_ANSWER + 1))
HALF = reply(200, b'{"resourceType"', length=500, close=True)

# What a read is answered with, how it is told, and how often it was asked.
READS = [
    pytest.param(reply(400), Code.UPSTREAM_INVALID, 1, id="400"),
    pytest.param(reply(403), Code.UPSTREAM_REFUSED, 1, id="403"),
    pytest.param(reply(401), Code.UPSTREAM_REFUSED, 2, id="401 twice"),
    pytest.param(reply(406), Code.UPSTREAM_INVALID, 1, id="406"),
    pytest.param(reply(422), Code.UPSTREAM_INVALID, 1, id="422"),
    pytest.param(reply(201, appointment()), Code.UPSTREAM_INVALID, 1, id="201"),
    pytest.param(reply(204), Code.UPSTREAM_INVALID, 1, id="204"),
    pytest.param(reply(304), Code.UPSTREAM_INVALID, 1, id="304"),
    pytest.param(reply(600), Code.UPSTREAM_INVALID, 1, id="600"),
    pytest.param(HTML, Code.UPSTREAM_INVALID, 1, id="HTML"),
    pytest.param(reply(200), Code.UPSTREAM_INVALID, 1, id="an empty body"),
    pytest.param(HUGE, Code.UPSTREAM_INVALID, 1, id="a huge body"),
    pytest.param(reply(200, b"x", {"Content-Encoding": "gzip"}), Code.UPSTREAM_INVALID, 1, id="gzip"),
    pytest.param(reply(200, appointment(), length=40), Code.UPSTREAM_INVALID, 1, id="a length too short"),
    pytest.param(reply(200, patient()), Code.UPSTREAM_INVALID, 1, id="another resource type"),
    pytest.param(reply(200, appointment(id="a2")), Code.UPSTREAM_INVALID, 1, id="another appointment"),
    pytest.param(reply(200, appointment(start="2026-04-14T09:30:00")), Code.UPSTREAM_INVALID, 1, id="no offset"),
    pytest.param(reply(200, appointment(), {"ETag": 'W/"9"'}), Code.UPSTREAM_INVALID, 1, id="two versions"),
    pytest.param(reply(408), Code.UPSTREAM_UNAVAILABLE, 3, id="408"),
    pytest.param(reply(429), Code.UPSTREAM_UNAVAILABLE, 3, id="429"),
    pytest.param(reply(500), Code.UPSTREAM_UNAVAILABLE, 3, id="500"),
    pytest.param(reply(503), Code.UPSTREAM_UNAVAILABLE, 3, id="503"),
    pytest.param(HANG_UP, Code.UPSTREAM_UNAVAILABLE, 3, id="dropped"),
    pytest.param(HALF, Code.UPSTREAM_UNAVAILABLE, 3, id="half a body"),
]


@pytest.mark.parametrize(("answer", "code", "asked"), READS)
async def test_a_read_that_comes_to_nothing(bench: Bench, answer: Reply, code: Code, asked: int) -> None:
    bench.upstream.on(GET, answer)

    assert (await bench.fault()).code is code
    assert bench.upstream.count(GET) == asked
    assert bench.upstream.count(PATIENT) == 0


@pytest.mark.parametrize(
    ("answer", "code", "asked"),
    [
        pytest.param(reply(403), Code.UPSTREAM_REFUSED, 1, id="403"),
        pytest.param(HTML, Code.UPSTREAM_INVALID, 1, id="HTML"),
        pytest.param(reply(200, patient(id="p2")), Code.UPSTREAM_INVALID, 1, id="another patient"),
        pytest.param(reply(503), Code.UPSTREAM_UNAVAILABLE, 3, id="503"),
    ],
)
async def test_a_read_without_its_patient(bench: Bench, answer: Reply, code: Code, asked: int) -> None:
    bench.upstream.on(PATIENT, answer)

    assert (await bench.fault()).code is code
    assert bench.upstream.count(PATIENT) == asked


async def test_a_status_is_kept_for_the_record(bench: Bench) -> None:
    bench.upstream.on(GET, reply(403))

    assert (await bench.fault()).status == 403


@pytest.mark.parametrize("failing", [reply(503), HANG_UP, HALF], ids=["503", "dropped", "half a body"])
async def test_two_failures_are_made_good_by_the_third_try(bench: Bench, failing: Reply) -> None:
    bench.upstream.on(GET, failing, failing, reply(200, appointment()))

    assert await bench.read() is not None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_read_is_not_led_elsewhere(bench: Bench, status: int) -> None:
    async with raw_upstream() as elsewhere:
        bench.upstream.on(GET, reply(status, headers={"Location": f"{elsewhere.url}/fhir/Appointment/a1"}))

        assert (await bench.fault()).code is Code.UPSTREAM_INVALID
        assert elsewhere.connections == 0


async def test_a_slow_read_ends_at_its_deadline(bench: Bench) -> None:
    await bench.read()
    bench.upstream.on(GET, reply(200, appointment(), wait=3))

    assert (await bench.fault(0.1)).code is Code.UPSTREAM_TIMEOUT
    assert bench.upstream.count(GET) == 2


async def test_a_slow_patient_ends_at_the_same_deadline(bench: Bench) -> None:
    await bench.read()
    bench.upstream.on(PATIENT, reply(200, patient(), wait=3))

    assert (await bench.fault(0.1)).code is Code.UPSTREAM_TIMEOUT


async def test_a_read_without_time_is_not_begun(bench: Bench) -> None:
    await bench.read()

    assert (await bench.fault(-1.0)).code is Code.UPSTREAM_TIMEOUT
    assert bench.upstream.count(GET) == 1


async def test_a_retry_that_would_be_too_late_is_not_made(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.pkb.answers.SHORTEST_PAUSE", 60.0)
    await bench.read()
    bench.upstream.on(GET, reply(503))

    assert (await bench.fault()).code is Code.UPSTREAM_UNAVAILABLE
    assert bench.upstream.count(GET) == 2


async def test_a_box_that_is_down_is_unavailable() -> None:
    async with raw_upstream() as tokens, HttpClient("gateway/test") as http:
        tokens.on(TOKEN, granted("t1"))
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            box = box_at(f"http://127.0.0.1:{held.getsockname()[1]}", tokens.url, http, [])

            with pytest.raises(UpstreamFault) as caught:
                await box.read(CUSTOMER, "a1", soon(), fresh=True)

    assert caught.value.code is Code.UPSTREAM_UNAVAILABLE


async def test_a_refused_token_is_replaced_once_and_the_read_repeated(bench: Bench) -> None:
    bench.upstream.on(GET, reply(401), reply(200, appointment()))

    assert await bench.read() is not None
    assert [heard.headers["authorization"] for heard in bench.upstream.all(GET)] == ["Bearer t1", "Bearer t2"]
    assert bench.upstream.all(PATIENT)[0].headers["authorization"] == "Bearer t2"


async def test_many_refused_reads_share_one_new_token(bench: Bench) -> None:
    await bench.read()
    bench.upstream.on(GET, *([reply(401)] * 20), reply(200, appointment()))

    await asyncio.gather(*(bench.read() for _ in range(20)))

    assert bench.upstream.count(TOKEN) == 2


@pytest.mark.parametrize(
    ("answer", "code", "asked"),
    [
        pytest.param(reply(401), Code.UPSTREAM_REFUSED, 1, id="401"),
        pytest.param(HTML, Code.UPSTREAM_INVALID, 1, id="HTML"),
        pytest.param(reply(503), Code.UPSTREAM_UNAVAILABLE, 3, id="503"),
        pytest.param(HANG_UP, Code.UPSTREAM_UNAVAILABLE, 3, id="dropped"),
    ],
)
async def test_a_read_without_a_token(bench: Bench, answer: Reply, code: Code, asked: int) -> None:
    bench.upstream.on(TOKEN, answer)

    assert (await bench.fault()).code is code
    assert bench.upstream.count(TOKEN) == asked
    assert bench.upstream.count(GET) == 0


async def test_a_patient_is_kept_for_thirty_seconds_unless_it_must_be_fresh(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.read(fresh=True)
    await bench.read(fresh=False)
    assert bench.upstream.count(PATIENT) == 1
    await bench.read(fresh=True)
    assert bench.upstream.count(PATIENT) == 2

    real = asyncio.get_running_loop().time
    monkeypatch.setattr(bench.box, "_clock", lambda: real() + 30.5)
    await bench.box.read(CUSTOMER, "a1", soon() + 60, fresh=False)
    assert bench.upstream.count(PATIENT) == 3
    assert bench.upstream.count(GET) == 4


async def test_only_so_many_patients_are_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.pkb.customer_fhir.PATIENTS_KEPT", 1)
    other = reply(200, appointment(participant=[participant("Patient/p2")]))
    bench.upstream.on(GET, reply(200, appointment()), other, reply(200, appointment()))
    bench.upstream.on("GET /fhir/Patient/p2", reply(200, patient(id="p2")))

    for _ in range(3):
        await bench.read(fresh=False)

    assert bench.upstream.count(PATIENT) == 2


async def test_a_write_sends_the_copy_with_its_new_values_under_its_version(bench: Bench) -> None:
    raw = b'{"tariff": 1.10,' + json.dumps(appointment()).encode()[1:]
    bench.upstream.on(GET, reply(200, raw))

    answer = await bench.write()

    sent = bench.upstream.all(PUT)
    assert len(sent) == 1
    assert sent[0].headers["if-match"] == 'W/"17"'
    assert sent[0].headers["content-type"] == "application/fhir+json"
    assert sent[0].headers["authorization"] == "Bearer t1"
    assert b'"tariff":1.10' in sent[0].body
    assert document_of(sent[0])["status"] == "cancelled"
    assert document_of(sent[0])["cancelationReason"]["text"] == "Moved away"
    assert isinstance(answer, Written)
    assert answer.status == 200
    assert answer.sighting.appointment.version == "18"
    assert answer.sighting.appointment.status is Status.CANCELLED
    assert answer.sighting.appointment.patient == Patient("Patient/p1", "9990548609", date(1960, 2, 29))
    assert json.loads(answer.sighting.body) == cancelled()
    assert bench.upstream.count(PATIENT) == 1


async def test_what_a_write_shows_can_be_written_again(bench: Bench) -> None:
    bench.upstream.on(PUT, reply(200, cancelled(status="booked")), reply(200, cancelled("19")))
    first = await bench.write()
    assert isinstance(first, Written)

    assert isinstance(await bench.box.write(CUSTOMER, CANCEL, first.sighting, soon()), Written)
    assert [heard.headers["if-match"] for heard in bench.upstream.all(PUT)] == ['W/"17"', 'W/"18"']


REFUSED = Code.UPSTREAM_REFUSED
WRITES = [
    pytest.param(reply(400), Turned(REFUSED, 400), id="400"),
    pytest.param(reply(401), Turned(REFUSED, 401), id="401"),
    pytest.param(reply(403), Turned(REFUSED, 403), id="403"),
    pytest.param(reply(404), Turned(Code.NOT_FOUND, 404), id="404"),
    pytest.param(reply(409), Turned(Code.VERSION_CONFLICT, 409), id="409"),
    pytest.param(reply(410), Turned(Code.NOT_FOUND, 410), id="410"),
    pytest.param(reply(412), Turned(Code.VERSION_CONFLICT, 412), id="412"),
    pytest.param(reply(412, b"{", length=99, close=True), Turned(Code.VERSION_CONFLICT, 412), id="412, half a body"),
    pytest.param(reply(422, b"<html>"), Turned(REFUSED, 422), id="422"),
    pytest.param(reply(429), Turned(REFUSED, 429), id="429"),
    pytest.param(reply(499), Turned(REFUSED, 499), id="499"),
]


@pytest.mark.parametrize(("answer", "expected"), WRITES)
async def test_a_write_that_is_turned_down(bench: Bench, answer: Reply, expected: Turned) -> None:
    bench.upstream.on(PUT, answer)

    assert await bench.write() == expected
    assert bench.upstream.count(PUT) == 1


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(reply(201, cancelled()), 201, id="201"),
        pytest.param(reply(202), 202, id="202"),
        pytest.param(reply(204), 204, id="204"),
        pytest.param(reply(304), 304, id="304"),
        pytest.param(reply(408), 408, id="408"),
        pytest.param(reply(500), 500, id="500"),
        pytest.param(reply(502), 502, id="502"),
        pytest.param(reply(600), 600, id="600"),
        pytest.param(HTML, 200, id="HTML"),
        pytest.param(reply(200), 200, id="an empty body"),
        pytest.param(reply(200, cancelled("17")), 200, id="the same version"),
        pytest.param(reply(200, cancelled("9")), 200, id="an earlier version"),
        pytest.param(reply(200, cancelled(id="a2")), 200, id="another appointment"),
        pytest.param(reply(200, patient()), 200, id="another resource type"),
        pytest.param(reply(200, cancelled(), {"ETag": 'W/"99"'}), 200, id="two versions"),
        pytest.param(reply(200, cancelled(), length=30), None, id="a length too short"),
        pytest.param(HUGE, 200, id="a huge body"),
        pytest.param(HALF, 200, id="half a body"),
        pytest.param(HANG_UP, None, id="dropped"),
        pytest.param(Reply(b"I am no HTTP\r\n\r\n", close=True), None, id="not HTTP"),
    ],
)
async def test_a_write_that_proves_nothing_is_sent_once(bench: Bench, answer: Reply, status: int | None) -> None:
    bench.upstream.on(PUT, answer)

    doubt = await bench.write()

    assert isinstance(doubt, Doubt)
    assert doubt.status == status
    await asyncio.sleep(0.02)
    assert bench.upstream.count(PUT) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_write_is_not_led_elsewhere(bench: Bench, status: int) -> None:
    async with raw_upstream() as elsewhere:
        bench.upstream.on(PUT, reply(status, headers={"Location": f"{elsewhere.url}/fhir/Appointment/a1"}))

        answer = await bench.write()

        assert isinstance(answer, Doubt)
        assert answer.status == status
        assert elsewhere.connections == 0


async def test_a_slow_write_ends_in_doubt_at_its_deadline(bench: Bench) -> None:
    sighting = await bench.sighting()
    bench.upstream.on(PUT, reply(200, cancelled(), wait=3))
    deadline = soon(0.1)

    answer = await bench.box.write(CUSTOMER, CANCEL, sighting, deadline)

    assert isinstance(answer, Doubt)
    assert asyncio.get_running_loop().time() < deadline + 0.1
    assert bench.upstream.count(PUT) == 1


async def test_a_version_that_is_no_number_only_has_to_be_another(bench: Bench) -> None:
    bench.upstream.on(GET, reply(200, appointment(meta=meta(versionId="b"))))
    bench.upstream.on(PUT, reply(200, cancelled("a")))

    assert isinstance(await bench.write(), Written)


async def test_another_patient_in_the_answer_proves_no_owner(bench: Bench) -> None:
    bench.upstream.on(PUT, reply(200, cancelled(participant=[participant("Patient/p2")])))

    answer = await bench.write()

    assert isinstance(answer, Written)
    assert answer.sighting.appointment.patient is None
    assert answer.sighting.appointment.provenance.patients == 0


async def test_an_appointment_made_by_a_write_is_alarmed(bench: Bench) -> None:
    bench.upstream.on(PUT, reply(201, cancelled()))

    await bench.write()

    assert bench.alarms == [("write-created", {"route": "airedale-box", "appointment": "a1", "status": 201})]


async def test_an_alarm_that_fails_does_not_hide_the_doubt(bench: Bench) -> None:
    bench.upstream.on(PUT, reply(201, cancelled()))
    sighting = await bench.sighting()

    def broken(event: str, /, **facts: object) -> None:
        raise OSError(event)

    async with HttpClient("gateway/test") as http:
        settings = BoxSettings(f"{bench.upstream.url}/fhir", TokenSettings(f"{bench.upstream.url}/token", "g", "s"))
        box = CustomerFhir("airedale-box", settings, http, lambda: 0.0, broken)

        assert isinstance(await box.write(CUSTOMER, CANCEL, sighting, soon()), Doubt)


async def test_a_write_refused_for_its_token_drops_the_token(bench: Bench) -> None:
    bench.upstream.on(PUT, reply(401))
    await bench.write()

    await bench.read()

    assert bench.upstream.heard[-1].headers["authorization"] == "Bearer t2"
    assert bench.upstream.count(TOKEN) == 2


async def test_a_write_without_time_is_not_sent(bench: Bench) -> None:
    assert isinstance(await bench.write(-1.0), NotSent)
    assert bench.upstream.count(PUT) == 0


async def test_a_write_without_connection_is_not_sent(bench: Bench) -> None:
    sighting = await bench.sighting()
    async with HttpClient("gateway/test") as http:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            down = box_at(f"http://127.0.0.1:{held.getsockname()[1]}", bench.upstream.url, http, [])

            answer = await down.write(CUSTOMER, CANCEL, sighting, soon())

    assert isinstance(answer, NotSent)


async def test_a_connection_that_was_never_made_is_tried_again(bench: Bench) -> None:
    sighting = await bench.sighting()
    async with HttpClient("gateway/test") as http:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
            late = box_at(f"http://127.0.0.1:{port}", bench.upstream.url, http, [])
            writing = asyncio.create_task(late.write(CUSTOMER, CANCEL, sighting, soon()))
            await asyncio.sleep(0.03)
        raw = RawUpstream(port)
        raw.on(PUT, reply(200, cancelled(), close=True))
        async with await asyncio.start_server(raw.serve, "127.0.0.1", port):
            answer = await writing

    assert isinstance(answer, Written)
    assert raw.count(PUT) == 1


@pytest.mark.parametrize("failing", [reply(401), reply(503), HTML, HANG_UP], ids=["401", "503", "HTML", "dropped"])
async def test_a_write_without_a_token_is_not_sent(bench: Bench, failing: Reply) -> None:
    sighting = await bench.sighting()
    bench.upstream.on(TOKEN, failing)
    bench.box._credentials.drop("t1")

    assert isinstance(await bench.box.write(CUSTOMER, CANCEL, sighting, soon()), NotSent)
    assert bench.upstream.count(PUT) == 0


async def test_a_token_that_comes_at_the_second_try_is_good_for_a_write(bench: Bench) -> None:
    sighting = await bench.sighting()
    bench.upstream.on(TOKEN, reply(503), granted("t9"))
    bench.box._credentials.drop("t1")

    assert isinstance(await bench.box.write(CUSTOMER, CANCEL, sighting, soon()), Written)


async def test_a_command_without_a_form_in_fhir_is_not_sent(bench: Bench) -> None:
    command = Change(management_url="https://x.example")

    answer = await bench.box.write(CUSTOMER, command, await bench.sighting(), soon())

    assert isinstance(answer, NotSent)
    assert bench.upstream.count(PUT) == 0


def state(bench: Bench) -> BreakerState:
    return bench.box.state


async def test_twenty_failed_requests_open_the_breaker(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.pkb.answers.SHORTEST_PAUSE", 0.001)
    sighting = await bench.sighting()
    bench.upstream.on(GET, reply(503))
    for _ in range(20):
        assert bench.box.state is BreakerState.CLOSED
        await bench.fault()
    asked = bench.upstream.count(GET)

    fault = await bench.fault()
    answer = await bench.box.write(CUSTOMER, CANCEL, sighting, soon())

    assert state(bench) is BreakerState.OPEN
    assert fault.code is Code.UPSTREAM_UNAVAILABLE
    assert isinstance(answer, NotSent)
    assert asked == bench.upstream.count(GET) == 61
    assert bench.upstream.count(PUT) == 0


async def test_failed_writes_open_the_breaker(bench: Bench) -> None:
    sighting = await bench.sighting()
    bench.upstream.on(PUT, *([HANG_UP, reply(500)] * 10), reply(200, cancelled()))

    for _ in range(20):
        await bench.box.write(CUSTOMER, CANCEL, sighting, soon())

    assert state(bench) is BreakerState.OPEN


@pytest.mark.parametrize(
    "answer",
    [reply(404), reply(403), reply(422), reply(429), HTML, HUGE, reply(302)],
    ids=["404", "403", "422", "429", "HTML", "huge", "302"],
)
async def test_an_answer_on_purpose_never_opens_the_breaker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, answer: Reply
) -> None:
    monkeypatch.setattr("gateway.pkb.answers.SHORTEST_PAUSE", 0.001)
    sighting = await bench.sighting()
    bench.upstream.on(GET, answer)
    bench.upstream.on(PUT, answer)
    for _ in range(11):
        await asyncio.gather(bench.read(), return_exceptions=True)
        await bench.box.write(CUSTOMER, CANCEL, sighting, soon())

    assert state(bench) is BreakerState.CLOSED


async def test_requests_that_came_with_too_little_time_never_open_the_breaker(bench: Bench) -> None:
    sighting = await bench.sighting()
    bench.upstream.on(GET, reply(200, appointment(), wait=1))
    bench.upstream.on(PUT, reply(200, cancelled(), wait=1))

    await asyncio.gather(*(bench.read(0.05) for _ in range(15)), return_exceptions=True)
    await asyncio.gather(*(bench.box.write(CUSTOMER, CANCEL, sighting, soon(0.05)) for _ in range(15)))

    assert state(bench) is BreakerState.CLOSED


async def test_timeouts_with_enough_time_open_the_breaker(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.pkb.customer_fhir.FAIR_SECONDS", -60.0)
    bench.upstream.on(GET, reply(200, appointment(), wait=1))
    await asyncio.gather(*(bench.read(0.05) for _ in range(20)), return_exceptions=True)

    assert state(bench) is BreakerState.OPEN


async def test_a_sighting_of_somebody_else_is_a_mistake_of_ours(bench: Bench) -> None:
    sighting = replace(await bench.sighting(), document=None)

    with pytest.raises(AssertionError):
        await bench.box.write(CUSTOMER, CANCEL, sighting, soon())


@pytest.mark.parametrize("url", ["ftp://box.example", "https://me@box.example/fhir", "https://box.example/../fhir"])
async def test_a_bad_base_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        box_at(url, "https://iam.example", HttpClient("gateway/test"), [])
