"""A search shows what reads would show, page by page, and what it leaves out cannot be told from its pages."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings

from gateway.domain.appointment import NHS_NUMBER_SYSTEM, Appointment, Patient, Status
from gateway.domain.codes import Code
from gateway.domain.decision import Permit
from gateway.domain.grant import Coding, Customer, Operation
from gateway.domain.rules import Claimant, admit
from gateway.domain.search import Hit, Query, Reach, meets
from gateway.flow.ports import JournalUnavailable, UpstreamFault
from gateway.flow.request import Refused, Shown
from gateway.flow.search import LAST_PAGE, PAGES, Found, Page, Place, Searches
from tests import makers, strategies
from tests.flow.fakes import Bench, caller
from tests.makers import NHS_NUMBER, NOW, appointment, grant, owned_by, policy

PATIENT = Coding(NHS_NUMBER_SYSTEM, NHS_NUMBER)
HIDDEN = owned_by("Organization/wharfedale")


def hit(made: Appointment, *identifiers: Coding) -> Hit:
    return Hit(made, frozenset(identifiers or {PATIENT}), b"{}")


@dataclass
class Endpoint:
    """PKB's search: filters as it is asked to, `size` on a page; None stands for what is no appointment."""

    hits: list[Hit | None] = field(default_factory=list)
    size: int = 50
    endless: bool = False
    unreadable: int = 0
    down: UpstreamFault | None = None
    on_search: Callable[[], None] = lambda: None
    asked: list[tuple[Reach, Place]] = field(default_factory=list)

    async def search(self, customer: Customer, query: Query, reach: Reach, place: Place, deadline: float) -> Page:
        self.asked.append((reach, place))
        await asyncio.sleep(0)
        self.on_search()
        if self.down is not None:
            raise self.down
        within = [each for each in self.hits if each is None or self._within(each.appointment, reach)]
        begin = self.size * (place.page - 1)
        page = within[begin : begin + self.size]
        more = self.endless or len(within) > begin + self.size
        return Page(tuple(page[place.offset :]), more, self.unreadable)

    def _within(self, each: Appointment, reach: Reach) -> bool:
        owned = not reach.organisations or each.provenance.managing_organisation in reach.organisations
        return owned and (not reach.specialties or not each.specialties.isdisjoint(reach.specialties))


@dataclass
class Desk:
    """A bench, and a search on it."""

    bench: Bench
    endpoint: Endpoint = field(default_factory=Endpoint)

    async def find(self, query: Query | None = None, place: Place | None = None, **changes: Any) -> Found | Refused:
        bench, asks = self.bench, caller(**changes)
        searches = Searches(lambda: bench.policy, self.endpoint, bench.paper, bench.veil, bench.clock)
        admitted = admit(asks.who, frozenset({Operation.READ}), bench.policy, bench.clock())
        assert isinstance(admitted, Permit)
        customer = bench.policy.customers[asks.customer]
        return await searches.find(asks, customer, admitted, query or Query(PATIENT), place or Place())

    async def page(self, query: Query | None = None, place: Place | None = None, **changes: Any) -> Found:
        found = await self.find(query, place, **changes)
        assert isinstance(found, Found)
        return found

    async def walk(self, query: Query) -> list[list[str]]:
        """Follow the pages to the last."""
        pages, place = [], Place()
        while True:
            found = await self.page(query, place)
            pages.append(ids(found))
            assert len(pages) < 100, "the pages go in circles"
            if found.following is None:
                return pages
            place = found.following


def ids(found: Found) -> list[str]:
    return [each.appointment.id for each in found.hits]


def row(pattern: str) -> list[Hit | None]:
    """Make a list of hits: `o` may be seen, `x` may not, `-` is no appointment at all."""
    return [
        None if mark == "-" else hit(appointment(id=str(n), provenance=HIDDEN if mark == "x" else owned_by(OWN)))
        for n, mark in enumerate(pattern)
    ]


OWN = "Organization/airedale"


@pytest.fixture
def desk(bench: Bench) -> Desk:
    return Desk(bench)


class Wide(Endpoint):
    """An endpoint that does not narrow, whatever it is asked."""

    def _within(self, each: Appointment, reach: Reach) -> bool:
        return True


async def test_what_may_be_read_is_found_and_on_record(desk: Desk) -> None:
    desk.endpoint = Wide(row("ox"))
    found = await desk.page()
    assert (ids(found), found.following, found.digest) == (["0"], None, "d1")
    (record,) = desk.bench.paper.written
    assert (record["event"], record["operation"], record["appointment"]) == ("search", "read", None)
    assert (record["decision"], record["code"], record["grant"]) == ("permit", None, "airedale-swiftbook")
    assert record["facts"] is None
    assert record["checks"][-1] == ["hits-readable", True]
    assert record["patient"] == desk.bench.veil.patient(NHS_NUMBER, "airedale-box", "")
    assert NHS_NUMBER not in str(record)
    assert isinstance(record["duration_ms"], int)


