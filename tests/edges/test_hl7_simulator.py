"""The route against the simulated PKB: two codecs that share nothing have to understand each other."""

import asyncio
import copy
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.domain.appointment import CANCEL_REASON_SYSTEM, Appointment, Cancel, Change, Instant, PatientClaim, Write
from gateway.domain.codes import Code
from gateway.domain.grant import Coding, Customer, CustomerKind, Ownership, Route, RouteKind
from gateway.domain.hl7_limits import unsayable
from gateway.flow.ports import Acknowledged, Doubt, NotSent, Sender, Sighting, Turned
from gateway.pkb.aggregated import AggregatedSettings
from gateway.pkb.credentials import TokenSettings
from gateway.pkb.hl7_route import Hl7Answer, Hl7Route, Hl7Settings, Login
from gateway.pkb.http import HttpClient
from gateway.pkb.line import Line
from gateway.simulator import DemoAppointment, Simulator
from gateway.simulator.aggregated_resources import PLACER_SYSTEM
from gateway.simulator.customers import BRADFORD
from gateway.simulator.faults import Fault

LONDON = ZoneInfo("Europe/London")
CUSTOMER = Customer(
    "bradford",
    "Bradford",
    CustomerKind.ORGANISATION,
    BRADFORD.source,
    Route("bradford", RouteKind.HL7, Ownership.RESOURCE_META),
    LONDON,
    frozenset({"GENERAL_HEALTH"}),
)
ID = "c0ffee-0001"
REASON = (Coding(CANCEL_REASON_SYSTEM, "pat"),)


@dataclass
class Bradford:
    """The simulated hospital, and the route that reaches it."""

    pkb: Simulator
    route: Hl7Route
    now: datetime

    def scenario(self, name: str = "changeable", number: int = 0) -> DemoAppointment:
        return [held for held in self.pkb.appointments if held.scenario == name][number]

    async def read(self, held: DemoAppointment) -> Sighting:
        found = await self.route.read(CUSTOMER, held.id, soon(), fresh=True)
        assert found is not None
        return found

    async def write(self, held: DemoAppointment, command: Write, partner: str = "swiftbook") -> Hl7Answer:
        sender = Sender(partner, "bradford", ID, self.now)
        return await self.route.write(CUSTOMER, command, await self.read(held), soon(), sender=sender)

    def fault(self, target: Any, kind: Any, value: Any = None) -> None:
        self.pkb.world.faults.add(Fault(target=target, kind=kind, value=value))

    def truth(self, held: DemoAppointment) -> Any:
        kept = self.pkb.world.copy(BRADFORD, held.id)
        assert kept is not None
        return copy.deepcopy(kept.resource)

    def known(self) -> int:
        return len(list(self.pkb.world.aggregated.newest.all("Appointment")))


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


def claim(held: DemoAppointment) -> PatientClaim:
    return PatientClaim(held.patient_identifier.partition("|")[2], date.fromisoformat(held.birth_date))


def cancel(held: DemoAppointment) -> Cancel:
    return Cancel(REASON, claim=claim(held))


def instant(at: datetime) -> Instant:
    return Instant(at, at.isoformat())


def kept(facts: Appointment) -> Any:
    return facts.labels, facts.specialties, facts.participants, facts.identifiers, facts.provenance, facts.placer_id


@pytest.fixture
async def bradford() -> AsyncIterator[Bradford]:
    now = datetime.now(UTC).replace(microsecond=0)
    pkb = Simulator(now, hospitals=("bradford",))
    await pkb.start()
    reader = pkb.aggregated_credentials
    token = TokenSettings(pkb.aggregated_token_url, reader.client_id, reader.client_secret)
    settings = Hl7Settings(pkb.hl7_url, "P", AggregatedSettings(pkb.aggregated_url, token, PLACER_SYSTEM))
    logins = {name: Login(held.username, held.password) for name, held in pkb.hl7_credentials.items()}
    logins["liar"] = Login("partner_swiftbook", "wrong")
    async with HttpClient("gateway/test") as http:
        route = Hl7Route(settings, Line(http), lambda: 0.0, logins.get)
        yield Bradford(pkb, route, now)
        await route.close()
    await pkb.close()


async def test_what_is_read_is_what_the_demonstration_lists(bradford: Bradford) -> None:
    held = bradford.scenario()

    found = await bradford.read(held)

    facts = found.appointment
    assert facts.placer_id == held.identifier.partition("|")[2]
    assert facts.provenance.source_organisations == (BRADFORD.source,)
    assert facts.patient is not None
    assert (facts.patient.nhs_number, facts.patient.birth_date) == (claim(held).nhs_number, claim(held).birth_date)
    assert facts.version == held.version


async def test_a_cancel_cancels_and_touches_nothing_else(bradford: Bradford) -> None:
    held = bradford.scenario()
    before = bradford.truth(held)

    assert await bradford.write(held, cancel(held)) == Acknowledged("AA", ID)

    after = bradford.truth(held)
    assert after.pop("status") == "cancelled"
    before.pop("status")
    for told in (before, after):
        told["meta"] = {name: value for name, value in told["meta"].items() if name not in {"versionId", "lastUpdated"}}
    assert after == before


CHANGES = {
    "start": {"start"},
    "times": {"start", "end"},
    "comment": {"comment"},
    "location": {"location"},
    "url": {"url"},
    "everything": {"start", "end", "comment", "location", "url"},
}


