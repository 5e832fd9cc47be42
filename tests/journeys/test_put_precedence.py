"""Of two faults in one PUT or PATCH the earlier step answers, over real sockets."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.journeys.grants import grant_table, partner_table, with_added
from tests.journeys.partner import REASONS, Client, Reply, in_days
from tests.journeys.processes import Json, Place
from tests.journeys.test_precedence import FOREIGN, SECRET, Way, assert_answered, way

PATCH = "application/json-patch+json"
CANCELLED: dict[str, Any] = {
    "status": "cancelled",
    "cancelationReason": {"coding": [{"system": REASONS, "code": "pat"}]},
}


@dataclass
class Attempt:
    """A cancel by PUT that would be carried out, until ways to fail have been put into it."""

    traits: set[str] = field(default_factory=set)
    scope: str = "system/Appointment.rus"
    customer: str = "airedale"
    headers: dict[str, str | None] = field(default_factory=dict)
    """None: left out."""
    query: str = ""
    wanted: dict[str, Any] = field(default_factory=lambda: dict(CANCELLED))
    after_body: str = ""
    members: dict[str, Any] = field(default_factory=dict)
    owner: str | None = None
    exists: bool = True
    busy: bool = False
    faults: list[dict[str, Any]] = field(default_factory=list)

    @property
    def partner(self) -> str:
        return "-".join(("w", *sorted(self.traits)))


WAYS = (
    way(7, "scope", "scope-insufficient", "scope", scope="system/Appointment.rs"),
    way(8, "no grant", "no-grant", "customer", customer="wharfedale"),
    way(9, "may only read", "operation-not-granted", "operations", traits="looker"),
    way(11.1, "accepts HTML", "not-acceptable", "accept", headers={"Accept": "text/html"}),
    way(11.2, "sends a patch", "unsupported-media-type", "type", headers={"Content-Type": PATCH}),
    way(11.3, "query", "invalid-parameter", "query", query="?_format=json"),
    way(12.1, "no version", "version-required", "if-match", headers={"If-Match": None}),
    way(12.2, "any version", "invalid-parameter", "if-match", headers={"If-Match": "*"}),
    way(13.1, "trailing data", "malformed-json", "syntax", after_body="{}"),
    way(13.2, "patient required", "missing-parameter", "patient", traits="named"),
    way(13.3, "another id", "invalid-parameter", "id", wanted={"id": "another"}),
    way(16, "PKB answers 500", "upstream-unavailable", "pkb", faults={"kind": "status", "value": 500, "on": "read"}),
    way(17.1, "unknown id", "not-found", "there status start", exists=False),
    way(17.1, "another's", "not-found", "owner", **FOREIGN),
    way(17.1, "hidden label", "not-found", "labels", members=SECRET),
    way(17.2, "open write", "appointment-busy", "there busy", busy=True),
    way(18, "old version", "version-conflict", "if-match", headers={"If-Match": 'W/"0"'}),
    way(19.1, "bad comment", "invalid-parameter", "comment", wanted={"comment": "x" * 501}),
    way(19.2, "moves it too", "mixed-intent", "start", wanted={"start": in_days(40).isoformat()}),
    way(19.3, "may only change", "operation-not-granted", "operations", traits="changer"),
    way(20, "fulfilled", "not-changeable", "status", members={"status": "fulfilled"}),
    way(21, "yesterday", "in-the-past", "start", members={"start": "2020-01-01T10:00:00Z", "end": None}),
    way(22, "in the notice", "too-late", "notice", traits="noticed"),
    way(23.1, "describes it", "field-not-changeable", "description", wanted={"description": "x"}),
    way(23.2, "no reason", "reason-not-allowed", "reason", wanted={"cancelationReason": {"text": "Because"}}),
)
TRAITS = {
    "looker": 'operations = ["read"]',
    "changer": 'operations = ["read", "change"]',
    "named": 'patient = "required"',
    "noticed": 'notice = "300d"',
}


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


def attempt_of(*ways: Way) -> Attempt:
    made = Attempt()
    for each in ways:
        each.fail(made)  # type: ignore[arg-type] # a way sets members by name, and these have the same
    return made


@pytest.fixture(scope="module")
def prepared(place: Place) -> Place:
    """Grants for every combination of traits."""

    async def prepare() -> None:
        every = {frozenset(attempt_of(*ways).traits) for ways in (*PAIRS, *((way,) for way in WAYS))}
        partners, grants = "", ""
        for traits in sorted(every, key=sorted):
            name = Attempt(traits=set(traits)).partner
            partners += partner_table(name)
            lines = [TRAITS[trait] for trait in sorted(traits)]
            if "looker" not in traits:
                lines.append('change = { fields = ["start", "end", "comment"] }')
            grants += grant_table(name, *lines)
        async with Client(place) as client:
            await client.regrant(with_added(place.grants.read_text(encoding="utf-8"), partners, grants))

    asyncio.run(prepare())
    return place


async def make_ready(client: Client, attempt: Attempt) -> tuple[str, Json]:
    """Bring PKB into the state the attempt is about; gives the id and the copy, as the partner may have read it."""
    id_ = await client.fresh(**({} if attempt.busy else attempt.members))
    if attempt.busy:
        await client.fault("drop-before", on="write", count=1)
        assert (await client.cancel(id_, partner="w")).code == "outcome-unknown"
        await client.put(id_, {**await client.copy(id_), **attempt.members})
    if attempt.owner:
        await client.put(id_, await client.copy(id_), owner=attempt.owner)
    shown = await client.copy(id_)
    for fault in attempt.faults:
        await client.fault(**fault)
    return (id_, shown) if attempt.exists else ("none-such", shown | {"id": "none-such"})


async def carry_out(client: Client, attempt: Attempt, id_: str, shown: Json) -> Reply:
    data = (json.dumps(shown | attempt.wanted) + attempt.after_body).encode()
    headers = {"If-Match": f'W/"{shown["meta"]["versionId"]}"', **attempt.headers}
    sent = {name: value for name, value in headers.items() if value is not None}
    token = client.place.token(attempt.partner, attempt.scope)
    path = f"/{attempt.customer}/fhir/Appointment/{id_}{attempt.query}"
    return await client.ask("PUT", path, token=token, headers=sent, data=data)


@pytest.mark.parametrize(
    ("first", "second"), [pytest.param(*pair, id=f"{pair[0].name} before {pair[1].name}") for pair in PAIRS]
)
async def test_the_earlier_of_two_faults_answers(first: Way, second: Way, prepared: Place, client: Client) -> None:
    attempt = attempt_of(first, second)
    id_, shown = await make_ready(client, attempt)
    before = len(await client.writes())
    await assert_answered(client, await carry_out(client, attempt, id_, shown), first, before)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
async def test_each_fault_by_itself_has_its_own_code(way: Way, prepared: Place, client: Client) -> None:
    attempt = attempt_of(way)
    id_, shown = await make_ready(client, attempt)
    before = len(await client.writes())
    await assert_answered(client, await carry_out(client, attempt, id_, shown), way, before)


async def test_without_a_fault_it_is_carried_out(prepared: Place, client: Client) -> None:
    id_, shown = await make_ready(client, Attempt())
    assert (await carry_out(client, Attempt(), id_, shown)).status == 200


@pytest.mark.parametrize(
    ("operations", "code", "missing"),
    [
        ([{"op": "test", "path": "/status", "value": "x"}], "not-found", True),
        ([{"op": "remove", "path": "/nope"}], "not-found", True),
        ([{"op": "remove", "path": "nope"}], "invalid-parameter", True),
        ([{"op": "test", "path": "/status", "value": "x"}], "version-conflict", False),
        ([{"op": "remove", "path": "/nope"}], "invalid-parameter", False),
    ],
    ids=["test, none", "no place, none", "no pointer, none", "test", "no place"],
)
async def test_a_patch_is_applied_only_to_what_its_partner_may_know_of(
    operations: list[Json], code: str, missing: bool, prepared: Place, client: Client
) -> None:
    id_, shown = await make_ready(client, Attempt(exists=not missing))
    headers = {"Content-Type": PATCH, "If-Match": f'W/"{shown["meta"]["versionId"]}"'}
    path = f"/airedale/fhir/Appointment/{id_}"
    reply = await client.ask("PATCH", path, partner="w", headers=headers, data=json.dumps(operations).encode())
    assert reply.code == code
    assert await client.writes(id_) == []
