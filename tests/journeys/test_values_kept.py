"""PKB's copy after a write differs from the one before in what was asked for, and in nothing else."""

from datetime import datetime, timedelta

import pytest

from tests.journeys.exact import STRANGE, differences, exactly
from tests.journeys.partner import REASONS, Client, comment, instant, reason
from tests.journeys.processes import Json


async def strange(client: Client, number: int) -> str:
    """An appointment full of what no gateway should touch."""
    demo = client.demo("changeable", number)["id"]
    text = (
        (await client.copy_text(demo))
        .replace(f'"id":"{demo}"', f'"id":"s-{demo}"')
        .replace('"extension":', '"old":', 1)
    )
    await client.put_text(f"s-{demo}", "{" + STRANGE + text.lstrip()[1:])
    return f"s-{demo}"


async def written_once(client: Client, id_: str) -> Json:
    [write] = await client.writes(id_)
    return dict(exactly(write["body"]))


def assert_only_the_stamp_differs(before: Json, after: Json) -> None:
    assert {**before["meta"], "versionId": "", "lastUpdated": ""} == {
        **after["meta"],
        "versionId": "",
        "lastUpdated": "",
    }


@pytest.mark.parametrize("number", [0, 1, 2, 3])
async def test_a_cancel_changes_status_reason_and_comment_only(number: int, client: Client) -> None:
    id_ = await strange(client, number)
    before = exactly(await client.copy_text(id_))
    assert (await client.cancel(id_, reason("pat-crs"), comment("Not needed."))).status == 200
    after = exactly(await client.copy_text(id_))
    assert differences(before, after) == {"status", "cancelationReason", "comment", "meta"}
    assert_only_the_stamp_differs(before, after)
    assert after["status"] == "cancelled"
    assert after["cancelationReason"] == {"coding": [{"system": REASONS, "code": "pat-crs"}]}
    assert after["comment"] == "Not needed."
    assert differences(await written_once(client, id_), after) <= {"meta"}


async def test_a_cancel_without_a_comment_keeps_pkbs(client: Client) -> None:
    id_ = await strange(client, 4)
    before = exactly(await client.copy_text(id_))
    assert (await client.cancel(id_)).status == 200
    assert differences(before, exactly(await client.copy_text(id_))) == {"status", "cancelationReason", "meta"}


@pytest.mark.parametrize("number", [5, 6, 7, 8])
async def test_a_change_of_everything_changes_nothing_else(number: int, client: Client) -> None:
    id_ = await strange(client, number)
    before = exactly(await client.copy_text(id_))
    start = datetime.fromisoformat(before["start"]) + timedelta(days=3)
    end = start + timedelta(minutes=45)
    place = {"name": "location", "valueString": "Ward 7"}
    reply = await client.change(id_, instant("start", start), instant("end", end), comment("Moved."), place)
    assert reply.status == 200
    after = exactly(await client.copy_text(id_))
    changed = {"start", "end", "comment", "participant", "meta"} | ({"minutesDuration"} & before.keys())
    assert differences(before, after) == changed
    assert_only_the_stamp_differs(before, after)
    assert (after["start"], after["end"]) == (start.isoformat(), end.isoformat())
    assert after.get("minutesDuration") == ("number 45" if "minutesDuration" in before else None)
    new = [each for each in after["participant"] if each not in before["participant"]]
    assert [each["actor"] for each in new] == [{"type": "Location", "display": "Ward 7"}]
    kept = [each for each in before["participant"] if "Location" not in each["actor"].get("type", "")]
    assert [each for each in after["participant"] if each not in new] == kept


async def test_a_change_of_the_start_alone_leaves_the_end(client: Client) -> None:
    id_ = await client.fresh()
    before = exactly(await client.copy_text(id_))
    start = datetime.fromisoformat(before["start"]) - timedelta(minutes=15)
    assert (await client.change(id_, instant("start", start))).status == 200
    after = exactly(await client.copy_text(id_))
    assert differences(before, after) <= {"start", "meta", "minutesDuration"}
    assert after["start"] == start.isoformat()


async def test_a_read_shows_pkbs_own_bytes(client: Client) -> None:
    id_ = await strange(client, 9)
    reply = await client.read(id_)
    assert exactly(reply.raw.decode()) == exactly(await client.copy_text(id_))
