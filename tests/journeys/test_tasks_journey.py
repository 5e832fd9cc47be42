"""A write that nobody knows the end of is listed, ended by a person, and let go of by the running gateway."""

import asyncio
import json
import subprocess
import sys
import time

from tests.journeys.partner import Client, comment, until
from tests.journeys.processes import Json, Place


def pkb_gateway(place: Place, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", *words]
    if words[0] == "tasks":
        command += ["--config", place.told["config_file"]]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


async def resolved(place: Place, task: str, outcome: str, by: str = "A Operator") -> subprocess.CompletedProcess[str]:
    words = ("tasks", "resolve", task, "--outcome", outcome, "--by", by)
    return await asyncio.to_thread(pkb_gateway, place, *words)


async def in_doubt(client: Client) -> tuple[str, str, str]:
    """Leave a change in doubt; gives the appointment, the Task and the request's id."""
    appointment = await client.fresh()
    await client.fault("drop-before", on="write", count=1)
    lost = await client.change(appointment, comment("lost on the way"))
    assert (lost.status, lost.code) == (504, "outcome-unknown")
    return appointment, lost.task, lost.request_id


async def listed(place: Place, *more: str) -> dict[str, Json]:
    told = await asyncio.to_thread(pkb_gateway, place, "tasks", "list", "--json", *more)
    assert told.returncode == 0, told.stderr
    return {each["id"]: each for each in json.loads(told.stdout)}


async def test_a_person_ends_a_write_in_doubt(client: Client, place: Place) -> None:
    appointment, task, request = await in_doubt(client)
    row = (await listed(place))[task]
    assert (row["partner"], row["customer"], row["appointment"]) == ("swiftbook", "airedale", appointment)
    assert (row["operation"], row["status"], row["outcome"]) == ("change", "in-progress", "unknown")
    assert (await client.change(appointment, comment("too early"))).code == "appointment-busy"

    done = await resolved(place, task, "rejected")
    end = time.monotonic() + 6

    assert done.returncode == 0, done.stderr
    free = await until(
        lambda: client.change(appointment, comment("again")), lambda reply: reply.status == 200, end - time.monotonic()
    )
    assert free.status == 200
    told = (await client.task(task)).body
    assert told["status"] == "rejected"
    assert task not in await listed(place)
    assert (await listed(place, "--all"))[task]["outcome"] == "rejected"
    await ended_once(client, place, task, request)


async def ended_once(client: Client, place: Place, task: str, request: str) -> None:
    records = [each for each in await client.audit_of(request) if each["task"] == task]
    intent = next(each for each in records if each["event"] == "intent")
    resolution = next(each for each in records if each["event"] == "task-resolved")
    outcomes = [each for each in records if each["event"] == "outcome"]
    final = [each for each in outcomes if each["final"]]
    assert [each["final"] for each in sorted(outcomes, key=lambda each: str(each["time"]))] == [False, True]
    assert (resolution["operator"], resolution["outcome"]) == ("A Operator", "rejected")
    assert (final[0]["outcome"], final[0]["recovered"], final[0]["operator"]) == ("rejected", True, "A Operator")
    assert final[0]["intent"] == intent["seq"]
    same = ("request_id", "correlation_id", "partner", "customer", "appointment", "task", "grant", "operation")
    assert [final[0][name] for name in same] == [intent[name] for name in same]
    verified = await asyncio.to_thread(pkb_gateway, place, "audit", "verify", str(place.audit))
    assert verified.returncode == 0, verified.stdout


async def test_what_the_gateway_ended_itself_cannot_be_resolved(client: Client, place: Place) -> None:
    appointment, task, request = await in_doubt(client)
    await client.put(appointment, {**await client.copy(appointment), "comment": "lost on the way"})
    told = await until(lambda: client.task(task), lambda reply: reply.body["status"] == "completed")
    assert told.status == 200

    refused = await resolved(place, task, "rejected")

    assert (refused.returncode, refused.stderr) == (1, f"Error: Task {task} has ended: applied\n")
    assert [each for each in await client.audit_of(request) if each["event"] == "task-resolved"] == []