def a_world(chance: Random) -> tuple[Claimant, Any, list[Hit], Query]:
    who = makers.a_claimant(chance)
    # Mostly the asking customer's own and its neighbours', so that some may be seen and some not.
    sources = [f"Organization/{who.customer}"] * 4 + [known.source for known in makers.CUSTOMERS]
    hits = [
        hit(makers.appointment(id=f"a-{n}"), PATIENT)
        if makers.rarely(chance, 12)
        else hit(
            _named(makers.an_appointment(chance, chance.choice(sources)), f"a-{n}"),
            PATIENT if chance.random() < 0.9 else Coding("urn:other", "1"),
        )
        for n in range(12)
    ]
    statuses = makers.some(chance, list(Status)) if makers.rarely(chance, 4) else frozenset[Status]()
    asked = Query(PATIENT, statuses=statuses, count=chance.choice([1, 2, 5, 100]))
    return who, makers.a_policy(chance), hits, asked


def _named(made: Appointment, id_: str) -> Appointment:
    values = {name: getattr(made, name) for name in made.__slots__}
    return Appointment(**(values | {"id": id_}))


@settings(max_examples=150)
@given(strategies.by_chance(a_world))
def test_a_search_shows_what_reads_of_each_would_show_and_nothing_else(
    world: tuple[Claimant, Any, list[Hit], Query],
) -> None:
    who, drawn, hits, asked = world

    async def compare() -> None:
        if not isinstance(admit(who, frozenset({Operation.READ}), drawn, NOW), Permit):
            return
        bench = Bench(policy=drawn)
        bench.hospital.copies = {each.appointment.id: each.appointment for each in hits}
        customer = drawn.customers[who.customer]
        readable = []
        for each in hits:
            asks = caller(partner=who.partner, customer=who.customer)
            if isinstance(await bench.looks.show(asks, customer, each.appointment.id), Shown) and meets(asked, each):
                readable.append(each.appointment.id)
        for endpoint in (Endpoint([*hits], size=5), Wide([*hits], size=4)):
            pages, place = [], Place()
            while True:
                found = await Desk(bench, endpoint).page(asked, place, partner=who.partner, customer=who.customer)
                pages.append(ids(found))
                if found.following is None:
                    break
                place = found.following
            assert [each for page in pages for each in page] == readable
            assert all(len(page) == asked.count for page in pages[:-1])
        await bench.open_writes.close()

    asyncio.run(compare())


@pytest.mark.parametrize(
    ("pattern", "pages"),
    [
        pytest.param("", [0], id="nothing"),
        pytest.param("xxxxxxx", [0], id="nothing that may be seen"),
        pytest.param("oo", [2], id="just a page"),
        pytest.param("ooxxxxx", [2], id="a page, and hidden ones after it"),
        pytest.param("xoxoxxx", [2], id="a page among hidden ones"),
        pytest.param("ooo", [2, 1], id="one more than a page"),
        pytest.param("ooxxo", [2, 1], id="one more, behind hidden ones"),
        pytest.param("oxoxoxox", [2, 2], id="two pages among hidden ones"),
        pytest.param("oxooxoox", [2, 2, 1], id="three pages among hidden ones"),
        pytest.param("-o-o--", [2], id="a page among what is no appointment"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 50])
async def test_pages_are_as_if_there_were_no_hidden_hits(desk: Desk, pattern: str, pages: list[int], size: int) -> None:
    desk.endpoint = Wide(row(pattern), size)
    walked = await desk.walk(Query(PATIENT, count=2))
    assert [len(page) for page in walked] == pages
    assert [each for page in walked for each in page] == [str(n) for n, mark in enumerate(pattern) if mark == "o"]


async def test_all_of_a_long_list_with_hidden_hits_in_between_is_seen_once(desk: Desk) -> None:
    desk.endpoint = Wide(row("oxx" * 90))
    walked = await desk.walk(Query(PATIENT, count=20))
    assert [len(page) for page in walked] == [20, 20, 20, 20, 10]
    assert [int(each) for page in walked for each in page] == list(range(0, 270, 3))


async def test_one_request_reads_only_so_many_pages(desk: Desk) -> None:
    desk.endpoint = Wide(row("x" * 20 + "o"), size=1)
    found = await desk.page()
    assert (ids(found), found.following, len(desk.endpoint.asked)) == ([], Place(PAGES + 1), PAGES)
    assert [each for page in await desk.walk(Query(PATIENT)) for each in page] == ["20"]


async def test_pages_without_an_end_are_no_answer(desk: Desk) -> None:
    desk.endpoint = Wide(endless=True)
    assert await desk.find(None, Place(LAST_PAGE + 1)) == Refused(Code.UPSTREAM_INVALID)
    assert desk.endpoint.asked == []


async def test_an_appointment_that_comes_twice_is_shown_once(desk: Desk) -> None:
    desk.endpoint = Wide([*row("o"), *row("o"), *row("o")], size=2)
    assert await desk.walk(Query(PATIENT)) == [["0"]]


async def test_pkb_is_asked_only_within_the_reach_of_the_grant(desk: Desk) -> None:
    desk.bench.policy = policy(grant(customer="airedale-cardiology", specialties=frozenset({makers.CARDIOLOGY})))
    await desk.page(customer="airedale-cardiology")
    reach = Reach(("Organization/airedale-cardiology",), (makers.CARDIOLOGY,))
    assert desk.endpoint.asked == [(reach, Place())]


async def test_a_grant_that_shrinks_while_pkb_is_read_hides_what_was_found(desk: Desk) -> None:
    desk.endpoint = Wide(row("oo"))
    less = policy(grant(specialties=frozenset({makers.CARDIOLOGY})), digest="d2")
    desk.endpoint.on_search = lambda: setattr(desk.bench, "policy", less)
    found = await desk.page()
    assert (ids(found), found.digest) == ([], "d2")


async def test_the_last_word_is_spoken_after_the_last_page(desk: Desk) -> None:
    desk.endpoint = Wide(row("oo"), size=1)
    less = policy(grant(specialties=frozenset({makers.CARDIOLOGY})), digest="d2")

    def shrink() -> None:
        if len(desk.endpoint.asked) == 2:
            desk.bench.policy = less

    desk.endpoint.on_search = shrink
    assert ids(await desk.page()) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param(lambda bench: setattr(bench, "policy", makers.no_grants()), Code.NO_GRANT, id="revoked"),
        pytest.param(
            lambda bench: setattr(bench.clock, "now", grant().valid_until), Code.GRANT_EXPIRED, id="its time was over"
        ),
    ],
)
async def test_a_grant_that_ends_while_pkb_is_read_shows_nothing(
    desk: Desk, change: Callable[[Bench], None], code: Code
) -> None:
    desk.endpoint = Wide(row("oo"))
    desk.endpoint.on_search = lambda: change(desk.bench)
    assert await desk.find() == Refused(code)
    assert [(each["event"], each["code"]) for each in desk.bench.paper.written] == [("refused", code.value)]


