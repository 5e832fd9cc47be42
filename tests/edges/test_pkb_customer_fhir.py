"""Reads from a box, whatever it answers."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from datetime import date

import pytest

from gateway.domain.appointment import Patient
from gateway.domain.codes import Code
from gateway.flow.ports import UpstreamFault
from gateway.pkb.http import HttpClient
from tests.edges.pkb_bench import (
    CUSTOMER,
    GET,
    HALF,
    HTML,
    HUGE,
    PATIENT,
    TOKEN,
    Bench,
    box,
    box_at,
    granted,
    soon,
)
from tests.edges.pkb_documents import appointment, participant, patient
from tests.edges.raw_upstream import HANG_UP, Reply, raw_upstream, reply


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with box() as bench:
        yield bench


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
    monkeypatch.setattr(bench.box._patients.recent, "clock", lambda: real() + 30.5)
    await bench.box.read(CUSTOMER, "a1", soon() + 60, fresh=False)
    assert bench.upstream.count(PATIENT) == 3
    assert bench.upstream.count(GET) == 4


async def test_only_so_many_patients_are_kept(bench: Bench) -> None:
    bench.box._patients.recent.places = 1
    other = reply(200, appointment(participant=[participant("Patient/p2")]))
    bench.upstream.on(GET, reply(200, appointment()), other, reply(200, appointment()))
    bench.upstream.on("GET /fhir/Patient/p2", reply(200, patient(id="p2")))

    for _ in range(3):
        await bench.read(fresh=False)

    assert bench.upstream.count(PATIENT) == 2


@pytest.mark.parametrize("url", ["ftp://box.example", "https://me@box.example/fhir", "https://box.example/../fhir"])
async def test_a_bad_base_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        box_at(url, "https://iam.example", HttpClient("gateway/test"), [])
