"""The kill switch over real processes: two gateways on one state file, partners at work, and a grants file gone bad."""

import asyncio
import contextlib
import itertools
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import alembic.command  # noqa: F401 - to load it in the middle of a migration may take longer than the server waits
import pytest

from gateway.storage.blocks import Blocks
from gateway.storage.opening import open_database
from tests.journeys.grants import grant_table, partner_table, with_added
from tests.journeys.partner import Client, comment, replace_file, until
from tests.journeys.processes import Json, Place, free_port
from tests.postgres import Server

WITHIN = 1.0
"""Seconds that a block may take on every node."""
WORKERS = 6
LATE = 150
"""Answers to look at after that second."""


async def pkb_gateway(place: Place, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a verb as a person does, in a process of its own."""
    command = [sys.executable, "-m", "gateway", *words, "--config", place.told["config_file"]]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=60)


@contextlib.asynccontextmanager
async def blocked(place: Place, partner: str, customer: str | None = None) -> AsyncIterator[None]:
    """Keep a block for as long as the caller wants it, without the cost of two processes."""
    database = await open_database(f"sqlite:///{place.directory / 'state.db'}")
    try:
        assert await Blocks(database).block(partner, customer, "journey", datetime.now(UTC))
        yield
    finally:
        assert await Blocks(database).unblock(partner, customer)
        await database.close()


async def refused(client: Client, id_: str, **how: str) -> tuple[int, str]:
    """Read until it is refused, which must not take longer than a block may."""
    reply = await until(lambda: client.read(id_, **how), lambda each: each.status != 200, WITHIN)
    return reply.status, reply.code


async def free_again(client: Client, id_: str, **how: str) -> None:
    await until(lambda: client.read(id_, **how), lambda each: each.status == 200, WITHIN)


@contextlib.contextmanager
def node(place: Place, name: str, state: str = "sqlite:///state.db") -> Iterator[Place]:
    """Start one more gateway with the sandbox's PKB and grants file, on this state; it may not serve yet."""
    port, admin_port = free_port(), free_port()
    text = Path(place.told["config_file"]).read_text(encoding="utf-8")
    for pattern, new in (
        (r"(listen = .*port = )\d+", rf"\g<1>{port}"),
        (r"(admin = .*port = )\d+", rf"\g<1>{admin_port}"),
        (r'directory = "audit"', f'directory = "{name}"'),
        ("sqlite:///state.db", state),
    ):
        text, count = re.subn(pattern, new, text)
        assert count == 1, pattern
    config = place.directory / f"{name}.toml"
    config.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
    with config.with_suffix(".log").open("ab") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            urls = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}"
            yield SecondPlace({**place.told, "config_file": str(config)}, *urls, place.directory / name, process.pid)
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture
def second(place: Place) -> Iterator[Place]:
    """One more gateway on the state file of the sandbox's own."""
    with node(place, "second") as running:
        yield running


class SecondPlace(Place):
    """Reached at an address of its own, known to partners by that of the first."""

    def token(self, partner: str, scope: str = "system/Appointment.rus", age: float = 0.0) -> str:
        return Place(self.told, self.told["gateway_url"], "", self.audit).token(partner, scope, age)


async def serving(client: Client) -> None:
    async def ping() -> int:
        with contextlib.suppress(OSError):
            return (await client.ask("GET", "/_ping", token="")).status
        return 0

    await until(ping, lambda status: status == 200, 60)


@dataclass
class Load:
    """A partner that works without a pause at two gateways, and what it got, by the time it asked."""

    clients: tuple[Client, Client]
    blocked_at: float = float("inf")
    answers: list[tuple[float, int, str]] = field(default_factory=list)

    @property
    def late(self) -> list[tuple[int, str]]:
        """What was asked when the block must have counted."""
        return [(status, code) for at, status, code in self.answers if at >= self.blocked_at + WITHIN]

    async def work(self, worker: int) -> None:
        client = self.clients[worker % 2]
        id_ = await client.fresh()
        for turn in itertools.count():
            asked_at = time.time()
            match turn % 3:
                case 0:
                    reply = await client.change(id_, comment(f"{worker}/{turn}"))
                case 1:
                    reply = await client.read(id_)
                case _:
                    reply = await client.ask("GET", f"/airedale/fhir/Appointment/{id_}/$actions")
            self.answers.append((asked_at, reply.status, reply.code))
            if len(self.late) >= LATE:
                return


