import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from gateway.domain.appointment import Patient, Status
from gateway.domain.codes import Code
from gateway.domain.grant import Coding
from gateway.flow.ports import Sighting, UpstreamFault
from gateway.pkb.aggregated import ENCOUNTER_CLASS, Aggregated, AggregatedSettings, Carried, PersonName
from gateway.pkb.breaker import FAILURES, BreakerState
from gateway.pkb.credentials import TokenSettings
from gateway.pkb.http import HttpClient
from gateway.pkb.line import Line
from gateway.pkb.resources import Recent
from tests.edges.pkb_documents import LABEL, PKB, Absent, appointment, participant, patient
from tests.edges.raw_upstream import HANG_UP, RawUpstream, Reply, raw_upstream, reply

PLACER = f"{PKB}/id/external-data-point-id"
GET = "GET /fhir/Appointment/agg-1"
PATIENT = "GET /fhir/Patient/p1"
TOKEN = "POST /token"


def copy(**members: Any) -> dict[str, Any]:
    """An appointment as HL7 has left it on Aggregated."""
    document = {
        "id": "agg-1",
        "meta": {
            "versionId": "41",
            "security": [{"system": LABEL, "code": "GENERAL_HEALTH"}],
            "extension": [
                {
                    "url": f"{PKB}/structuredefinition/source-organisation",
                    "valueReference": {"reference": "Organization/bradford"},
                }
            ],
        },
        "extension": [{"url": ENCOUNTER_CLASS, "valueCoding": {"system": "urn:x", "code": "O"}}],
        "identifier": [
            {"system": PLACER, "value": "APPT000001"},
            {"system": f"{PKB}/id/legacy-data-point-id", "value": "77"},
        ],
        "specialty": [{"coding": [{"system": "urn:nhs", "code": "320"}, {"system": "urn:sct", "code": "394579002"}]}],
        "participant": [
            participant("Patient/p1", display="Ms Ada Test"),
            participant(None, display="Dr Jones (Consultant)"),
            participant(None, type="Location", display="Level 2"),
            participant("Practitioner/x", display="Nurse Smith"),
        ],
    }
    return appointment(**(document | members))


def person(**members: Any) -> dict[str, Any]:
    document = {"name": [{"use": "official", "family": "Test", "given": ["Ada", "M"]}], "managingOrganization": Absent}
    return patient(**(document | members))


def granted(token: str) -> Reply:
    return reply(200, {"access_token": token, "token_type": "bearer", "expires_in": 3600})


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


@dataclass
class Bench:
    upstream: RawUpstream
    aggregated: Aggregated

    async def read(self, seconds: float = 5.0, *, fresh: bool = True) -> Sighting | None:
        return await self.aggregated.read("agg-1", soon(seconds), fresh=fresh)

    async def sighting(self, **members: Any) -> Sighting:
        if members:
            self.upstream.on(GET, reply(200, copy(**members)))
        found = await self.read()
        assert found is not None
        return found

    async def carried(self, **members: Any) -> Carried:
        carried = (await self.sighting(**members)).document
        assert isinstance(carried, Carried)
        return carried

    async def fault(self, seconds: float = 5.0) -> UpstreamFault:
        with pytest.raises(UpstreamFault) as caught:
            await self.read(seconds)
        return caught.value


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with raw_upstream() as upstream, HttpClient("gateway/test") as http:
        token = TokenSettings(f"{upstream.url}/token", "gateway", "secret")
        aggregated = Aggregated(AggregatedSettings(f"{upstream.url}/fhir", token, PLACER), Line(http), lambda: 0.0)
        upstream.on(TOKEN, granted("t1"), granted("t2"), granted("t3"))
        upstream.on(GET, reply(200, copy(), {"ETag": 'W/"41"'}))
        upstream.on(PATIENT, reply(200, person()))
        yield Bench(upstream, aggregated)
        await aggregated.close()


async def test_a_read_tells_what_hl7_knows_the_appointment_by(bench: Bench) -> None:
    raw = b'{ "tariff": 1.10, ' + json.dumps(copy()).encode()[1:]
    bench.upstream.on(GET, reply(200, raw))

    found = await bench.sighting()

    facts = found.appointment
    assert found.body == raw
    assert (facts.id, facts.version, facts.status) == ("agg-1", "41", Status.BOOKED)
    assert facts.placer_id == "APPT000001"
    assert facts.provenance.source_organisations == ("Organization/bradford",)
    assert facts.provenance.patients == 1
    assert facts.patient == Patient("Patient/p1", "9990548609", date(1960, 2, 29))
    assert facts.labels == {"GENERAL_HEALTH"}
    assert facts.specialties == {Coding("urn:nhs", "320"), Coding("urn:sct", "394579002")}
    assert facts.locations == ("Level 2",)
    assert facts.participants == ("Dr Jones (Consultant)", "Nurse Smith")
    assert [f"{heard.method} {heard.target}" for heard in bench.upstream.heard] == [TOKEN, GET, PATIENT]
    assert bench.upstream.heard[1].headers["authorization"] == "Bearer t1"


