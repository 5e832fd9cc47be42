"""Of two faults in one request the earlier step answers: every neighbouring pair of steps, over real sockets."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.journeys.grants import GRANT_FIELDS, grant_table, partner_table, with_added
from tests.journeys.partner import Client, Reply, comment, in_days, instant, parameters, patient, reason, until
from tests.journeys.processes import Json, Place, gateway_process

NOBODY = "9999999999"
"""An NHS number that is nobody's in the box."""


@dataclass
class Attempt:
    """A cancel that would be carried out, until ways to fail have been put into it."""

    traits: set[str] = field(default_factory=set)
    scope: str = "system/Appointment.rus"
    proof: str = "good"
    customer: str = "airedale"
    bends: list[Callable[[str], str]] = field(default_factory=list)
    """What is done to the path, the last first."""
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    query: str = ""
    given: dict[str, Json] = field(default_factory=lambda: {"reason": reason()})
    after_body: str = ""
    members: dict[str, Any] = field(default_factory=dict)
    owner: str | None = None
    exists: bool = True
    busy: bool = False
    faults: list[dict[str, Any]] = field(default_factory=list)

    @property
    def partner(self) -> str:
        return "-".join(("p", *sorted(self.traits)))


@dataclass(frozen=True)
class Way:
    """One way to fail at a step; two ways that need the same slot cannot be had in one request."""

    step: float
    name: str
    code: str
    fail: Callable[[Attempt], object]
    slots: frozenset[str]
    recorded: str = ""


def way(step: float, name: str, code: str, slot: str, recorded: str = "", **values: Any) -> Way:
    def fail(attempt: Attempt) -> None:
        for member, value in values.items():
            held = getattr(attempt, member)
            if isinstance(held, dict):
                held.update(value)
            elif isinstance(held, set):
                held.add(value)
            elif isinstance(held, list):
                held.append(value)
            else:
                setattr(attempt, member, value)

    return Way(step, name, code, fail, frozenset(slot.split()), recorded)


def without_reason(attempt: Attempt) -> None:
    del attempt.given["reason"]


FOREIGN = {"owner": "wharfedale"}
SECRET = {"meta": {"security": [{"system": "http://fhir.patientsknowbest.com/codesystem/privacy-label", "code": "X"}]}}
WAYS = (
    way(1, "empty segment", "malformed-request", "path", bends=lambda path: path.replace("/fhir", "//fhir")),
    way(1, "encoded dot", "malformed-request", "path", bends=lambda path: path.replace("/fhir", "/%2e/fhir")),
    way(1, "matrix parameter", "malformed-request", "path", bends=lambda path: path + ";x=1"),
    way(2, "unknown path", "not-found", "kind", bends=lambda path: path.replace("Appointment", "Patient")),
    way(2, "unknown method", "method-not-allowed", "method", method="DELETE"),
    way(2.5, "key too long", "invalid-parameter", "key", headers={"Idempotency-Key": "k" * 129}),
    way(4, "no token", "token-missing", "token", proof="none"),
    way(4, "forged token", "token-invalid", "token", proof="forged"),
    way(4, "expired token", "token-expired", "token", proof="expired"),
    way(5, "suspended", "partner-suspended", "status", traits="suspended"),
    way(6, "partner's rate", "rate-limited", "partner-rate", traits="hasty"),
    way(7, "scope", "scope-insufficient", "scope", scope="system/Appointment.rs"),
    way(8, "no grant", "no-grant", "customer", customer="wharfedale"),
    way(8, "grant to come", "grant-not-yet-valid", "days", traits="early"),
    way(8, "grant over", "grant-expired", "days", traits="late"),
    way(9, "may only read", "operation-not-granted", "operations", traits="looker"),
    way(10, "grant's rate", "rate-limited", "grant-rate", traits="narrow"),
    way(11.1, "accepts HTML", "not-acceptable", "accept", headers={"Accept": "text/html"}),
    way(11.2, "sends text", "unsupported-media-type", "type", headers={"Content-Type": "text/plain"}),
    way(11.2, "sends gzip", "unsupported-media-type", "coding", headers={"Content-Encoding": "gzip"}),
    way(11.3, "long body", "body-too-large", "comment", given={"comment": comment("x" * 70_000)}),
    way(11.4, "query", "invalid-parameter", "query", query="?access_token=x"),
    way(12, "any version", "invalid-parameter", "if-match", headers={"If-Match": "*"}),
    way(13.1, "trailing data", "malformed-json", "syntax", after_body="{}"),
    Way(13.2, "no reason", "missing-parameter", without_reason, frozenset({"reason"})),
    way(
        13.3, "unknown parameter", "invalid-parameter", "extra", given={"extra": {"name": "extra", "valueString": "x"}}
    ),
    way(16, "PKB answers 500", "upstream-unavailable", "pkb", faults={"kind": "status", "value": 500, "on": "read"}),
    way(16, "PKB answers HTML", "upstream-invalid", "pkb", faults={"kind": "garbage", "on": "read"}),
    way(17.1, "unknown id", "not-found", "there status start", exists=False),
    way(17.1, "another's", "not-found", "owner", owner="wharfedale"),
    way(17.1, "hidden label", "not-found", "labels", members=SECRET),
    way(17.1, "another patient", "not-found", "claim", "patient-mismatch", given={"patient": patient(NOBODY)}),
    way(17.2, "open write", "appointment-busy", "there busy", busy=True),
    way(18, "old version", "version-conflict", "if-match", headers={"If-Match": 'W/"0"'}),
    way(20.1, "cancelled", "already-cancelled", "status", members={"status": "cancelled"}),
    way(20.2, "fulfilled", "not-changeable", "status", members={"status": "fulfilled"}),
    way(20.2, "no start", "not-changeable", "start", members={"start": None, "end": None}),
    way(21, "yesterday", "in-the-past", "start", members={"start": "2020-01-01T10:00:00Z", "end": None}),
    way(22, "in the notice", "too-late", "notice", traits="noticed"),
    way(23, "unknown reason", "reason-not-allowed", "reason", given={"reason": reason("mood")}),
)


