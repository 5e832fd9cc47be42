"""Searches over real sockets on every route: what is found is what may be read, and no page tells of the rest."""

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from zoneinfo import ZoneInfo

import pytest

from tests.journeys.exact import STRANGE, exactly
from tests.journeys.grants import partner_table, with_added
from tests.journeys.partner import NHS_NUMBER, Client, Reply
from tests.journeys.processes import Json, Place, gateway_process

LONDON = ZoneInfo("Europe/London")
LABEL = "http://fhir.patientsknowbest.com/codesystem/privacy-label"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PATHS = (
    ("airedale", "swiftbook"),
    ("airedale-cardiology", "cardiolink"),
    ("bradford", "swiftbook"),
    ("leeds", "swiftbook"),
)


async def search(client: Client, *pairs: tuple[str, str], customer: str = "airedale", **how: Any) -> Reply:
    return await client.ask("GET", f"/{customer}/fhir/Appointment?{urlencode(pairs, quote_via=quote)}", **how)


def ids(reply: Reply) -> list[str]:
    assert reply.status == 200, reply.body
    return [entry["resource"]["id"] for entry in reply.body.get("entry", [])]


def link(reply: Reply, relation: str) -> str | None:
    """The path and query of a link."""
    urls = [each["url"] for each in reply.body["link"] if each["relation"] == relation]
    return urls[0].removeprefix(f"{urlsplit(urls[0]).scheme}://{urlsplit(urls[0]).netloc}") if urls else None


async def walk(client: Client, first: Reply, **how: Any) -> list[Reply]:
    pages = [first]
    while following := link(pages[-1], "next"):
        pages.append(await client.ask("GET", following, **how))
    return pages


def patient(booked: Json) -> tuple[str, str]:
    return "patient.identifier", booked["patient_identifier"]


def of(client: Client, customer: str, scenario: str = "changeable", number: int = 0) -> Json:
    known = [each for each in client.place.told["appointments"] if each["customer"] == customer]
    return dict([each for each in known if each["scenario"] == scenario][number])


def some_of_each(client: Client) -> list[list[Json]]:
    """Two appointments of every scenario, wherever they are listed."""
    kinds: dict[tuple[str, str], list[Json]] = {}
    for each in client.place.told["appointments"]:
        kinds.setdefault((each["customer"], each["scenario"]), []).append(each)
    return [each[:2] for each in kinds.values()]


@pytest.mark.parametrize(("customer", "partner"), PATHS)
async def test_exactly_what_may_be_read_is_found(client: Client, customer: str, partner: str) -> None:
    every = [each for scenario in some_of_each(client) for each in scenario]
    how = {"customer": customer, "partner": partner}

    async def compare(booked: Json) -> tuple[str, bool, list[str], list[str]]:
        read, by_patient, by_itself = await asyncio.gather(
            client.read(booked["id"], **how),
            search(client, patient(booked), **how),
            search(client, ("identifier", booked["identifier"]), **how),
        )
        return booked["id"], read.status == 200, ids(by_patient), ids(by_itself)

    told = []
    for begin in range(0, len(every), 20):
        told += await asyncio.gather(*(compare(booked) for booked in every[begin : begin + 20]))
    readable = [each for each in told if each[1]]
    assert 0 < len(readable) < len(told)
    assert [each for each in told if each[2] != ([each[0]] if each[1] else [])] == []
    assert [each for each in told if each[3] != ([each[0]] if each[1] else [])] == []


@pytest.mark.parametrize("customer", ["airedale", "bradford", "leeds"])
async def test_a_hit_is_what_a_read_shows(client: Client, customer: str) -> None:
    booked = of(client, customer)
    read = await client.read(booked["id"], customer=customer)
    found = await search(client, patient(booked), customer=customer)
    [entry] = exactly(found.raw.decode())["entry"]
    assert entry["resource"] == exactly(read.raw.decode())
    assert entry["fullUrl"] == f"{client.place.gateway_url}/{customer}/fhir/Appointment/{booked['id']}"
    assert entry["search"] == {"mode": "match"}
    assert "ETag" not in found.headers
    assert set(found.body) == {"resourceType", "type", "link", "entry"}