async def test_a_read_keeps_what_a_message_must_repeat(bench: Bench) -> None:
    assert await bench.carried() == Carried(PersonName("Test", "Ada"), "O", ("320",))


@pytest.mark.parametrize(
    "identifiers",
    [
        [],
        [{"system": "https://other.example", "value": "APPT000001"}],
        [{"system": PLACER, "value": "A1"}, {"system": PLACER, "value": "A2"}],
        [{"value": "A1"}],
    ],
    ids=["none", "another-system", "two", "no-system"],
)
async def test_without_exactly_one_placer_id_there_is_none(bench: Bench, identifiers: list[Any]) -> None:
    assert (await bench.sighting(identifier=identifiers)).appointment.placer_id is None


async def test_the_same_placer_id_twice_is_one(bench: Bench) -> None:
    same = {"system": PLACER, "value": "A1"}

    assert (await bench.sighting(identifier=[same, same])).appointment.placer_id == "A1"


@pytest.mark.parametrize(
    ("extension", "told"),
    [
        ({"url": ENCOUNTER_CLASS, "valueCoding": {"code": "V"}}, "V"),
        ({"url": ENCOUNTER_CLASS, "valueCode": "V"}, "V"),
        ({"url": ENCOUNTER_CLASS, "valueCodeableConcept": {"coding": [{"code": "V"}]}}, "V"),
        ({"url": ENCOUNTER_CLASS, "valueString": "V"}, None),
        ({"url": ENCOUNTER_CLASS, "valueCoding": {"display": "virtual"}}, None),
        ({"url": "urn:other", "valueCoding": {"code": "V"}}, None),
    ],
    ids=["coding", "code", "concept", "string", "no-code", "another"],
)
async def test_the_encounter_class_is_pkbs_extension(bench: Bench, extension: Any, told: str | None) -> None:
    assert (await bench.carried(extension=[extension])).encounter_class == told


@pytest.mark.parametrize(
    ("specialties", "codes"),
    [
        (Absent, ()),
        ([{"text": "Heart"}], ()),
        ([{"coding": [{"display": "Cardiology"}, {"code": "320"}]}], ("320",)),
        ([{"coding": [{"code": "320"}]}, {"coding": [{"code": "360"}]}], ("320", "360")),
    ],
    ids=["none", "text", "second-coding", "two"],
)
async def test_each_specialty_gives_one_code(bench: Bench, specialties: Any, codes: tuple[str, ...]) -> None:
    assert (await bench.carried(specialty=specialties)).specialties == codes


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (Absent, PersonName()),
        ([], PersonName()),
        ([{"text": "Ada Test"}], PersonName()),
        ([{"use": "maiden", "family": "Old"}], PersonName()),
        ([{"use": "nickname", "given": ["Addy"]}, {"use": "usual", "family": "Test", "given": ["Ada"]}],
         PersonName("Test", "Ada")),
        ([{"family": "Usual"}, {"use": "official", "family": "Official"}], PersonName("Official")),
        ([{"family": "Te\rst", "given": ["Ada"]}], PersonName(None, "Ada")),
        ([{"family": 7, "given": "Ada"}], PersonName()),
        ([{"family": "Test", "given": []}], PersonName("Test")),
    ],
    ids=["absent", "empty", "text", "former", "usual", "official", "two-lines", "wrong-types", "no-given"],
)  # fmt: skip
async def test_the_name_is_the_one_to_be_called_by(bench: Bench, names: Any, told: PersonName) -> None:
    bench.upstream.on(PATIENT, reply(200, person(name=names)))

    assert (await bench.carried()).name == told


async def test_a_participant_without_display_is_kept_in_its_place(bench: Bench) -> None:
    people = [
        participant("Patient/p1"),
        participant(None, display="A"),
        {"status": "accepted"},
        participant("Device/d"),
    ]

    assert (await bench.sighting(participant=people)).appointment.participants == ("A", None, None)


async def test_nobody_is_told_of_an_appointment_whose_patient_is_unproven(bench: Bench) -> None:
    people = [participant("Patient/p1", display="Ada"), participant("Patient/p2", display="Bob")]

    found = await bench.sighting(participant=people)

    assert found.appointment.participants == ()
    assert found.appointment.patient is None
    assert bench.upstream.count(PATIENT) == 0


