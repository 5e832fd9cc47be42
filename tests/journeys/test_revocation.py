"""Taking a grant out of the file while requests run: within a second nothing more is permitted."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from tests.journeys.partner import Client, comment, replace_file
from tests.journeys.processes import Json

WORKERS = 12
LATE_REQUESTS = 2_000
IN_FORCE_WITHIN = 1.0
"""Seconds after the change of the file."""


@dataclass
class Stream:
    """Partners that read and write without a pause, and what they got, by the time they asked."""

    client: Client
    revoked_at: float = float("inf")
    answers: list[tuple[float, int, str]] = field(default_factory=list)

    @property
    def late(self) -> list[tuple[float, int, str]]:
        """What was asked a second or more after the change."""
        return [each for each in self.answers if each[0] >= self.revoked_at + IN_FORCE_WITHIN]

    async def work(self, worker: int) -> None:
        id_ = await self.client.fresh()
        token = self.client.place.token("swiftbook")
        turn = late = 0
        while late < LATE_REQUESTS / WORKERS:
            turn += 1
            asked_at = time.time()
            if turn % 2:
                reply = await self.client.read(id_, token=token)
            else:
                reply = await self.client.change(id_, comment(f"{worker}/{turn}"), token=token)
            self.answers.append((asked_at, reply.status, reply.code))
            late += asked_at >= self.revoked_at + IN_FORCE_WITHIN


def without_swiftbook(grants: str) -> str:
    head, *tables = grants.split("\n[[grants]]\n")
    return "\n[[grants]]\n".join((head, *(each for each in tables if 'partner = "swiftbook"' not in each)))


def write_in_place(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("write", [replace_file, write_in_place], ids=["replaced", "written in place"])
async def test_a_second_after_the_grant_is_gone_nothing_is_permitted(
    write: Callable[[Path, str], None], client: Client
) -> None:
    grants = client.place.grants.read_text(encoding="utf-8")
    stream = Stream(client)
    workers = [asyncio.create_task(stream.work(number)) for number in range(WORKERS)]
    try:
        await asyncio.sleep(1.5)
        write(client.place.grants, without_swiftbook(grants))
        stream.revoked_at = time.time()
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await client.regrant(grants)

    before = [status for asked_at, status, _ in stream.answers if asked_at < stream.revoked_at]
    assert len(before) > 20
    assert set(before[: len(before) // 2]) == {200}
    assert len(stream.late) >= LATE_REQUESTS
    assert {(status, code) for _, status, code in stream.late} == {(403, "no-grant")}
    assert_no_intent_under_old_grants(client.place.records(), stream.revoked_at)


def assert_no_intent_under_old_grants(records: list[Json], revoked_at: float) -> None:
    """No intent carries a digest that was replaced more than a second before its time."""
    loads = [(moment(each), each["grants_digest"]) for each in records if each["event"] == "grants-loaded"]
    intents = [(moment(each), each["grants_digest"]) for each in records if each["event"] == "intent"]
    assert intents
    for time_, digest in intents:
        a_second_before = [known for at, known in loads if at <= time_ - IN_FORCE_WITHIN][-1:]
        assert digest in {*a_second_before, *(known for at, known in loads if time_ - IN_FORCE_WITHIN < at <= time_)}
    # The time of the change itself is stricter than the time at which the gateway noticed.
    assert max(time_ for time_, _ in intents) <= revoked_at + IN_FORCE_WITHIN


def moment(record: Json) -> float:
    return datetime.fromisoformat(record["time"]).timestamp()
