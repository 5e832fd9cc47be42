"""Writes to a box: once, and only a clear no is a no."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date

import pytest

from gateway.domain.appointment import Change, Patient, Status
from gateway.domain.codes import Code
from gateway.flow.ports import Doubt, NotSent, Turned, Written
from gateway.pkb.credentials import TokenSettings
from gateway.pkb.customer_fhir import BoxSettings, CustomerFhir
from gateway.pkb.http import HttpClient
from gateway.pkb.line import Line
from tests.edges.pkb_bench import (
    CANCEL,
    CUSTOMER,
    GET,
    HALF,
    HTML,
    HUGE,
    PATIENT,
    PUT,
    SENDER,
    TOKEN,
    Bench,
    box,
    box_at,
    cancelled,
    granted,
    soon,
)
from tests.edges.pkb_documents import appointment, meta, participant, patient
from tests.edges.raw_upstream import HANG_UP, RawUpstream, Reply, document_of, raw_upstream, reply


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with box() as bench:
        yield bench


async def test_a_write_sends_the_copy_with_its_new_values_under_its_version(bench: Bench) -> None:
    raw = b'{"tariff": 1.10,' + json.dumps(appointment()).encode()[1:]
    bench.upstream.on(GET, reply(200, raw))

    answer = await bench.write()

    sent = bench.upstream.all(PUT)
    assert len(sent) == 1
    assert sent[0].headers["if-match"] == 'W/"17"'
    assert sent[0].headers["content-type"] == "application/fhir+json"
    assert sent[0].headers["authorization"] == "Bearer t1"
    assert b'"tariff": 1.10' in sent[0].body
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

    assert isinstance(await bench.box.write(CUSTOMER, CANCEL, first.sighting, soon(), sender=SENDER), Written)
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

    answer = await bench.box.write(CUSTOMER, CANCEL, sighting, deadline, sender=SENDER)

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
        box = CustomerFhir(settings, Line(http, "airedale-box"), lambda: 0.0, broken)

        assert isinstance(await box.write(CUSTOMER, CANCEL, sighting, soon(), sender=SENDER), Doubt)


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

            answer = await down.write(CUSTOMER, CANCEL, sighting, soon(), sender=SENDER)

    assert isinstance(answer, NotSent)


async def test_a_connection_that_was_never_made_is_tried_again(bench: Bench) -> None:
    sighting = await bench.sighting()
    async with HttpClient("gateway/test") as http:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
            late = box_at(f"http://127.0.0.1:{port}", bench.upstream.url, http, [])
            writing = asyncio.create_task(late.write(CUSTOMER, CANCEL, sighting, soon(), sender=SENDER))
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

    assert isinstance(await bench.box.write(CUSTOMER, CANCEL, sighting, soon(), sender=SENDER), NotSent)
    assert bench.upstream.count(PUT) == 0


async def test_a_token_that_comes_at_the_second_try_is_good_for_a_write(bench: Bench) -> None:
    sighting = await bench.sighting()
    bench.upstream.on(TOKEN, reply(503), granted("t9"))
    bench.box._credentials.drop("t1")

    assert isinstance(await bench.box.write(CUSTOMER, CANCEL, sighting, soon(), sender=SENDER), Written)


async def test_a_command_without_a_form_in_fhir_is_not_sent(bench: Bench) -> None:
    command = Change(management_url="https://x.example")

    answer = await bench.box.write(CUSTOMER, command, await bench.sighting(), soon(), sender=SENDER)

    assert isinstance(answer, NotSent)
    assert bench.upstream.count(PUT) == 0


async def test_a_sighting_of_somebody_else_is_a_mistake_of_ours(bench: Bench) -> None:
    sighting = replace(await bench.sighting(), document=None)

    with pytest.raises(AssertionError):
        await bench.box.write(CUSTOMER, CANCEL, sighting, soon(), sender=SENDER)