async def test_numbers_stay_as_pkb_wrote_them(client: Client) -> None:
    booked = of(client, "airedale", number=20)
    text = await client.copy_text(booked["id"])
    await client.put_text(booked["id"], "{" + STRANGE + text.lstrip()[1:])
    found = await search(client, patient(booked))
    [entry] = exactly(found.raw.decode())["entry"]
    assert entry["resource"] == exactly((await client.read(booked["id"])).raw.decode())


async def shared_patient(client: Client, count: int, number: int) -> tuple[tuple[str, str], list[str], list[str]]:
    """Give one patient many more appointments, two in five of them hidden; gives the visible ids and the hidden."""
    booked = of(client, "airedale", number=number)
    like = await client.copy(booked["id"])
    visible: list[str] = [booked["id"]]
    hidden: list[str] = []

    async def make(n: int) -> None:
        id_, made = f"many-{number}-{n:03}", dict(like)
        owner = None
        if n % 5 == 1:
            security = [each for each in like["meta"]["security"] if each["system"] != LABEL]
            made["meta"] = {**like["meta"], "security": [*security, {"system": LABEL, "code": "SEXUAL_HEALTH"}]}
        elif n % 5 == 3:
            owner = "wharfedale"
        (hidden if n % 5 in {1, 3} else visible).append(id_)
        await client.put(id_, {**made, "id": id_}, owner)

    for begin in range(0, count, 25):
        await asyncio.gather(*(make(n) for n in range(begin, min(begin + 25, count))))
    return patient(booked), sorted(visible), sorted(hidden)


async def test_two_hundred_and_fifty_hits_are_paged_as_if_the_hidden_were_not_there(client: Client) -> None:
    who, visible, hidden = await shared_patient(client, 250, 19)
    pages = await walk(client, await search(client, who, ("_count", "40")))
    assert [len(ids(page)) for page in pages] == [40, 40, 40, 31]
    seen = [each for page in pages for each in ids(page)]
    assert (len(set(seen)), sorted(seen)) == (len(seen), visible)
    text = b"".join(page.raw for page in pages)
    assert [id_ for id_ in hidden if id_.encode() in text] == []
    assert b"total" not in text
    assert len({len(link(page, "self") or "") for page in pages}) == 1
    # A page of its own can be had again.
    again = await client.ask("GET", link(pages[1], "self") or "")
    assert ids(again) == ids(pages[1])


async def test_a_page_that_is_just_full_does_not_promise_another(client: Client) -> None:
    who, visible, _ = await shared_patient(client, 4, 18)
    exact = await search(client, who, ("_count", str(len(visible))))
    assert (sorted(ids(exact)), link(exact, "next")) == (visible, None)
    less = await search(client, who, ("_count", str(len(visible) - 1)))
    assert link(less, "next") is not None


async def test_a_patient_of_two_hospitals_is_searched_for_in_one(client: Client) -> None:
    booked = of(client, "airedale", number=17)
    copy = await client.copy(booked["id"])
    await client.put("at-wharfedale", {**copy, "id": "at-wharfedale"}, "wharfedale")
    await client.put("at-cardiology", {**copy, "id": "at-cardiology"}, "airedale-cardiology")
    assert set(ids(await search(client, patient(booked)))) == {booked["id"], "at-cardiology"}
    team = {"customer": "airedale-cardiology", "partner": "cardiolink"}
    assert ids(await search(client, patient(booked), **team)) == ["at-cardiology"]
    refused = await search(client, patient(booked), customer="wharfedale")
    assert (refused.status, refused.code) == (403, "no-grant")
    assert (await search(client, patient(booked), customer="airedale-cardiology")).code == "no-grant"
    assert (await search(client, patient(booked), partner="cardiolink")).code == "no-grant"