async def test_a_customer_that_moved_to_another_route_meanwhile_shows_nothing(desk: Desk) -> None:
    desk.endpoint = Wide(row("oo"))
    moved = [replace(known, route=replace(known.route, name="another-box")) for known in makers.CUSTOMERS]
    desk.endpoint.on_search = lambda: setattr(desk.bench, "policy", policy(customers=moved))
    assert ids(await desk.page()) == []


@pytest.mark.parametrize(
    ("code", "status"),
    [(Code.UPSTREAM_UNAVAILABLE, None), (Code.UPSTREAM_TIMEOUT, None), (Code.UPSTREAM_INVALID, 200)],
)
async def test_a_pkb_that_cannot_be_searched_is_told_and_on_record(desk: Desk, code: Code, status: int | None) -> None:
    desk.endpoint.down = UpstreamFault(code, "no", status)
    assert await desk.find() == Refused(code)
    (record,) = desk.bench.paper.written
    assert (record["event"], record["code"], record["upstream"]) == (
        "refused",
        code.value,
        {"status": status} if status else None,
    )
    assert record["patient"].startswith("k1:")


async def test_what_could_not_be_understood_is_on_record_and_not_shown(desk: Desk) -> None:
    desk.endpoint = Wide(row("o-"), unreadable=1)
    assert ids(await desk.page()) == ["0"]
    assert desk.bench.paper.written[0]["checks"][-1] == ["hits-readable", False]


async def test_nothing_is_shown_that_could_not_be_written_down(desk: Desk) -> None:
    desk.endpoint = Wide(row("o"))
    desk.bench.paper.full = True
    with pytest.raises(JournalUnavailable):
        await desk.find()


@pytest.mark.parametrize(
    ("patients", "named"),
    [
        pytest.param([NHS_NUMBER, NHS_NUMBER], True, id="one patient's"),
        pytest.param([NHS_NUMBER, "9990000026"], False, id="two patients'"),
        pytest.param([], False, id="nobody's"),
    ],
)
async def test_a_search_by_identifier_names_the_one_patient_it_showed(
    desk: Desk, patients: list[str], *, named: bool
) -> None:
    number = Coding("urn:pas", "1")
    desk.endpoint = Wide(
        [
            hit(
                appointment(id=str(n), identifiers=frozenset({number}), patient=Patient("Patient/p", patient)),
                Coding("urn:hospital", "1"),
            )
            for n, patient in enumerate(patients)
        ]
    )
    assert len((await desk.page(Query(identifier=number))).hits) == len(patients)
    told = desk.bench.paper.written[0]["patient"]
    assert told == (desk.bench.veil.patient(NHS_NUMBER, "airedale-box", "Patient/p") if named else None)