def pairs() -> Iterator[tuple[Way, Way]]:
    """Every way with the ways of the next step that can fail in the same request and is told apart from it."""
    for first in WAYS:
        later = [
            second
            for second in WAYS
            if second.step > first.step and second.slots.isdisjoint(first.slots) and second.code != first.code
        ]
        for second in later:
            if second.step == later[0].step:
                yield first, second


PAIRS = tuple(pairs())
GRANT_OF_TRAIT = {
    "looker": 'operations = ["read"]',
    "narrow": 'rate = "1/h"',
    "noticed": 'notice = "300d"',
    "strict": 'change = { fields = ["start", "end"], within = "7d" }',
}
STRICT: tuple[frozenset[str], ...] = (frozenset({"strict"}), frozenset({"noticed", "strict"}))


def combinations() -> set[frozenset[str]]:
    found: set[frozenset[str]] = {frozenset(), *STRICT}
    for together in (*PAIRS, *((way,) for way in WAYS)):
        attempt = Attempt()
        for each in together:
            each.fail(attempt)
        found.add(frozenset(attempt.traits))
    return found


def named(traits: frozenset[str]) -> str:
    return Attempt(traits=set(traits)).partner


def tables(every: set[frozenset[str]], *, suspending: bool) -> tuple[str, str]:
    """The partners and grants for all combinations; `suspending` False leaves everybody active."""
    partners, grants = "", ""
    for traits in sorted(every, key=named):
        rate = "1/h" if "hasty" in traits else "60000/min"
        status = "suspended" if suspending and "suspended" in traits else "active"
        partners += partner_table(named(traits), rate=rate, status=status)
        lines = [GRANT_OF_TRAIT[trait] for trait in sorted(traits & GRANT_OF_TRAIT.keys())]
        if not traits & {"strict", "looker"}:
            lines.append(f"change = {{ fields = {GRANT_FIELDS} }}")
        days = (10, 20) if "early" in traits else (-20, -10) if "late" in traits else (-60, 365)
        grants += grant_table(named(traits), *lines, days=days)
    return partners, grants


@pytest.fixture(scope="module")
def prepared(place: Place) -> Place:
    """Grants for every combination, rates that are to be used up used up, and then the suspended suspended."""

    async def prepare() -> None:
        original, every = place.grants.read_text(encoding="utf-8"), combinations()
        async with Client(place) as client:
            await client.regrant(with_added(original, *tables(every, suspending=False)))
            for traits in every:
                if traits & {"hasty", "narrow"}:
                    await client.read(client.demo("changeable")["id"], partner=named(traits))
            await client.regrant(with_added(original, *tables(every, suspending=True)))

    asyncio.run(prepare())
    return place


def proof(client: Client, attempt: Attempt) -> str:
    match attempt.proof:
        case "none":
            return ""
        case "forged":
            return client.place.token(attempt.partner, attempt.scope)[:-8] + "AAAAAAAA"
        case "expired":
            return client.place.token(attempt.partner, attempt.scope, age=4000)
    return client.place.token(attempt.partner, attempt.scope)