async def test_a_block_in_the_middle_of_work_counts_within_a_second_on_every_node(
    client: Client, place: Place, second: Place
) -> None:
    other = client.at(second)
    await serving(other)
    load = Load((client, other))
    workers = [asyncio.create_task(load.work(number)) for number in range(WORKERS)]
    try:
        await asyncio.sleep(1)
        done = await pkb_gateway(place, "block", "swiftbook", "--by", "A Operator")
        assert done.returncode == 0, done.stderr
        # The record is written after the block: its time is the latest at which the second may begin.
        load.blocked_at = moment(blocks_of(place)[-1])
        await asyncio.wait_for(asyncio.gather(*workers), 60)
    finally:
        for worker in workers:
            worker.cancel()
        lifted = await pkb_gateway(place, "unblock", "swiftbook", "--by", "B Operator")

    before = [status for at, status, _ in load.answers if at < load.blocked_at - WITHIN]
    assert len(before) > 20
    assert set(before) == {200}
    assert set(load.late) == {(403, "partner-suspended")}
    assert lifted.returncode == 0, lifted.stderr
    id_ = await client.fresh()
    await free_again(client, id_)
    await free_again(other, id_)
    told = [[each[name] for name in ("partner", "customer", "decision", "operator")] for each in blocks_of(place)]
    assert told == [["swiftbook", None, "refuse", "A Operator"], ["swiftbook", None, "permit", "B Operator"]]
    for each in (place, second):
        await every_write_ended(each)
    verified = await asyncio.to_thread(verify, place)
    assert verified.returncode == 0, verified.stdout


def blocks_of(place: Place) -> list[Json]:
    return sorted((each for each in place.records() if each["event"] == "blocked"), key=lambda each: str(each["time"]))


def moment(record: Json) -> float:
    return datetime.fromisoformat(record["time"]).timestamp()


def verify(place: Place) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", "audit", "verify", str(place.audit)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


async def every_write_ended(place: Place) -> None:
    """Every intent has exactly one final outcome, blocks or not."""

    async def open_ones() -> list[str]:
        records = place.records()
        ended = [each["task"] for each in records if each["event"] == "outcome" and each["final"]]
        assert len(ended) == len(set(ended))
        return [each["task"] for each in records if each["event"] == "intent" and each["task"] not in ended]

    await until(open_ones, lambda found: not found)


async def test_a_grants_file_gone_bad_keeps_a_partner_in_and_a_block_gets_it_out(client: Client, place: Place) -> None:
    id_ = await client.fresh()
    grants = place.grants.read_text(encoding="utf-8")
    # Somebody takes the partner out, and forgets a bracket.
    replace_file(place.grants, grants.replace("[partners.swiftbook]", "[partners.swiftbook"))
    try:

        async def health() -> str:
            async with client.session.get(f"{place.admin_url}/health/ready") as response:
                return (await response.text()).lower()

        await until(health, lambda text: "degraded" in text and '"grants"' in text)
        assert (await client.read(id_)).status == 200

        done = await pkb_gateway(place, "block", "swiftbook", "--by", "A Operator")

        assert done.returncode == 0, done.stderr
        assert "the grants file cannot be read" in done.stderr
        assert await refused(client, id_) == (403, "partner-suspended")
        record = (await client.audit_of((await client.cancel(id_)).request_id))[0]
        assert record["checks"] == [["partner-active", True], ["partner-not-blocked", False]]
        digest = next(each["grants_digest"] for each in reversed(place.records()) if each["event"] == "grants-loaded")
        assert record["grants_digest"] == digest
        # Nor does the file, put right, let it in again.
        await client.regrant(grants + "\n# put right\n")
        assert (await client.read(id_)).code == "partner-suspended"
    finally:
        lifted = await pkb_gateway(place, "unblock", "swiftbook", "--by", "A Operator")
        await client.regrant(grants)
    assert lifted.returncode == 0, lifted.stderr
    await free_again(client, id_)


async def test_a_block_at_one_customer_stops_every_request_there_and_none_elsewhere(
    client: Client, place: Place
) -> None:
    id_ = await client.fresh()
    once = {"Idempotency-Key": id_}
    assert (await client.change(id_, comment("once"), headers=once)).status == 200
    await client.fault("drop-before", on="write", count=1)
    task = (await client.change(id_, comment("lost on the way"))).task
    at_leeds = next(each["id"] for each in place.told["appointments"] if each["customer"] == "leeds")

    async with blocked(place, "swiftbook", "airedale"):
        assert await refused(client, id_) == (403, "no-grant")
        asked = [
            await client.cancel(id_),
            await client.change(id_, comment("again")),
            await client.change(id_, comment("once"), headers=once),
            await client.ask("GET", f"/airedale/fhir/Appointment/{id_}/$actions"),
            await client.task(task),
            await client.read("no-such-appointment"),
        ]
        assert {(reply.status, reply.code) for reply in asked} == {(403, "no-grant")}
        assert (await client.read(at_leeds, customer="leeds")).status == 200
        assert (await client.read(id_, partner="viewonly")).status == 200

    await free_again(client, id_)
    assert (await client.task(task)).status == 200
    assert (await client.change(id_, comment("once"), headers=once)).headers["Idempotent-Replayed"] == "true"