@pytest.mark.parametrize("customer", ["airedale", "bradford", "leeds"])
async def test_status_and_date_narrow_on_the_customers_clock(client: Client, customer: str) -> None:
    booked = of(client, customer, number=3)
    start = datetime.fromisoformat(booked["start"]).astimezone(LONDON)
    day, next_day = start.date().isoformat(), (start.date() + timedelta(days=1)).isoformat()

    async def finds(*pairs: tuple[str, str]) -> bool:
        return ids(await search(client, patient(booked), *pairs, customer=customer)) == [booked["id"]]

    yes, no = [("date", day)], [("date", next_day)]
    sought: Sequence[tuple[list[tuple[str, str]], bool]] = [
        (yes, True),
        (no, False),
        ([("date", f"ge{day}"), ("date", f"lt{next_day}")], True),
        ([("date", f"ge{day}"), ("date", f"lt{day}")], False),
        ([("date", f"gt{day}")], False),
        ([("date", f"le{day}")], True),
        ([("date", f"eq{start:%Y-%m-%dT%H:%M:%S}")], True),
        ([("date", f"eq{start.isoformat()}")], True),
        ([("date", f"lt{start.isoformat()}")], False),
        ([("status", "booked")], True),
        ([("status", "cancelled")], False),
        ([("status", "waitlist,booked")], True),
        ([*yes, ("status", "booked"), ("identifier", booked["identifier"])], True),
    ]
    got = await asyncio.gather(*(finds(*pairs) for pairs, _ in sought))
    assert got == [wanted for _, wanted in sought]


async def test_a_posted_search_finds_the_same(client: Client) -> None:
    booked = of(client, "airedale", number=2)
    form = urlencode([patient(booked), ("status", "booked")], quote_via=quote).encode()
    path = "/airedale/fhir/Appointment/_search"
    posted = await client.ask("POST", path, data=form, headers=FORM)
    assert ids(posted) == [booked["id"]]
    cursor = (link(posted, "self") or "").partition("_cursor=")[2]
    # What is for writes only does not concern a search.
    ignored = {**FORM, "Idempotency-Key": "k-1", "If-Match": 'W/"1"', "Prefer": "return=minimal"}
    again = await client.ask("POST", path, data=f"_cursor={cursor}".encode(), headers=ignored)
    assert ids(again) == [booked["id"]]
    assert await client.writes(booked["id"]) == []


NUMBER = f"{NHS_NUMBER}|9990000018"
WHO = ("patient.identifier", NUMBER)
ASKED = "/airedale/fhir/Appointment?identifier=a%7Cb"
POSTED = "/airedale/fhir/Appointment/_search"
AS_FORM = {"data": urlencode([WHO]).encode(), "headers": FORM}
LATIN = {"Content-Type": "application/x-www-form-urlencoded; charset=latin-1"}
ZIPPED = {**FORM, "Content-Encoding": "gzip"}
REFUSED: dict[str, tuple[str, str, dict[str, Any], int, str]] = {
    "nobody": ("GET", "/airedale/fhir/Appointment", {}, 400, "missing-parameter"),
    "only a date": ("GET", "/airedale/fhir/Appointment?date=2030", {}, 400, "missing-parameter"),
    "an unknown parameter": ("GET", f"{ASKED}&x={NUMBER}", {}, 400, "invalid-parameter"),
    "a token in the query": ("GET", "/airedale/fhir/Appointment?access_token=x", {}, 400, "invalid-parameter"),
    "the status twice": ("GET", f"{ASKED}&status=booked&status=booked", {}, 400, "invalid-parameter"),
    "a foreign cursor": ("GET", "/airedale/fhir/Appointment?_cursor=AAAA", {}, 400, "invalid-parameter"),
    "an encoded name": ("GET", "/airedale/fhir/Appointment?%69dentifier=a%7Cb", {}, 400, "malformed-request"),
    "a page of HTML": ("GET", ASKED, {"headers": {"Accept": "text/html"}}, 406, "not-acceptable"),
    "no scope to search": ("GET", ASKED, {"scope": "system/Appointment.ru"}, 403, "scope-insufficient"),
    "an expired grant": ("GET", ASKED, {"partner": "formerly"}, 403, "grant-expired"),
    "no grant": ("GET", ASKED, {"partner": "newcomer"}, 403, "no-grant"),
    "an unknown customer": ("GET", "/nowhere/fhir/Appointment?identifier=a%7Cb", {}, 403, "no-grant"),
    "another method": ("PUT", ASKED, {"body": {}}, 405, "method-not-allowed"),
    "GET of the form": ("GET", POSTED, {}, 405, "method-not-allowed"),
    "a form as FHIR": ("POST", POSTED, {"data": b"identifier=a%7Cb"}, 415, "unsupported-media-type"),
    "a form in Latin-1": ("POST", POSTED, {**AS_FORM, "headers": LATIN}, 415, "unsupported-media-type"),
    "a zipped form": ("POST", POSTED, {**AS_FORM, "headers": ZIPPED}, 415, "unsupported-media-type"),
    "a query beside the form": ("POST", f"{POSTED}?status=booked", AS_FORM, 400, "invalid-parameter"),
    "a form that is none": ("POST", POSTED, {**AS_FORM, "data": b"status=%4"}, 400, "invalid-parameter"),
    "an empty form": ("POST", POSTED, {**AS_FORM, "data": b""}, 400, "missing-parameter"),
    "a long form": ("POST", POSTED, {**AS_FORM, "data": b"status=" + b"x" * 70_000}, 413, "body-too-large"),
    "a search for everybody": ("POST", "/airedale/fhir/_search", AS_FORM, 404, "not-found"),
    "a search in the past": ("POST", "/airedale/fhir/_history/_search", AS_FORM, 404, "not-found"),
}