async def make_ready(client: Client, attempt: Attempt) -> str:
    """Bring PKB into the state the attempt is about; gives the appointment's id."""
    id_ = await client.fresh(**({} if attempt.busy else attempt.members)) if attempt.exists else "none-such"
    if attempt.busy:
        await client.fault("drop-before", on="write", count=1)
        assert (await client.cancel(id_, partner="p")).code == "outcome-unknown"
        await client.put(id_, {**await client.copy(id_), **attempt.members})
    if attempt.owner:
        await client.put(id_, await client.copy(id_), owner=attempt.owner)
    for fault in attempt.faults:
        await client.fault(**fault)
    return id_


async def carry_out(client: Client, attempt: Attempt, id_: str) -> Reply:
    path = f"/{attempt.customer}/fhir/Appointment/{id_}/$cancel"
    for bend in reversed(attempt.bends):
        path = bend(path)
    data = (json.dumps(parameters(*attempt.given.values())) + attempt.after_body).encode()
    return await client.ask(
        attempt.method, path + attempt.query, token=proof(client, attempt), headers=attempt.headers, data=data
    )


async def assert_answered(client: Client, reply: Reply, way: Way, before: int) -> None:
    assert reply.code == way.code
    assert len(await client.writes()) == before
    records = await client.audit_of(reply.request_id)
    assert [(each["decision"], each["code"]) for each in records] == [("refuse", way.recorded or way.code)]


@pytest.mark.parametrize(
    ("first", "second"), [pytest.param(*pair, id=f"{pair[0].name} before {pair[1].name}") for pair in PAIRS]
)
async def test_the_earlier_of_two_faults_answers(first: Way, second: Way, prepared: Place, client: Client) -> None:
    attempt = Attempt()
    first.fail(attempt)
    second.fail(attempt)
    id_ = await make_ready(client, attempt)
    before = len(await client.writes())
    reply = await carry_out(client, attempt, id_)
    await assert_answered(client, reply, first, before)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
async def test_each_fault_by_itself_has_its_own_code(way: Way, prepared: Place, client: Client) -> None:
    attempt = Attempt()
    way.fail(attempt)
    id_ = await make_ready(client, attempt)
    before = len(await client.writes())
    reply = await carry_out(client, attempt, id_)
    await assert_answered(client, reply, way, before)


def test_every_step_before_the_write_has_a_neighbour() -> None:
    reached = {first.step for first, _ in PAIRS} | {second.step for _, second in PAIRS}
    assert reached == {way.step for way in WAYS}


LOCATION = "Outpatients, Level 2"
ABOUT_A_CHANGE: dict[str, tuple[str, list[Callable[[datetime], Json]], dict[str, Any], str]] = {
    # name: code, parameters made from PKB's start, PKB's members, partner
    "route before field": (
        "not-supported-on-route",
        [lambda _: {"name": "managementUrl", "valueUrl": "https://a.example/"}, lambda _: location("Ward 2")],
        {},
        "p-strict",
    ),
    "field before nothing to change": ("field-not-changeable", [lambda _: location(LOCATION)], {}, "p-strict"),
    "nothing to change before end before start": (
        "nothing-to-change",
        [lambda start: instant("end", start - timedelta(hours=1))],
        {"end": -1},
        "p",
    ),
    "end before start before new time in the past": (
        "end-before-start",
        [lambda _: instant("start", in_days(-2)), lambda _: instant("end", in_days(-3))],
        {},
        "p",
    ),
    "new time in the past before outside the window": (
        "new-time-in-the-past",
        [lambda _: instant("start", in_days(-2))],
        {},
        "p-strict",
    ),
    "outside the window": (
        "outside-change-window",
        [lambda start: instant("start", start - timedelta(days=9))],
        {},
        "p-strict",
    ),
    "notice before field": ("too-late", [lambda _: location("Ward 2")], {}, "p-noticed-strict"),
}


def location(text: str) -> Json:
    return {"name": "location", "valueString": text}


@pytest.mark.parametrize("case", ABOUT_A_CHANGE)
async def test_the_rules_on_a_change_answer_in_their_order(case: str, prepared: Place, client: Client) -> None:
    code, given, members, partner = ABOUT_A_CHANGE[case]
    start = in_days(30)
    end = start + timedelta(hours=members.get("end", 1))
    id_ = await client.fresh("inside-notice", start=start.isoformat(), end=end.isoformat())
    held = [each for each in (await client.copy(id_))["participant"] if "display" not in each["actor"]]
    place = {"actor": {"type": "Location", "display": LOCATION}, "status": "accepted"}
    await client.put(id_, {**await client.copy(id_), "participant": [*held, place]})
    before = len(await client.writes())
    reply = await client.change(id_, *(make(start) for make in given), partner=partner)
    await assert_answered(client, reply, Way(23, case, code, lambda _: None, frozenset()), before)


