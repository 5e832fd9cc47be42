"""After a mixed day the audit stream verifies, shows what was touched, and holds nothing it must not hold."""

import asyncio
import csv
import io
import json
import shutil
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gateway.cli.tour import walk
from gateway.storage import verification
from tests.edges.balp import assert_fits
from tests.journeys.issuing import node
from tests.journeys.partner import NHS_NUMBER, REASONS, Client, comment, parameters, patient, reason
from tests.journeys.processes import Json, Place
from tests.journeys.test_fhir_resources import assert_r4

WRONG_NUMBER = "9434765919"
CANARIES = {
    "comment": "canary-comment-Mrs-Jones",
    "reason text": "canary-reason-text",
    "place": "canary-place",
    "address": "https://canary.example/address",
    "query": "canary-in-query",
    "agent": "canary-in-agent",
    "reason code": "canarycode",
    "token": "canary.token.x",
    "correlation": "canary-correlation",
    "parameter": "canary-parameter",
    "upstream": "canary-of-pkb",
    "surname": "XXTESTPATIENT",
    "PKB's comment": "Please arrive ten minutes early",
    "clinician": "Dr Test Jones",
    "secret": "sandbox-gateway-secret",
    "wrong number": WRONG_NUMBER,
}


async def mixed_day(client: Client) -> list[str]:
    """The tour, and requests full of what must not be kept; gives the Tasks that came of them."""
    assert await walk(Console(file=io.StringIO()), client.place.told) == 0
    text = {
        "name": "reason",
        "valueCodeableConcept": {**reason()["valueCodeableConcept"], "text": CANARIES["reason text"]},
    }
    named = {
        "name": "reason",
        "valueCodeableConcept": {"coding": [{"system": REASONS, "code": CANARIES["reason code"]}]},
    }
    place = {"name": "location", "valueString": CANARIES["place"]}
    address = {"name": "managementUrl", "valueUrl": CANARIES["address"]}
    first, second, third = [await client.fresh() for _ in range(3)]
    agent = {"User-Agent": CANARIES["agent"], "X-Correlation-Id": CANARIES["correlation"]}
    assert (await client.change(first, comment(CANARIES["comment"]), place, headers=agent)).status == 200
    assert (await client.cancel(first, text, comment(CANARIES["comment"]))).status == 200
    assert (await client.change(second, address)).status == 422
    assert (await client.cancel(second, named)).status == 422
    assert (await client.cancel(second, reason(), patient(WRONG_NUMBER))).status == 404
    unknown = {"name": CANARIES["parameter"], "valueString": CANARIES["parameter"]}
    assert (await client.cancel(second, reason(), unknown)).status == 400
    query = f"/airedale/fhir/Appointment/{second}?patient.identifier={NHS_NUMBER}|{WRONG_NUMBER}&x={CANARIES['query']}"
    assert (await client.ask("GET", query)).status == 400
    assert (await client.read(second, token=CANARIES["token"])).status == 401
    await client.put(third, {**await client.copy(third), "status": CANARIES["upstream"]})
    await client.read(third)
    await client.fault("drop-before", on="write", count=1)
    lost = await client.change(second, comment(CANARIES["comment"]))
    assert lost.status == 504
    return [lost.task]


@pytest.fixture(scope="module")
def day(place: Place) -> list[str]:
    async def live() -> list[str]:
        async with Client(place) as client:
            return await mixed_day(client)

    return asyncio.run(live())


async def gateway(*words: str, given: bytes = b"") -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate(given)
    assert process.returncode is not None
    return process.returncode, out.decode()


async def verify(*paths: Path, keys: Path | None = None) -> tuple[int, str]:
    given = [*map(str, paths), *(("--keys", str(keys)) if keys else ())]
    return await gateway("audit", "verify", *given)


def keys_of(place: Place) -> Path:
    return place.directory / "keys" / "audit.jwks.json"


async def test_the_stream_of_a_running_gateway_verifies(day: list[str], client: Client) -> None:
    code, told = await verify(client.place.audit, keys=keys_of(client.place))
    assert (code, "signatures: checked" in told) == (0, True), told
    assert (await verify(client.place.audit))[1].count("signatures: unchecked") == 1


