"""A search as PKB gets it, to the byte, and what is made of lists that nobody should send."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.domain.appointment import NHS_NUMBER_SYSTEM, Status
from gateway.domain.codes import Code
from gateway.domain.grant import Coding
from gateway.domain.search import Query, Reach
from gateway.flow.ports import UpstreamFault
from gateway.flow.search import Finder, Page, Place
from gateway.pkb.aggregated import AggregatedSettings
from gateway.pkb.credentials import TokenSettings
from gateway.pkb.customer_fhir import BoxSettings, CustomerFhir
from gateway.pkb.hl7_route import Hl7Route, Hl7Settings
from gateway.pkb.http import LARGEST_ANSWER, HttpClient
from gateway.pkb.line import Line
from gateway.pkb.searching import PAGE_SIZE
from gateway.pkb.upstreams import RouteUpstream
from tests.edges.pkb_bench import CUSTOMER, TOKEN, granted, soon
from tests.edges.pkb_documents import NHS_NUMBER, appointment, participant, patient
from tests.edges.raw_upstream import HANG_UP, RawUpstream, Reply, raw_upstream, reply

PATIENT = Coding(NHS_NUMBER_SYSTEM, "9990548609")
QUERY = Query(PATIENT)
WHO = "actor:Patient.identifier=https://fhir.nhs.uk/Id/nhs-number%7C9990548609"
TAIL = "_sort=_id&_count=50&_page="
SEARCH = f"GET /fhir/Appointment?{WHO}&{TAIL}1"
PERSON = "GET /fhir/Patient/p1"


def entry(**members: Any) -> dict[str, Any]:
    return {"resource": appointment(**members), "search": {"mode": "match"}}


def listed(*entries: Any, more: bool = False, **members: Any) -> Reply:
    links = [{"relation": "next", "url": "http://elsewhere.example/steal"}] if more else []
    bundle = {"resourceType": "Bundle", "type": "searchset", "total": 7, "link": links, "entry": [*entries]}
    return reply(200, bundle | members)


@dataclass
class Bench:
    upstream: RawUpstream
    route: RouteUpstream

    async def page(
        self, query: Query = QUERY, reach: Reach | None = None, place: Place | None = None, seconds: float = 5.0
    ) -> Page:
        finder: Finder = self.route
        return await finder.search(CUSTOMER, query, reach or Reach(), place or Place(), soon(seconds))

    async def fault(self, seconds: float = 5.0) -> UpstreamFault:
        with pytest.raises(UpstreamFault) as caught:
            await self.page(seconds=seconds)
        return caught.value

    @property
    def searches(self) -> list[str]:
        return [heard.target for heard in self.upstream.heard if heard.target.startswith("/fhir/Appointment")]


def quiet(event: str, /, **facts: object) -> None:
    """Take an alarm that no search gives."""


def route_to(url: str, kind: str, http: HttpClient) -> RouteUpstream:
    token = TokenSettings(f"{url}/token", "gateway", "secret")
    match kind:
        case "hl7":
            read = AggregatedSettings(f"{url}/fhir", token, "urn:placer")
            return Hl7Route(Hl7Settings(f"{url}/hl7", "P", read), Line(http), lambda: 0.0, lambda _: None)
        case _:
            settings = BoxSettings(f"{url}/fhir", token, "STU3" if kind == "STU3" else "R4")
            return CustomerFhir(settings, Line(http), lambda: 0.0, quiet)


@asynccontextmanager
async def benched(kind: str) -> AsyncIterator[Bench]:
    async with raw_upstream() as upstream, HttpClient("gateway/test") as http:
        bench = Bench(upstream, route_to(upstream.url, kind, http))
        upstream.on(TOKEN, granted("t1"), granted("t2"))
        upstream.on(SEARCH, listed(entry()))
        upstream.on(PERSON, reply(200, patient()))
        yield bench
        await bench.route.close()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with benched("R4") as made:
        yield made


def ids(page: Page) -> list[str | None]:
    return [hit.appointment.id if hit else None for hit in page.hits]


# The way up

REACH = Reach(("Organization/a", "Organization/a-1"), (Coding("http://snomed.info/sct", "394579002"),))
WIDE = Query(
    PATIENT,
    Coding("urn:pas", "A 1/é&x"),
    datetime(2026, 4, 13, 23, tzinfo=UTC),
    datetime(2026, 4, 14, 23, 0, 0, 1, tzinfo=UTC),
    frozenset({Status.BOOKED, Status.PENDING}),
)
OWNER = "actor:Patient.organization=Organization/a%2COrganization/a-1"
DATES = "date=ge2026-04-13T23:00:00Z&date=lt2026-04-14T23:00:01Z"
FIELD = "specialty=http://snomed.info/sct%7C394579002"
OWN = "identifier=urn:pas%7CA%201/%C3%A9%26x"
STATUS = "status=booked%2Cpending"
SAID = {
    "R4 box": ("R4", WIDE, REACH, f"{WHO}&{OWN}&{OWNER}&{DATES}&{STATUS}&{FIELD}"),
    "STU3 box": ("STU3", WIDE, REACH, f"{WHO}&{OWN}&{OWNER}&{DATES}&{STATUS}"),
    "Aggregated": ("hl7", WIDE, Reach(), f"{WHO}&{OWN}&{DATES}&{STATUS}"),
    "a status that STU3 lacks": ("STU3", Query(PATIENT, statuses=frozenset({Status.WAITLIST})), Reach(), WHO),
    "a status of R4": ("R4", Query(PATIENT, statuses=frozenset({Status.WAITLIST})), Reach(), f"{WHO}&status=waitlist"),
    "an identifier alone": ("R4", Query(identifier=Coding("urn:pas", "1")), Reach(), "identifier=urn:pas%7C1"),
    "from a moment on": (
        "R4",
        Query(PATIENT, since=datetime(2026, 4, 14, 8, 30, 0, 500_000, tzinfo=UTC)),
        Reach(),
        f"{WHO}&date=ge2026-04-14T08:30:00Z",
    ),
    "a reference that is no single value": ("R4", QUERY, Reach(("Organization/a", "Organization/b,c")), WHO),
    "a specialty that is no single value": ("R4", QUERY, Reach((), (Coding("urn:x", "1|2"),)), WHO),
    "a specialty without system": ("R4", QUERY, Reach((), (Coding("", "1"),)), WHO),
}


@pytest.mark.parametrize(("kind", "query", "reach", "said"), SAID.values(), ids=SAID)
async def test_pkb_is_asked_in_its_own_words(kind: str, query: Query, reach: Reach, said: str) -> None:
    async with benched(kind) as bench:
        target = f"/fhir/Appointment?{said}&{TAIL}1"
        bench.upstream.on(f"GET {target}", listed())
        assert await bench.page(query, reach) == Page((), more=False)
        assert bench.searches == [target]


async def test_a_later_page_is_asked_for_by_its_number(bench: Bench) -> None:
    bench.upstream.on(f"GET /fhir/Appointment?{WHO}&{TAIL}3", listed(entry(id="a1"), entry(id="a2"), entry(id="a3")))
    page = await bench.page(place=Place(3, 1))
    assert ids(page) == ["a2", "a3"]


async def test_no_header_but_the_gateways_own_goes_up(bench: Bench) -> None:
    await bench.page()
    [heard] = bench.upstream.all(SEARCH)
    assert set(heard.headers) <= {"host", "authorization", "accept", "accept-encoding", "user-agent"}
    assert (heard.headers["authorization"], heard.body) == ("Bearer t1", b"")


# The way down


async def test_a_hit_is_read_like_a_read(bench: Bench) -> None:
    page = await bench.page()
    (hit,) = page.hits
    assert hit is not None
    read = await bench_read(bench)
    assert hit.appointment == read
    assert hit.identifiers == {PATIENT}
    assert json.loads(hit.body) == appointment()


async def bench_read(bench: Bench) -> Any:
    bench.upstream.on("GET /fhir/Appointment/a1", reply(200, appointment()))
    sighting = await bench.route.read(CUSTOMER, "a1", soon(), fresh=True)
    assert sighting is not None
    return sighting.appointment


async def test_numbers_stay_as_written(bench: Bench) -> None:
    text = json.dumps(appointment())[:-1] + ',"priority":1.10,"strange":{"big":1e400,"deep":[-0.0]}}'
    body = b'{"resourceType":"Bundle","type":"searchset","entry":[{"resource":%b}]}' % text.encode()
    bench.upstream.on(SEARCH, reply(200, body))
    (hit,) = (await bench.page()).hits
    assert hit is not None
    assert b'"priority":1.10,"strange":{"big":1e400,"deep":[-0.0]}' in hit.body


async def test_stu3_is_told_in_r4() -> None:
    async with benched("STU3") as bench:
        bench.upstream.on(SEARCH, listed(entry(reason=[{"text": "Follow-up"}])))
        (hit,) = (await bench.page()).hits
        assert hit is not None
        assert json.loads(hit.body)["reasonCode"] == [{"text": "Follow-up"}]


async def test_a_patient_is_read_once_for_all_its_appointments_and_kept_a_while(bench: Bench) -> None:
    bench.upstream.on(SEARCH, listed(*(entry(id=f"a{n}") for n in range(5))))
    assert len((await bench.page()).hits) == 5
    await bench.page()
    assert bench.upstream.count(PERSON) == 1


async def test_nobody_is_asked_for_the_patient_of_what_was_not_asked_for(bench: Bench) -> None:
    bench.upstream.on(f"GET /fhir/Appointment?{WHO}&status=cancelled&{TAIL}1", listed(entry()))
    page = await bench.page(Query(PATIENT, statuses=frozenset({Status.CANCELLED})))
    assert (page.hits, page.unreadable, bench.upstream.count(PERSON)) == ((None,), 0, 0)


async def test_the_numbers_of_the_patient_come_from_pkbs_own_patient(bench: Bench) -> None:
    local = {"system": "urn:hospital", "value": "77"}
    odd = [local, {"system": NHS_NUMBER, "value": "9990000018"}, {"value": "no system"}]
    bench.upstream.on(PERSON, reply(200, patient(identifier=odd)))
    (hit,) = (await bench.page()).hits
    assert hit is not None
    assert hit.identifiers == {Coding("urn:hospital", "77"), Coding(NHS_NUMBER_SYSTEM, "9990000018")}


async def test_an_absent_patient_proves_nothing(bench: Bench) -> None:
    bench.upstream.on(PERSON, reply(404))
    (hit,) = (await bench.page()).hits
    assert hit is not None
    assert (hit.appointment.patient, hit.appointment.provenance.patients, hit.identifiers) == (None, 0, frozenset())


IGNORED = {
    "included": {"resource": appointment(), "search": {"mode": "include"}},
    "about the search": {"resource": {"resourceType": "OperationOutcome"}, "search": {"mode": "outcome"}},
    "an unknown mode": {"resource": appointment(), "search": {"mode": "maybe"}},
    "a mode that is none": {"resource": appointment(), "search": "match"},
    "a patient": {"resource": patient()},
    "no type": {"resource": {"id": "a1"}},
    "no resource": {"fullUrl": "urn:x"},
    "a text": "Appointment/a1",
    "no id": entry(id=None),
    "an id of two segments": entry(id="a/b"),
    "an id of dots": entry(id=".."),
    "a long id": entry(id="a" * 65),
}


@pytest.mark.parametrize("odd", IGNORED.values(), ids=IGNORED)
async def test_what_is_no_match_is_left_out_and_keeps_its_place(bench: Bench, odd: Any) -> None:
    bench.upstream.on(SEARCH, listed(odd, entry(id="a9")))
    page = await bench.page()
    assert (ids(page), page.unreadable) == ([None, "a9"], 0)


UNREADABLE = {
    "no version": {"meta": {}},
    "an unknown status": {"status": "lost"},
    "a start without offset": {"start": "2026-04-14T09:30:00"},
    "a label without code": {
        "meta": {"versionId": "1", "security": [{"system": "http://fhir.patientsknowbest.com/x"}]}
    },
    "participants that are none": {"participant": "everybody"},
}


@pytest.mark.parametrize("members", UNREADABLE.values(), ids=UNREADABLE)
async def test_what_a_read_would_call_invalid_is_left_out_and_counted(bench: Bench, members: dict[str, Any]) -> None:
    bench.upstream.on(SEARCH, listed(entry(id="a2", **members), entry()))
    page = await bench.page()
    assert (ids(page), page.unreadable) == ([None, "a1"], 1)


async def test_a_patient_that_cannot_be_understood_hides_its_own_appointments_only(bench: Bench) -> None:
    bench.upstream.on("GET /fhir/Patient/p2", reply(200, patient(id="p3")))
    bench.upstream.on(SEARCH, listed(entry(id="a2", participant=[participant("Patient/p2")]), entry()))
    page = await bench.page()
    assert (ids(page), page.unreadable) == ([None, "a1"], 1)


@pytest.mark.parametrize("more", [True, False])
async def test_a_link_says_that_there_is_more_and_is_not_followed(bench: Bench, *, more: bool) -> None:
    bench.upstream.on(SEARCH, listed(entry(), more=more))
    assert (await bench.page()).more is more
    assert len(bench.searches) == 1


INVALID = {
    "HTML": reply(200, b"<html>Sign in</html>"),
    "a resource": reply(200, appointment()),
    "a history": listed(entry(), type="history"),
    "entries that are none": listed(entry=7),
    "links that are none": listed(link={"relation": "next"}),
    "a member twice": reply(200, b'{"resourceType":"Bundle","type":"searchset","type":"searchset"}'),
    "more than asked for": listed(*(entry(id=f"a{n}") for n in range(2 * PAGE_SIZE + 1))),
    "too large": reply(200, b" " * (LARGEST_ANSWER + 1)),
    "deep": reply(200, b'{"resourceType":"Bundle","type":"searchset","x":' + b"[" * 99 + b"]" * 99 + b"}"),
    "not there": reply(404),
    "gone": reply(410),
    "a question not understood": reply(422),
    "a redirect": reply(302, headers={"Location": "/fhir/Appointment/a1"}),
}


@pytest.mark.parametrize("answer", INVALID.values(), ids=INVALID)
async def test_a_list_that_is_none_is_no_answer(bench: Bench, answer: Reply) -> None:
    bench.upstream.on(SEARCH, answer)
    assert (await bench.fault()).code is Code.UPSTREAM_INVALID
    assert len(bench.searches) == 1


async def test_an_empty_list_needs_neither_entries_nor_links(bench: Bench) -> None:
    bench.upstream.on(SEARCH, reply(200, {"resourceType": "Bundle", "type": "searchset"}))
    assert await bench.page() == Page((), more=False)


FAULTS = {
    "refused": ([reply(403)], Code.UPSTREAM_REFUSED, 1),
    "refused twice": ([reply(401)], Code.UPSTREAM_REFUSED, 2),
    "down": ([reply(503)], Code.UPSTREAM_UNAVAILABLE, 3),
    "too often": ([reply(429)], Code.UPSTREAM_UNAVAILABLE, 3),
    "hangs up": ([HANG_UP], Code.UPSTREAM_UNAVAILABLE, 3),
}


@pytest.mark.parametrize(("replies", "code", "tries"), FAULTS.values(), ids=FAULTS)
async def test_a_search_fails_as_a_read_does(bench: Bench, replies: list[Reply], code: Code, tries: int) -> None:
    bench.upstream.on(SEARCH, *replies)
    assert (await bench.fault()).code is code
    assert len(bench.searches) == tries


async def test_a_search_ends_at_its_deadline(bench: Bench) -> None:
    bench.upstream.on(SEARCH, Reply(b"", wait=2.0))
    assert (await bench.fault(0.2)).code is Code.UPSTREAM_TIMEOUT


async def test_a_patient_that_cannot_be_had_fails_the_search(bench: Bench) -> None:
    bench.upstream.on(PERSON, reply(503))
    assert (await bench.fault()).code is Code.UPSTREAM_UNAVAILABLE


async def test_a_token_that_is_no_longer_taken_is_renewed_once(bench: Bench) -> None:
    bench.upstream.on(SEARCH, reply(401), listed(entry()))
    assert ids(await bench.page()) == ["a1"]
    assert [heard.headers["authorization"] for heard in bench.upstream.all(SEARCH)] == ["Bearer t1", "Bearer t2"]