@pytest.mark.parametrize("status", [404, 410])
async def test_an_absent_appointment_is_none(bench: Bench, status: int) -> None:
    bench.upstream.on(GET, reply(status, b"<html>"))

    assert await bench.read() is None
    assert bench.upstream.count(GET) == 1


async def test_an_absent_patient_proves_no_owner(bench: Bench) -> None:
    bench.upstream.on(PATIENT, reply(404))

    found = await bench.sighting()

    assert found.appointment.provenance.patients == 0
    assert found.document == Carried(PersonName(), "O", ("320",))


@pytest.mark.parametrize("id_", [".", "..", "a/b", ""])
async def test_an_id_that_is_none_is_never_asked_for(bench: Bench, id_: str) -> None:
    assert await bench.aggregated.read(id_, soon(), fresh=True) is None
    assert bench.upstream.heard == []


@pytest.mark.parametrize(
    ("answers", "code", "times"),
    [
        ([reply(500)], Code.UPSTREAM_UNAVAILABLE, 3),
        ([reply(408)], Code.UPSTREAM_UNAVAILABLE, 3),
        ([reply(429)], Code.UPSTREAM_UNAVAILABLE, 3),
        ([HANG_UP], Code.UPSTREAM_UNAVAILABLE, 3),
        ([reply(401)], Code.UPSTREAM_REFUSED, 2),
        ([reply(403)], Code.UPSTREAM_REFUSED, 1),
        ([reply(400)], Code.UPSTREAM_INVALID, 1),
        ([reply(302, headers={"Location": "/fhir/Appointment/other"})], Code.UPSTREAM_INVALID, 1),
        ([reply(200, b"<html>")], Code.UPSTREAM_INVALID, 1),
        ([reply(200, copy(id="other"))], Code.UPSTREAM_INVALID, 1),
        ([reply(200, copy(start="2026-04-14T09:30:00"))], Code.UPSTREAM_INVALID, 1),
        ([reply(200, {"resourceType": "Bundle", "id": "agg-1"})], Code.UPSTREAM_INVALID, 1),
    ],
    ids=["500", "408", "429", "dropped", "401", "403", "400", "302", "html", "wrong", "no-offset", "bundle"],
)
async def test_an_answer_to_a_read_means_what_it_means_on_a_box(
    bench: Bench, answers: list[Reply], code: Code, times: int
) -> None:
    bench.upstream.on(GET, *answers)

    assert (await bench.fault()).code is code
    assert bench.upstream.count(GET) == times


async def test_a_refused_token_is_replaced_once(bench: Bench) -> None:
    bench.upstream.on(GET, reply(401), reply(200, copy()))

    assert (await bench.sighting()).appointment.version == "41"
    assert [heard.headers["authorization"] for heard in bench.upstream.all(GET)] == ["Bearer t1", "Bearer t2"]


async def test_the_deadline_is_the_callers(bench: Bench) -> None:
    bench.upstream.on(GET, reply(200, copy(), wait=5))

    assert (await bench.fault(0.2)).code is Code.UPSTREAM_TIMEOUT
    assert bench.aggregated.state is BreakerState.CLOSED


async def test_the_breaker_opens_after_enough_failed_reads(bench: Bench) -> None:
    bench.upstream.on(TOKEN, reply(503))
    for _ in range(FAILURES):
        assert (await bench.fault()).code is Code.UPSTREAM_UNAVAILABLE
    asked = len(bench.upstream.heard)

    assert bench.aggregated.state is BreakerState.OPEN
    assert (await bench.fault()).reason == "breaker open"
    assert len(bench.upstream.heard) == asked


async def test_a_patient_is_read_again_only_when_asked_freshly(bench: Bench) -> None:
    await bench.read(fresh=False)
    await bench.read(fresh=False)
    assert bench.upstream.count(PATIENT) == 1

    await bench.read(fresh=True)
    assert bench.upstream.count(PATIENT) == 2


async def test_a_patient_that_has_gone_is_not_remembered(bench: Bench) -> None:
    await bench.read()
    bench.upstream.on(PATIENT, reply(404))
    await bench.read(fresh=True)

    found = await bench.read(fresh=False)

    assert found is not None
    assert found.appointment.patient is None


def test_what_was_read_is_kept_for_a_while_and_the_oldest_makes_room() -> None:
    now = [100.0]
    recent = Recent[str](lambda: now[0], seconds=30, places=2)
    for id_ in ("a", "b", "c"):
        recent.keep(id_, now[0], id_.upper())

    assert [recent.get(id_) for id_ in "abc"] == [None, "B", "C"]
    now[0] = 130.0
    assert recent.get("c") == "C"
    now[0] = 130.1
    assert recent.get("c") is None