def copied(place: Place, to: Path) -> tuple[Path, list[bytes]]:
    shutil.copytree(place.audit, to)
    [path] = sorted(to.glob("*.jsonl"))
    return path, path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
async def test_one_flipped_byte_is_found_and_its_record_is_named(
    share: float, day: list[str], client: Client, tmp_path: Path
) -> None:
    path, lines = copied(client.place, tmp_path / "copy")
    number = int(share * len(lines))
    line = bytearray(lines[number])
    at = line.index(b'"event":"') + len(b'"event":"')
    line[at] ^= 1
    path.write_bytes(b"".join([*lines[:number], bytes(line), *lines[number + 1 :]]))
    code, told = await verify(path.parent, keys=keys_of(client.place))
    assert code == 1
    assert f"{path.name}:{number + 1}:" in told
    assert f"seq {json.loads(lines[number])['seq']}:" in told


async def test_records_taken_out_put_in_or_swapped_are_found(day: list[str], client: Client, tmp_path: Path) -> None:
    path, lines = copied(client.place, tmp_path / "copy")
    number = len(lines) // 2
    # One chain in one file: what belongs at a seq stands on the line of that number.
    for changed, first in (
        ([*lines[:number], *lines[number + 1 :]], number + 1),
        ([*lines[:number], lines[number], lines[number], *lines[number + 1 :]], number + 2),
        ([*lines[:number], lines[number + 1], lines[number], *lines[number + 2 :]], number + 1),
    ):
        path.write_bytes(b"".join(changed))
        [bad] = await asyncio.to_thread(lambda: verification.verify([path], keys=None, pause=time.sleep).bad)
        assert (bad.line, bad.seq) == (first, first)


async def everything_kept(client: Client, tasks: list[str]) -> dict[str, str]:
    directory = client.place.directory
    async with client.session.get(f"{client.place.admin_url}/metrics") as response:
        metrics = await response.text()
    kept = {"metrics": metrics}
    files = [
        *client.place.audit.iterdir(),
        *directory.glob("*.log"),
        *directory.glob("*.out"),
        *directory.glob("state*"),
    ]
    kept |= {path.name: path.read_bytes().decode("utf-8", "replace") for path in files}
    for task in tasks:
        kept[f"Task {task}"] = (await client.task(task)).raw.decode()
    return kept


async def test_nothing_is_kept_that_must_not_be(day: list[str], client: Client) -> None:
    kept = await everything_kept(client, day)
    assert len(kept) >= 5
    forbidden = dict(CANARIES)
    for each in client.place.told["appointments"]:
        forbidden[f"number of {each['id']}"] = each["patient_identifier"].split("|")[1]
    for partner in client.place.told["partners"].values():
        forbidden[f"token of {partner['client_id']}"] = partner["access_token"].rsplit(".", 1)[1]
    for name, text in kept.items():
        found = [what for what, canary in forbidden.items() if canary.lower() in text.lower()]
        assert found == [], f"{name} holds {found}"


async def test_the_export_of_a_running_gateway_is_fhir_and_holds_no_more_than_the_records(
    day: list[str], client: Client
) -> None:
    code, told = await gateway("audit", "export", "--format", "fhir", str(client.place.audit))
    events = [json.loads(line) for line in told.splitlines()]
    assert (code, len(events)) == (0, len(client.place.records()))
    fitted = Counter(map(assert_fits, events))
    for event in events:
        assert_r4(event)
    patterns = ("BasicAudit.PatientRead", "BasicAudit.PatientUpdate", "BasicAudit.AuthZconsent")
    assert all(fitted[f"IHE.{pattern}"] >= 3 for pattern in patterns)
    assert [canary for canary in CANARIES.values() if canary.lower() in told.lower()] == []


