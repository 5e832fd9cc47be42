"""Whatever a list of hits holds, it becomes a page or a fault, and nothing of it is shown that no read would show."""

import asyncio
import json
from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import Any, cast

from hypothesis import given, settings
from yarl import URL

from gateway.domain.appointment import NHS_NUMBER_SYSTEM
from gateway.domain.grant import Coding
from gateway.domain.search import Query, Reach
from gateway.flow.ports import Message, UpstreamFault
from gateway.flow.search import Page, Place
from gateway.pkb.appointment_reading import read_appointment, read_object, read_patient
from gateway.pkb.breaker import Breaker
from gateway.pkb.http import Answer
from gateway.pkb.resources import Reading, Resources
from gateway.pkb.searching import R4_BOX, STU3_BOX, Searching
from gateway.pkb.stu3 import as_r4
from tests.edges.pkb_documents import appointment, patient
from tests.strategies import by_chance

ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    1.5,
    "",
    "Patient/p2",
    "..",
    "a" * 65,
    [],
    {},
    [None],
    {"reference": "Patient/p1"},
)
QUERY = Query(Coding(NHS_NUMBER_SYSTEM, "9990548609"))


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every holder in a document with the key or index of every value in it."""
    found: list[tuple[Any, Any]] = []
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in inside:
        found += [(value, key), *places(held)]
    return found


def spoiled(chance: Random) -> tuple[bytes, bytes]:
    """Make a searchset and a patient with a few values replaced or taken away."""
    entries = [
        {"resource": appointment(id=f"a{n}"), "search": {"mode": "match"}, "fullUrl": f"urn:{n}"} for n in range(3)
    ]
    link = [{"relation": "next", "url": "http://elsewhere.example"}]
    bundle: Any = {"resourceType": "Bundle", "type": "searchset", "link": link, "entry": entries}
    person = patient()
    for document in (bundle, person):
        for _ in range(chance.choice([0, 1, 1, 2, 4])):
            holder, key = chance.choice(places(document))
            if isinstance(holder, dict) and chance.random() < 0.3:
                del holder[key]
            else:
                holder[key] = deepcopy(chance.choice(ODD))
    return json.dumps(bundle).encode(), json.dumps(person).encode()


@dataclass
class Endpoint:
    """Gives one list and one patient, whatever it is asked."""

    bundle: bytes
    person: bytes
    base_url: str = "http://pkb.example/fhir"

    def clock(self) -> float:
        return 0.0

    async def fetch(self, url: URL, reading: Reading, message: Message) -> Answer | None:
        return Answer(200, None, self.bundle)

    async def get(self, kind: str, id_: str, reading: Reading) -> Answer | None:
        return Answer(200, None, self.person) if id_ == "p1" else None


def page_of(bundle: bytes, person: bytes, *, stu3: bool) -> Page | UpstreamFault:
    endpoint = cast("Resources", Endpoint(bundle, person))
    searching = (
        Searching(endpoint, Breaker(lambda: 0.0), STU3_BOX, as_r4)
        if stu3
        else Searching(endpoint, Breaker(lambda: 0.0), R4_BOX)
    )
    try:
        return asyncio.run(searching.page(QUERY, Reach(), Place(), 5.0))
    except UpstreamFault as fault:
        return fault


@settings(max_examples=200)
@given(by_chance(spoiled))
def test_every_hit_is_what_a_read_of_it_would_give(spoilt: tuple[bytes, bytes]) -> None:
    page = page_of(*spoilt, stu3=False)
    if isinstance(page, UpstreamFault):
        return
    for hit in filter(None, page.hits):
        id_ = hit.appointment.id
        try:
            record = read_patient(read_object(spoilt[1]), "p1")
        except UpstreamFault:
            record = None
        named = hit.appointment.patient is not None
        assert hit.appointment == read_appointment(read_object(hit.body), id_, None).of(record if named else None)
        assert bool(hit.identifiers) <= named


@settings(max_examples=100)
@given(by_chance(spoiled))
def test_an_stu3_list_never_breaks_the_reader(spoilt: tuple[bytes, bytes]) -> None:
    assert isinstance(page_of(*spoilt, stu3=True), Page | UpstreamFault)


@settings(max_examples=100)
@given(by_chance(lambda chance: (spoiled(chance)[0][: chance.randrange(3000)], chance.randbytes(40))))
def test_half_a_list_never_breaks_the_reader(spoilt: tuple[bytes, bytes]) -> None:
    assert isinstance(page_of(*spoilt, stu3=False), Page | UpstreamFault)


def test_a_good_list_is_read_whole() -> None:
    entries = [{"resource": appointment(id=f"a{n}")} for n in range(3)]
    bundle = json.dumps({"resourceType": "Bundle", "type": "searchset", "entry": entries}).encode()
    page = page_of(bundle, json.dumps(patient()).encode(), stu3=False)
    assert isinstance(page, Page)
    assert [hit.appointment.id for hit in page.hits if hit is not None] == ["a0", "a1", "a2"]
