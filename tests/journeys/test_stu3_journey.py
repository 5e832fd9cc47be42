"""A hospital whose box speaks STU3: partners see R4, and PKB gets its own document back but for what was asked for."""

import json
import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.journeys.exact import STRANGE, differences, exactly
from tests.journeys.partner import (
    REASONS,
    Client,
    Reply,
    birth_date,
    comment,
    instant,
    location,
    patient,
    reason,
    until,
)
from tests.journeys.processes import Json

CUSTOMER = "leeds"
REASON = "http://hl7.org/fhir/4.0/StructureDefinition/extension-Appointment.cancelationReason"


def demo(client: Client, scenario: str, number: int = 0) -> Json:
    known = [each for each in client.place.told["appointments"] if each["customer"] == CUSTOMER]
    return dict([each for each in known if each["scenario"] == scenario][number])


async def strange(client: Client, number: int = 3) -> str:
    """An STU3 appointment with numbers and elements that are easily spoiled."""
    like, made = demo(client, "changeable", number)["id"], f"s-{uuid.uuid4().hex[:20]}"
    text = (await client.copy_text(like, CUSTOMER)).replace(f'"id":"{like}"', f'"id":"{made}"')
    held = "{" + STRANGE.replace('"extension":', '"strange":') + text.lstrip()[1:]
    await client.put_text(made, held, CUSTOMER)
    return made


async def held(client: Client, id_: str) -> Json:
    """PKB's copy, numbers as they are written."""
    return dict(exactly(await client.copy_text(id_, CUSTOMER)))


def assert_only_the_stamp_differs(before: Json, after: Json) -> None:
    stamp = {"versionId": "", "lastUpdated": ""}
    assert {**before["meta"], **stamp} == {**after["meta"], **stamp}


def places(copy: Json) -> list[Json]:
    return [each["actor"] for each in copy["participant"] if "Location" in json.dumps(each["actor"].get("extension"))]


async def test_a_read_is_r4_and_says_all_that_pkb_does(client: Client) -> None:
    id_ = await strange(client)
    mine = await held(client, id_)
    reply = await client.read(id_, customer=CUSTOMER)
    assert (reply.status, reply.headers["ETag"]) == (200, f'W/"{mine["meta"]["versionId"]}"')
    seen = exactly(reply.raw.decode())
    assert seen["reasonCode"] == mine["reason"]
    assert seen["serviceCategory"] == [mine["serviceCategory"]]
    assert "reason" not in seen
    assert differences(mine, seen) <= {"reason", "reasonCode", "serviceCategory", "participant"}
    for name in ("id", "meta", "status", "start", "end", "comment", "identifier", "specialty", "strange", "pasRecord"):
        assert seen[name] == mine[name], name
    assert [each["actor"].get("reference") for each in seen["participant"]] == [
        each["actor"].get("reference") for each in mine["participant"]
    ]


async def test_a_cancel_changes_status_and_its_reason_and_nothing_else(client: Client) -> None:
    id_ = await strange(client)
    before = await held(client, id_)
    reply = await client.cancel(id_, reason("pat-crs"), comment("Not needed."), customer=CUSTOMER)
    assert (reply.status, reply.body["status"]) == (200, "cancelled")
    told = {"coding": [{"system": REASONS, "code": "pat-crs"}]}
    assert reply.body["cancelationReason"] == told
    after = await held(client, id_)
    assert differences(before, after) == {"status", "comment", "extension", "meta"}
    assert_only_the_stamp_differs(before, after)
    assert after["extension"] == [*before["extension"], {"url": REASON, "valueCodeableConcept": told}]
    assert (after["status"], after["comment"], "cancelationReason" in after) == ("cancelled", "Not needed.", False)
    [write] = await client.writes(id_)
    assert differences(exactly(write["body"]), after) <= {"meta"}
    assert write["headers"]["if-match"] == f'W/"{before["meta"]["versionId"]}"'


