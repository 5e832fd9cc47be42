"""A customer that is its own partner: nothing but configuration, as docs/grants.md shows it."""

import re
import shutil
from pathlib import Path

import pytest

from tests.journeys.partner import Client, Reply, comment
from tests.journeys.processes import Json, Place
from tests.journeys.test_tokens_journey import assertion, post

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "grants.md"


def example() -> str:
    """The complete file of the section about in-house partners."""
    section = DOCUMENT.read_text(encoding="utf-8").partition("## A customer as its own partner")[2]
    found = re.search(r"```toml\n(version = 1\n.*?)```", section, re.DOTALL)
    assert found is not None, "the section has no file"
    # The document's year ends; the test's does not.
    return re.sub(r"^until = .*$", "until = 2999-01-01", found[1], flags=re.MULTILINE)


@pytest.fixture
async def booking(client: Client) -> Client:
    """A client of a gateway with the document's grants file, the two systems having keys of their own."""
    keys = client.place.grants.parent / "keys"
    shutil.copy(keys / "swiftbook.jwks.json", keys / "airedale-pas.jwks.json")
    shutil.copy(keys / "cardiolink.jwks.json", keys / "cardiology-desk.jwks.json")
    await client.regrant(example())
    return client


async def ask(client: Client, partner: str, customer: str, appointment: str) -> Reply:
    return await client.read(appointment, customer=customer, partner=partner)


def owned(place: Place, scenario: str, customer: str = "airedale") -> Json:
    known = [each for each in place.told["appointments"] if each["customer"] == customer]
    return dict(next(each for each in known if each["scenario"] == scenario))


async def test_an_organisation_reads_changes_and_cancels_its_own_appointments(booking: Client) -> None:
    made = await booking.fresh()
    assert (await ask(booking, "airedale-pas", "airedale", made)).status == 200
    changed = await booking.change(made, comment("Come in by the west door."), partner="airedale-pas")
    assert changed.status == 200
    assert (await booking.cancel(made, partner="airedale-pas")).status == 200
    assert (await booking.copy(made))["status"] == "cancelled"
    assert len(await booking.writes(made)) == 2


async def test_the_audit_names_it_as_partner_and_as_customer(booking: Client) -> None:
    made = await booking.fresh()
    reply = await booking.cancel(made, partner="airedale-pas")
    for record in await booking.audit_of(reply.request_id, count=2):
        assert (record["partner"], record["customer"], record["grant"]) == (
            "airedale-pas",
            "airedale",
            "airedale-itself",
        )


async def test_an_organisation_reaches_its_teams_appointments_at_its_own_address_only(booking: Client) -> None:
    team = owned(booking.place, "team-owned")["id"]
    assert (await ask(booking, "airedale-pas", "airedale", team)).status == 200
    assert (await ask(booking, "airedale-pas", "airedale-cardiology", team)).code == "no-grant"


async def test_a_team_reaches_its_own_appointments_and_not_its_organisations(booking: Client) -> None:
    like = await booking.copy(owned(booking.place, "team-owned")["id"])
    made = await booking.fresh(participant=like["participant"])
    mine = owned(booking.place, "changeable")["id"]
    assert (await ask(booking, "cardiology-desk", "airedale-cardiology", made)).status == 200
    assert (await ask(booking, "cardiology-desk", "airedale-cardiology", mine)).code == "not-found"
    assert (await ask(booking, "cardiology-desk", "airedale", made)).code == "no-grant"
    cancelled = await booking.cancel(made, customer="airedale-cardiology", partner="cardiology-desk")
    assert (cancelled.status, cancelled.body["status"]) == (200, "cancelled")


async def test_being_ones_own_partner_gives_no_right_that_is_not_granted(booking: Client) -> None:
    made = await booking.fresh()
    text = example()
    await booking.regrant(text[: text.index('\n[[grants]]\nid = "airedale-itself"')])
    assert (await ask(booking, "airedale-pas", "airedale", made)).code == "no-grant"
    await booking.regrant(text)
    other = owned(booking.place, "other-customer")["id"]
    assert (await ask(booking, "airedale-pas", "airedale", other)).code == "not-found"


async def test_its_labels_bound_it_like_any_partner(booking: Client) -> None:
    hidden = owned(booking.place, "label-outside")["id"]
    assert (await ask(booking, "airedale-pas", "airedale", hidden)).status == 200
    await booking.regrant(example().replace('"GENERAL_HEALTH", "SEXUAL_HEALTH"', '"GENERAL_HEALTH"'))
    assert (await ask(booking, "airedale-pas", "airedale", hidden)).code == "not-found"


@pytest.mark.parametrize(
    ("system", "customer"), [("airedale-pas", "airedale"), ("cardiology-desk", "airedale-cardiology")]
)
async def test_it_gets_tokens_as_any_partner_does(booking: Client, system: str, customer: str) -> None:
    keys = {"airedale-pas": "swiftbook", "cardiology-desk": "cardiolink"}
    got = await post(booking, assertion(booking, keys[system], client_id=system))
    assert (got.status, got.body["scope"]) == (200, "system/Appointment.rus")
    team = owned(booking.place, "team-owned")["id"]
    reply = await booking.read(team, customer=customer, token=got.body["access_token"])
    assert (reply.status, reply.body["id"]) == (200, team)