@pytest.mark.parametrize(("method", "path", "how", "status", "code"), REFUSED.values(), ids=REFUSED)
async def test_what_is_no_search_is_refused_and_on_record_once(
    client: Client, method: str, path: str, how: dict[str, Any], status: int, code: str
) -> None:
    how = dict(how)
    if "scope" in how:
        how["token"] = client.place.token("swiftbook", how.pop("scope"))
    reply = await client.ask(method, path, **how)
    assert (reply.status, reply.code) == (status, code)
    assert b"9990000018" not in reply.raw
    records = await client.audit_of(reply.request_id)
    assert [(each["event"], each["code"]) for each in records] == [("refused", code)]
    assert "9990000018" not in json.dumps(records)


async def test_who_may_only_read_may_search(client: Client) -> None:
    booked = of(client, "airedale", number=1)
    token = client.place.token("viewonly", "system/Appointment.s")
    assert ids(await search(client, patient(booked), token=token)) == [booked["id"]]


async def test_a_search_is_on_record_before_its_answer_and_names_no_patient(client: Client) -> None:
    booked = of(client, "airedale", number=5)
    read = await client.read(booked["id"])
    found = await search(client, patient(booked), ("_count", "1"))
    [record] = [each for each in client.place.records() if each["request_id"] == found.request_id]
    [other] = await client.audit_of(read.request_id)
    assert (record["event"], record["operation"], record["decision"]) == ("search", "read", "permit")
    assert (record["partner"], record["customer"], record["grant"]) == ("swiftbook", "airedale", "airedale-swiftbook")
    assert record["patient"] == other["patient"]
    assert (record["appointment"], record["facts"]) == (None, None)
    nothing = await search(client, patient(of(client, "airedale", "other-customer")))
    assert ids(nothing) == []
    assert [each["event"] for each in await client.audit_of(nothing.request_id)] == ["search"]


async def test_identifiers_are_in_no_link_no_header_no_log_and_no_record(client: Client) -> None:
    for customer in ("airedale", "bradford", "leeds"):
        booked = of(client, customer, number=4)
        number, own = booked["patient_identifier"].split("|")[1], booked["identifier"].split("|")[1]
        pairs = (patient(booked), ("identifier", booked["identifier"]))
        found = await search(client, *pairs, customer=customer)
        await search(client, *pairs, ("status", "lost"), customer=customer)
        await client.fault("status", 500, target="aggregated" if customer == "bradford" else "box", on="read")
        await search(client, *pairs, customer=customer)
        await client.clear()
        shown = json.dumps([found.body["link"], [each["fullUrl"] for each in found.body["entry"]], dict(found.headers)])
        log = (client.place.directory / "gateway.log").read_text(encoding="utf-8")
        audit = b"".join(client.place.lines()).decode()
        for text in (shown, log, audit):
            assert number not in text
            assert own not in text