async def test_a_grant_that_ends_while_pkb_is_read_permits_nothing(prepared: Place, client: Client) -> None:
    grants = prepared.grants.read_text(encoding="utf-8")
    id_, before = await client.fresh(), len(await client.writes())
    await client.fault("delay", 2500, on="read", count=1)
    running = asyncio.create_task(client.cancel(id_, partner="p"))
    await asyncio.sleep(0.3)
    try:
        await client.regrant(grants.replace('id = "airedale-p"', 'id = "airedale-p"\nshadow = true'))
        assert not running.done()
        await assert_answered(client, await running, Way(24, "", "no-grant", lambda _: None, frozenset()), before)
    finally:
        await client.regrant(grants)


async def test_a_failed_read_answers_before_a_grant_that_ended_meanwhile(prepared: Place, client: Client) -> None:
    grants = prepared.grants.read_text(encoding="utf-8")
    id_, before = await client.fresh(), len(await client.writes())
    await client.fault("delay", 2000, on="read", count=1)
    await client.fault("garbage", on="read", count=0)
    running = asyncio.create_task(client.cancel(id_, partner="p"))
    await asyncio.sleep(0.3)
    try:
        await client.regrant(grants.replace('id = "airedale-p"', 'id = "airedale-p"\nshadow = true'))
        assert not running.done()
        reply = await running
        await assert_answered(client, reply, Way(16, "", "upstream-invalid", lambda _: None, frozenset()), before)
    finally:
        await client.regrant(grants)


async def test_overload_comes_after_an_unknown_path_and_before_the_token(prepared: Place, client: Client) -> None:
    with gateway_process(prepared, "crowded", "[limits]\nin_flight = 1") as place:
        crowded = client.at(place)
        await client.fault("delay", 5000, on="read", count=1)
        holding = asyncio.create_task(crowded.read(client.demo("changeable")["id"], partner="p"))
        # Once PKB has its question, it holds the only place there is.
        await until(client.faults_left, lambda left: not left)
        assert (await crowded.read("x", token="")).code == "overloaded"
        assert (await crowded.ask("GET", "/nowhere", token="")).code == "not-found"
        assert (await crowded.ask("DELETE", "/airedale/fhir/Appointment/x", token="")).code == "method-not-allowed"
        assert (await crowded.ask("GET", "//nowhere", token="")).code == "malformed-request"
        last = await crowded.read("x", token="forged")
        assert (last.status, last.code, last.headers["Retry-After"]) == (503, "overloaded", "1")
        assert (await holding).status == 200
        assert [each["code"] for each in await crowded.audit_of(last.request_id)] == ["overloaded"]


async def test_draining_comes_after_an_unknown_path_and_before_the_token(prepared: Place, client: Client) -> None:
    with gateway_process(prepared, "leaving") as place:
        leaving = client.at(place)
        id_ = await client.fresh()
        assert (await leaving.ask("GET", "/_ping", token="")).status == 200
        await client.fault("delay", 3000, on="write", count=1)
        holding = asyncio.create_task(leaving.cancel(id_, partner="p"))
        await until(lambda: client.writes(id_), bool)
        os.kill(place.pid, signal.SIGTERM)

        async def draining() -> str:
            return (await leaving.read("x", token="")).code

        await until(draining, lambda code: code == "draining", 2)
        assert (await leaving.ask("GET", "/nowhere", token="")).code == "not-found"
        last = await leaving.read("x", token="")
        assert (last.status, last.code, last.headers["Retry-After"]) == (503, "draining", "1")
        assert (await holding).status == 200


async def test_an_audit_that_takes_nothing_answers_before_anything_is_sent(prepared: Place, client: Client) -> None:
    with gateway_process(prepared, "full", audit='reserve = "1024GiB"') as place:
        id_ = await client.fresh()
        await client.fault("drop-before", on="write")
        reply = await client.at(place).cancel(id_, partner="p")
        assert (reply.status, reply.code, reply.headers["Retry-After"]) == (503, "audit-unavailable", "5")
        assert await client.writes(id_) == []
        assert [each for each in client.at(place).place.records() if each["event"] == "intent"] == []