async def test_a_blocked_partner_gets_no_token_and_a_new_process_lets_it_in_no_more(
    client: Client, place: Place, second: Place
) -> None:
    async with blocked(place, "swiftbook"):
        other = client.at(second)
        await serving(other)
        assert (await other.read("no-such-appointment")).code == "partner-suspended"
        await until(lambda: client.read("nothing"), lambda each: each.status == 403, WITHIN)

        command = [sys.executable, "-m", "gateway", "token", "--sandbox", str(place.directory / "sandbox.json")]
        told = await asyncio.to_thread(
            subprocess.run,
            [*command, "--partner", "swiftbook"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "unauthorized_client" in told.stdout + told.stderr

    await until(lambda: client.read("nothing"), lambda each: each.status == 404, WITHIN)


async def test_nodes_on_one_postgresql_share_blocks_and_rates_and_keep_the_blocks_while_it_is_down(
    client: Client, place: Place, postgres: Server
) -> None:
    grants = place.grants.read_text(encoding="utf-8")
    slow = partner_table("slow", rate="8/h")
    await client.regrant(with_added(grants, slow, grant_table("slow")))
    address = postgres.database()
    await (await open_database(address)).close()
    try:
        with node(place, "near", address) as near, node(place, "far", address) as far:
            both = client.at(near), client.at(far)
            for each in both:
                await serving(each)
            id_ = await client.fresh()

            rated = [await both[turn % 2].read(id_, partner="slow") for turn in range(12)]
            assert [reply.status for reply in rated] == [200] * 8 + [429] * 4

            done = await pkb_gateway(far, "block", "swiftbook", "--by", "A Operator")
            assert done.returncode == 0, done.stderr
            assert [await refused(each, id_) for each in both] == [(403, "partner-suspended")] * 2
            assert [each["partner"] for each in blocks_of(far)] == ["swiftbook"]

            postgres.kill()
            try:
                # Reads need no store: the blocks known last count, and each node counts the requests for itself.
                assert [(await each.read(id_)).code for each in both] == ["partner-suspended"] * 2
                assert [(await each.read(id_, partner="viewonly")).status for each in both] == [200] * 2
                lost = await pkb_gateway(far, "unblock", "swiftbook", "--by", "A Operator")
                assert (lost.returncode, "nothing was changed" in lost.stderr) == (1, True)
            finally:
                postgres.start()

            lifted = await pkb_gateway(near, "unblock", "swiftbook", "--by", "A Operator")
            assert lifted.returncode == 0, lifted.stderr
            for each in both:
                await until(lambda each=each: each.read(id_), lambda reply: reply.status == 200)  # type: ignore[misc] # mypy infers no defaults of a lambda
    finally:
        await client.regrant(grants)
        postgres.drop(address)


async def test_a_write_on_its_way_when_the_block_comes_ends_with_its_outcome(client: Client, place: Place) -> None:
    id_ = await client.fresh()
    await client.fault("delay", 2500, on="write", count=1)
    begun = asyncio.create_task(client.change(id_, comment("on its way")))
    await until(lambda: written(place, id_), lambda events: "intent" in events)

    async with blocked(place, "swiftbook"):
        assert await refused(client, id_) == (403, "partner-suspended")
        assert not begun.done()
        reply = await begun
        assert reply.status == 200

    await free_again(client, id_)
    (end,) = await client.audit_of(reply.request_id, "outcome")
    assert (end["outcome"], end["final"]) == ("applied", True)
    assert len(await client.writes(id_)) == 1


async def test_a_write_that_is_not_decided_yet_when_the_block_comes_is_refused(client: Client, place: Place) -> None:
    id_ = await client.fresh()
    await client.fault("delay", 1500, on="read", count=1)
    begun = asyncio.create_task(client.change(id_, comment("too late")))
    await until(client.faults_left, lambda left: not left)

    async with blocked(place, "swiftbook"):
        reply = await begun

    await free_again(client, id_)
    assert (reply.status, reply.code) == (403, "partner-suspended")
    assert await client.writes(id_) == []
    assert [each["event"] for each in await client.audit_of(reply.request_id)] == ["refused"]


async def written(place: Place, appointment: str) -> list[str]:
    return [each["event"] for each in place.records() if each["appointment"] == appointment]
