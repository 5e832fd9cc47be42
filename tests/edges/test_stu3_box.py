"""An STU3 box on a raw server: partners see R4, the box gets its own STU3 back."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.domain.appointment import Change, Patient, Status
from gateway.flow.ports import Doubt, NotSent, Written
from gateway.pkb.credentials import TokenSettings
from gateway.pkb.customer_fhir import BoxSettings, CustomerFhir
from gateway.pkb.http import HttpClient
from gateway.pkb.line import Line
from tests.edges.pkb_bench import CANCEL, CUSTOMER, GET, PUT, SENDER, Bench, box, soon
from tests.edges.pkb_documents import appointment
from tests.edges.raw_upstream import document_of, reply
from tests.edges.stu3_documents import PAT, SPOC, STU3_ONLY, cancelled_at_leeds, leeds, reason_extension


def settings(bench: Bench) -> BoxSettings:
    url = bench.upstream.url
    return BoxSettings(f"{url}/fhir", TokenSettings(f"{url}/token", "gateway", "secret"), fhir_version="STU3")


def edge(settings: BoxSettings, http: HttpClient) -> CustomerFhir:
    return CustomerFhir(settings, Line(http, "leeds-box"), lambda: 0.0, lambda _event, /, **_facts: None)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with box() as bench, HttpClient("gateway/test") as http:
        speaks_stu3 = edge(settings(bench), http)
        bench.upstream.on(GET, reply(200, leeds(), {"ETag": 'W/"17"'}))
        bench.upstream.on(PUT, reply(200, cancelled_at_leeds()))
        yield replace(bench, box=speaks_stu3)
        await speaks_stu3.close()


async def test_a_read_shows_r4_with_every_number_as_pkb_wrote_it(bench: Bench) -> None:
    raw = b'{"tariff": 1.10,' + json.dumps(leeds()).encode()[1:]
    bench.upstream.on(GET, reply(200, raw))

    found = await bench.sighting()

    assert found.body.startswith(b'{"tariff": 1.10,')
    shown = json.loads(found.body)
    assert shown["reasonCode"] == STU3_ONLY["reason"]
    assert shown["serviceCategory"] == [STU3_ONLY["serviceCategory"]]
    assert found.appointment.patient is not None
    assert found.appointment.patient.reference == "Patient/p1"
    assert found.appointment.locations == ("Clinic 4",)


async def test_a_cancel_gives_the_box_its_own_document_back(bench: Bench) -> None:
    raw = b'{"tariff": 1.10,' + json.dumps(leeds()).encode()[1:]
    bench.upstream.on(GET, reply(200, raw))

    answer = await bench.write()

    (sent,) = bench.upstream.all(PUT)
    assert sent.headers["if-match"] == 'W/"17"'
    assert sent.body.startswith(b'{"tariff": 1.10,')
    expected = leeds(status="cancelled", extension=[SPOC, reason_extension()])
    assert document_of(sent) == expected | {"tariff": 1.1}
    assert isinstance(answer, Written)
    assert (answer.sighting.appointment.status, answer.sighting.appointment.cancel_reason) == (Status.CANCELLED, "pat")
    shown = json.loads(answer.sighting.body)
    assert (shown["cancelationReason"], shown["extension"]) == (PAT, [SPOC])


async def test_what_a_write_shows_can_be_written_again(bench: Bench) -> None:
    bench.upstream.on(PUT, reply(200, leeds(meta={"versionId": "18"})), reply(200, cancelled_at_leeds("19")))
    first = await bench.box.write(CUSTOMER, Change(comment="New."), await bench.sighting(), soon(), sender=SENDER)
    assert isinstance(first, Written)

    assert isinstance(await bench.box.write(CUSTOMER, CANCEL, first.sighting, soon(), sender=SENDER), Written)
    again = document_of(bench.upstream.all(PUT)[1])
    assert {name: again[name] for name in STU3_ONLY} == STU3_ONLY


async def test_the_reason_is_seen_in_a_read_after_a_doubtful_answer(bench: Bench) -> None:
    bench.upstream.on(PUT, reply(500))
    assert isinstance(await bench.write(), Doubt)

    bench.upstream.on(GET, reply(200, cancelled_at_leeds()))

    assert (await bench.sighting()).appointment.cancel_reason == "pat"


async def test_a_route_may_keep_no_reason(bench: Bench) -> None:
    async with HttpClient("gateway/test") as http:
        terse = edge(replace(settings(bench), cancelation_reason="drop"), http)

        await terse.write(CUSTOMER, CANCEL, await bench.sighting(), soon(), sender=SENDER)
        await terse.close()

    assert document_of(bench.upstream.all(PUT)[0]) == leeds(status="cancelled")


async def test_a_new_place_is_written_in_stu3(bench: Bench) -> None:
    await bench.box.write(CUSTOMER, Change(location="Clinic 5"), await bench.sighting(), soon(), sender=SENDER)

    actor = document_of(bench.upstream.all(PUT)[0])["participant"][2]["actor"]
    assert actor == leeds()["participant"][2]["actor"] | {"display": "Clinic 5"}


async def test_a_document_that_cannot_take_a_reason_is_not_sent(bench: Bench) -> None:
    bench.upstream.on(GET, reply(200, leeds(extension={"url": "x"})))

    assert isinstance(await bench.write(), NotSent)
    assert bench.upstream.count(PUT) == 0


async def test_an_answer_that_cannot_be_told_in_r4_proves_nothing(bench: Bench) -> None:
    broken = [{"actor": {"display": "x", "extension": {}}}]
    bench.upstream.on(PUT, reply(200, cancelled_at_leeds(participant=broken)))

    assert isinstance(await bench.write(), Doubt)


async def test_patients_are_read_as_ever(bench: Bench) -> None:
    bench.upstream.on(GET, reply(200, appointment()))
    found = await bench.sighting()

    assert isinstance(found.appointment.patient, Patient)
    assert found.appointment.provenance.managing_organisation == "Organization/airedale"