async def pages_of_one(client: Client, **how: Any) -> str:
    """A cursor that is good, in a path."""
    who, _, _ = await shared_patient(client, 2, 16)
    return link(await search(client, who, ("_count", "1"), **how), "next") or ""


async def test_a_cursor_is_good_for_its_holder_alone(client: Client) -> None:
    path = await pages_of_one(client)
    assert (await client.ask("GET", path)).status == 200
    text = path.partition("_cursor=")[2]
    flipped = ("B" if text[30] == "A" else "A").join((text[:30], text[31:]))
    other = path.replace("/airedale/", "/leeds/")
    for reply in (
        await client.ask("GET", path, partner="viewonly"),
        await client.ask("GET", other),
        await client.ask("GET", path.replace(text, flipped)),
        await client.ask("GET", path + "A"),
        await client.ask("GET", path[:-1]),
        await client.ask("GET", path + "&_count=5"),
        await client.ask("GET", path + "&" + path.partition("?")[2]),
    ):
        assert (reply.status, reply.code) == (400, "invalid-parameter")
        assert text.encode() not in reply.raw


async def test_a_cursor_ends_with_the_grants_it_was_made_under(client: Client) -> None:
    path = await pages_of_one(client)
    before = client.place.grants.read_text(encoding="utf-8")
    try:
        await client.regrant(with_added(before, partner_table("further"), ""))
        reply = await client.ask("GET", path)
        assert (reply.status, reply.code) == (400, "invalid-parameter")
    finally:
        await client.regrant(before)
    assert (await client.ask("GET", path)).status == 200


async def test_another_node_takes_the_cursor(client: Client, place: Place) -> None:
    path = await pages_of_one(client)
    here = await client.ask("GET", path)
    with gateway_process(place, "second-node") as further:
        there = await client.at(further).ask("GET", path)
    assert ids(there) == ids(here)


TROUBLES = {
    "down": ({"kind": "status", "value": 503}, 503, "upstream-unavailable"),
    "closed": ({"kind": "drop-before"}, 503, "upstream-unavailable"),
    "HTML": ({"kind": "garbage"}, 502, "upstream-invalid"),
    "no": ({"kind": "status", "value": 403}, 502, "upstream-refused"),
    "elsewhere": ({"kind": "status", "value": 302}, 502, "upstream-invalid"),
}


@pytest.mark.parametrize(("fault", "status", "code"), TROUBLES.values(), ids=TROUBLES)
@pytest.mark.parametrize(("customer", "target"), [("airedale", "box"), ("bradford", "aggregated")])
async def test_a_pkb_in_trouble_is_told_as_for_a_read(
    client: Client, fault: Json, status: int, code: str, customer: str, target: str
) -> None:
    booked = of(client, customer, number=6)
    await client.fault(**fault, target=target, on="read")
    reply = await search(client, patient(booked), customer=customer)
    await client.clear()
    assert (reply.status, reply.code) == (status, code)
    [record] = await client.audit_of(reply.request_id)
    assert (record["event"], record["code"], record["patient"][:3]) == ("refused", code, "k1:")


async def test_a_search_tells_nothing_by_its_time(client: Client) -> None:
    found = await search(client, patient(of(client, "airedale", number=7)))
    hidden = await search(client, patient(of(client, "airedale", "other-customer")))
    nobody = await search(client, ("patient.identifier", f"{NHS_NUMBER}|0000000000"))
    assert [len(ids(each)) for each in (found, hidden, nobody)] == [1, 0, 0]
    assert min(each.seconds for each in (found, hidden, nobody)) >= 0.24
    same = {json.dumps({**each.body, "link": [len(each.body["link"][0]["url"])]}) for each in (hidden, nobody)}
    assert len(same) == 1


async def test_the_capability_statement_says_that_one_may_search(client: Client) -> None:
    told = (await client.ask("GET", "/airedale/fhir/metadata", token="")).body["rest"][0]["resource"][0]
    assert {"code": "search-type"} in told["interaction"]
    assert {each["name"] for each in told["searchParam"]} == {"patient.identifier", "identifier", "date", "status"}