@pytest.mark.parametrize("fields", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("number", range(4), ids=lambda number: f"appointment-{number}")
async def test_a_change_changes_what_it_says_and_keeps_all_else(
    bradford: Bradford, fields: set[str], number: int
) -> None:
    held = bradford.scenario(number=number)
    before = (await bradford.read(held)).appointment
    assert before.start is not None
    begins = (before.start + timedelta(days=7)).astimezone(LONDON).replace(hour=15, minute=5, second=0)
    text = "a|b^c&d~e\\F\\ ]]> <b>&amp; {x} ü 🙂"
    url = "https://manage.partner.example/a?b=1&c=2"
    change = Change(
        instant(begins) if "start" in fields else None,
        instant(begins + timedelta(minutes=20)) if "end" in fields else None,
        text if "comment" in fields else None,
        f"Room {text}" if "location" in fields else None,
        url if "url" in fields else None,
        claim(held),
    )
    assert unsayable(change, before, LONDON) is None

    assert await bradford.write(held, change) == Acknowledged("AA", ID)

    after = (await bradford.read(held)).appointment
    assert kept(after) == kept(before)
    assert after.version != before.version
    assert after.status is before.status
    assert after.start == (begins if "start" in fields else before.start)
    assert after.end == (begins + timedelta(minutes=20) if "end" in fields else before.end)
    assert after.comment == (text if "comment" in fields else before.comment)
    assert after.locations == ((f"Room {text}",) if "location" in fields else before.locations)
    assert bradford.pkb.world.aggregated.management_urls.get(held.id) == (url if "url" in fields else None)
    assert bradford.truth(held)["extension"][-1]["valueCoding"]["code"] == "O"


@pytest.mark.parametrize("scenario", ["cancelled", "noshow"])
async def test_nothing_is_revived(bradford: Bradford, scenario: str) -> None:
    held = bradford.scenario(scenario)
    before = bradford.truth(held)

    assert isinstance(await bradford.write(held, Change(comment="x", claim=claim(held))), NotSent)
    assert isinstance(await bradford.write(held, cancel(held)), NotSent)
    assert bradford.pkb.writes == []
    assert bradford.truth(held) == before


async def test_a_cancel_of_what_pkb_has_lost_creates_nothing(bradford: Bradford) -> None:
    held = bradford.scenario()
    sighting = await bradford.read(held)
    lost = bradford.truth(held) | {"identifier": []}
    bradford.pkb.world.aggregated.put("Appointment", held.id, lost, bradford.now)
    known = bradford.known()
    sender = Sender("swiftbook", "bradford", ID, bradford.now)

    answer = await bradford.route.write(CUSTOMER, cancel(held), sighting, soon(), sender=sender)

    assert answer == Turned(Code.UPSTREAM_REFUSED, "AR", ID)
    assert bradford.known() == known


@pytest.mark.parametrize(
    ("kind", "value", "meaning", "applied"),
    [
        ("ack", "AR", Turned(Code.UPSTREAM_REFUSED, "AR", ID), False),
        ("ack", "AE", Doubt("the acknowledgement says neither yes nor no", "AE", ID), False),
        ("ack", "AA-held", Acknowledged("AA", ID), False),
        ("ack", "wrong-id", Doubt("the acknowledgement is about another message", "AA", ID), True),
        ("status", 503, Doubt("answered 503", 503, ID), False),
        ("status", 403, Turned(Code.UPSTREAM_REFUSED, 403, ID), False),
        ("drop-before", None, Doubt("ServerDisconnectedError", None, ID), False),
        ("drop-after", None, Doubt("ServerDisconnectedError", None, ID), True),
        ("garbage", "applied", Doubt("the answer is not plain XML", 200, ID), True),
        ("garbage", "not-applied", Doubt("the answer is not plain XML", 200, ID), False),
    ],
)
async def test_what_goes_wrong_is_told_as_it_is_and_nothing_is_sent_twice(
    bradford: Bradford, kind: str, value: Any, meaning: Hl7Answer, applied: bool
) -> None:
    held = bradford.scenario()
    bradford.fault("hl7", kind, value)

    answer = await bradford.write(held, cancel(held))

    assert type(answer) is type(meaning)
    if kind != "garbage":
        assert answer == meaning
    assert len(bradford.pkb.writes) == 1
    assert bradford.truth(held)["status"] == ("cancelled" if applied else "booked")


async def test_a_message_about_somebody_born_on_another_day_waits_for_a_person(bradford: Bradford) -> None:
    held = bradford.scenario()
    wrong = PatientClaim(claim(held).nhs_number, date(1901, 1, 1))

    assert await bradford.write(held, Cancel(REASON, claim=wrong)) == Acknowledged("AA", ID)
    assert bradford.truth(held)["status"] == "booked"


async def test_a_write_becomes_visible_only_after_the_lag(bradford: Bradford) -> None:
    held = bradford.scenario()
    bradford.fault("aggregated", "lag", 60_000)

    await bradford.write(held, cancel(held))

    assert bradford.truth(held)["status"] == "cancelled"
    assert (await bradford.read(held)).appointment.version == held.version


@pytest.mark.parametrize(
    ("partner", "meaning"),
    [
        ("liar", Turned(Code.UPSTREAM_REFUSED, 401, ID)),
        ("cardiolink", Turned(Code.UPSTREAM_REFUSED, "AR", ID)),
        ("unheard-of", NotSent("no HL7 login that can be sent")),
    ],
)
async def test_a_partner_that_pkb_does_not_let_in_changes_nothing(
    bradford: Bradford, partner: str, meaning: Hl7Answer
) -> None:
    held = bradford.scenario()

    assert await bradford.write(held, cancel(held), partner) == meaning
    assert bradford.truth(held)["status"] == "booked"