async def test_a_patient_who_asks_gets_what_was_done_with_her_appointments(day: list[str], client: Client) -> None:
    mine = client.demo("inside-notice")
    number = mine["patient_identifier"].split("|")[1]
    reply = await client.read(mine["id"])
    config = client.place.told["config_file"]
    command = ("audit", "export", "--format", "csv", "--patient", "--config", config, str(client.place.audit))
    code, told = await gateway(*command, given=number.encode())
    rows = list(csv.DictReader(io.StringIO(told, newline="")))
    assert (code, number in told) == (0, False)
    assert {row["appointment"] for row in rows if row["event"] == "read"} >= {mine["id"]}
    assert reply.request_id in {row["request_id"] for row in rows}


async def test_every_intent_has_its_outcome_and_every_write_its_intent(day: list[str], client: Client) -> None:
    records = client.place.records()
    intents = {each["seq"]: each for each in records if each["event"] == "intent"}
    outcomes: dict[int, list[Json]] = {}
    for each in records:
        if each["event"] == "outcome":
            outcomes.setdefault(each["intent"], []).append(each)
    assert outcomes.keys() == intents.keys()
    for number, told in outcomes.items():
        assert sum(bool(each["final"]) for each in told) == (0 if told[-1]["outcome"] == "unknown" else 1)
        assert all(each["task"] == intents[number]["task"] for each in told)
    assert sorted(map(name_of_write, await client.writes())) == sorted(map(name_of_intent, intents.values()))


def name_of_write(write: Json) -> str:
    """What tells a write from others: the resource's id, of a message its own (MSH-10)."""
    named = write["path"].rsplit("/", 1)[1] if write["target"] == "box" else write["message"].split("|")[9]
    return str(named)


def name_of_intent(intent: Json) -> str:
    return str(intent["upstream"]["control_id"] or intent["appointment"])


def people(records: list[Json]) -> set[Any]:
    return {each["patient"] for each in records if each["patient"]}


async def test_patients_are_named_by_keyed_hashes_only(day: list[str], client: Client) -> None:
    named = people(client.place.records())
    assert len(named) > 5
    assert all(each.startswith("k1:") and len(each) == 3 + 43 for each in named)


async def test_what_was_refused_is_on_record_with_its_checks_and_facts(day: list[str], client: Client) -> None:
    id_ = client.demo("inside-notice")["id"]
    reply = await client.cancel(id_, body=parameters(reason()))
    [record] = await client.audit_of(reply.request_id)
    assert (record["event"], record["code"], record["grant"]) == ("refused", "too-late", "airedale-swiftbook")
    assert ["notice-kept", False] in record["checks"]
    assert record["facts"]["owner"] == ["airedale"]
    assert record["facts"]["labels"] == ["GENERAL_HEALTH"]


async def test_a_second_place_that_is_away_degrades_and_hinders_nobody(
    day: list[str], client: Client, tmp_path: Path
) -> None:
    kept = tmp_path / "mounted" / "checkpoints.jsonl"
    config = client.place.directory / "copying.toml"
    text = (client.place.directory / "gateway.toml").read_text(encoding="utf-8")
    config.write_text(text.replace("[audit]\n", f'[audit]\ncheckpoints = "{kept}"\n', 1), encoding="utf-8")
    place = replace(client.place, told={**client.place.told, "config_file": str(config)})

    async def until_degraded(url: str, *, wanted: bool) -> None:
        for _ in range(100):
            async with client.session.get(f"{url}/health/ready") as response:
                said = await response.json()
            if ("checkpoints" in said["degraded"]) is wanted:
                assert (response.status, said["checks"]["audit"]) == (200, True)
                return
            await asyncio.sleep(0.2)
        raise AssertionError(f"checkpoints: never {wanted}")

    with node(place, "copying", "") as copying:
        await until_degraded(copying.admin_url, wanted=True)
        async with client.session.get(f"{copying.admin_url}/metrics") as response:
            assert 'pkb_gateway_alarms_total{event="checkpoints-not-copied"} 1.0' in await response.text()
        kept.parent.mkdir()
        await until_degraded(copying.admin_url, wanted=False)
    signed = [each for each in copying.records() if each["event"] == "checkpoint"]
    assert [json.loads(line) for line in kept.read_bytes().splitlines()] == signed
    assert len(signed) >= 2