async def test_a_change_of_everything_changes_nothing_else(client: Client) -> None:
    id_ = await strange(client)
    before = await held(client, id_)
    start = datetime.fromisoformat(before["start"]) + timedelta(days=3)
    given = (instant("start", start), instant("end", start + timedelta(minutes=45)), comment("Moved."))
    reply = await client.change(id_, *given, location("Ward 7"), customer=CUSTOMER)
    assert reply.status == 200
    after = await held(client, id_)
    duration = {"minutesDuration"} & before.keys()
    assert differences(before, after) == {"start", "end", "comment", "participant", "meta"} | duration
    assert_only_the_stamp_differs(before, after)
    assert (after["start"], after["comment"]) == (start.isoformat(), "Moved.")
    assert [each["display"] for each in places(after)] == ["Ward 7"]
    assert not any("type" in each["actor"] for each in after["participant"])
    others = [each for each in before["participant"] if each["actor"] not in places(before)]
    assert [each for each in after["participant"] if each["actor"] not in places(after)] == others
    [shown] = [each["actor"] for each in reply.body["participant"] if each["actor"].get("type") == "Location"]
    assert shown["display"] == "Ward 7"


@pytest.mark.parametrize("number", range(4))
async def test_a_change_of_the_comment_alone_touches_nothing_else(number: int, client: Client) -> None:
    id_ = await strange(client, number)
    before = await held(client, id_)
    assert (await client.change(id_, comment("Bring your glasses."), customer=CUSTOMER)).status == 200
    after = await held(client, id_)
    assert differences(before, after) == {"comment", "meta"}
    assert_only_the_stamp_differs(before, after)


REFUSED = {
    "cancelled": (409, "already-cancelled"),
    "past": (422, "in-the-past"),
    "inside-notice": (422, "too-late"),
    "label-outside": (404, "not-found"),
    "fulfilled": (409, "not-changeable"),
    "noshow": (409, "not-changeable"),
}


@pytest.mark.parametrize("scenario", REFUSED)
async def test_what_must_not_be_written_is_refused_as_elsewhere(scenario: str, client: Client) -> None:
    id_ = demo(client, scenario)["id"]
    for reply in (
        await client.cancel(id_, customer=CUSTOMER),
        await client.change(id_, comment("x"), customer=CUSTOMER),
    ):
        assert (reply.status, reply.code) == REFUSED[scenario]
    assert await client.writes(id_) == []


async def test_the_patient_is_checked_where_it_is_named(client: Client) -> None:
    id_, one, other = await strange(client), demo(client, "changeable", 3), demo(client, "changeable", 2)
    wrong = (patient(other["patient_identifier"].split("|")[1]), birth_date(other["birth_date"]))
    assert (await client.cancel(id_, reason(), *wrong, customer=CUSTOMER)).code == "not-found"
    right = (patient(one["patient_identifier"].split("|")[1]), birth_date(one["birth_date"]))
    assert (await client.cancel(id_, reason(), *right, customer=CUSTOMER)).status == 200
    assert len(await client.writes(id_)) == 1


async def cancel(client: Client, id_: str) -> Reply:
    return await client.cancel(id_, reason(), comment("Sorry."), customer=CUSTOMER)


async def change(client: Client, id_: str) -> Reply:
    return await client.change(id_, location("Ward 7"), comment("Bring your glasses."), customer=CUSTOMER)


@pytest.mark.parametrize("operation", [cancel, change])
@pytest.mark.parametrize(
    "fault", [{"kind": "drop-after"}, {"kind": "garbage", "value": "applied"}], ids=["drop", "HTML"]
)
async def test_a_doubtful_answer_is_found_out_by_reading(fault: Json, operation: Any, client: Client) -> None:
    id_ = await strange(client)
    await client.fault(**fault, on="write", count=1, customer=CUSTOMER)
    assert (await operation(client, id_)).status == 200
    assert [each["applied"] for each in await client.writes(id_)] == [True]


async def test_a_version_that_somebody_else_wrote_meanwhile_is_a_conflict(client: Client) -> None:
    id_ = await strange(client)
    await client.fault("status", 412, on="write", count=1, customer=CUSTOMER)
    reply = await change(client, id_)
    assert (reply.status, reply.code) == (412, "version-conflict")
    records = await until(lambda: client.audit_of(reply.request_id, "outcome"), bool)
    assert [(each["outcome"], each["final"]) for each in records] == [("rejected", True)]
