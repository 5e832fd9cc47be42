"""What a flood of strangers does to partners, to the audit and to the memory: nothing that matters."""

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from yarl import URL

from gateway.storage.verification import verify
from tests.journeys.disks import gateway_as
from tests.journeys.partner import Client
from tests.journeys.processes import Place

ADDRESSES = 10_000
AT_ONCE = 8
"""Fewer than may queue for the gateway: what more of them meet is the shedding of load, which is tested elsewhere."""


def address(number: int) -> str:
    """One of the many addresses of this machine."""
    return f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"


async def stranger(place: Place, number: int) -> str:
    """Ask once without a token, from an address of its own; the code of the answer."""
    url = URL(place.gateway_url)
    reader, writer = await asyncio.open_connection(url.host, url.port, local_addr=(address(number), 0))
    writer.write(b"GET /airedale/fhir/Appointment/x HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["issue"][0]["details"]["coding"][0]["code"])


async def flood(place: Place) -> Counter[str]:
    codes, numbers = Counter[str](), iter(range(ADDRESSES))

    async def some() -> None:
        for number in numbers:
            codes[await stranger(place, number)] += 1

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return codes


async def reads(client: Client, appointment: str, over: asyncio.Event | None = None) -> tuple[list[float], int]:
    """Read until told, or forty times: the seconds that each took, and how many were turned away for the load."""
    seconds, shed = list[float](), 0
    while not over.is_set() if over else len(seconds) < 40:
        reply = await client.read(appointment)
        assert reply.status == 200 or reply.code == "overloaded"
        seconds.append(reply.seconds)
        shed += reply.status != 200
        await asyncio.sleep(0.02)
    return seconds, shed


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[round(0.99 * (len(seconds) - 1))]


def resident(place: Place) -> int:
    """Bytes of memory that the gateway has now."""
    status = Path(f"/proc/{place.pid}/status").read_text(encoding="ascii")
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))


async def test_a_flood_of_strangers_is_counted_exactly_and_harms_nobody(
    client: Client, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = '{ process = "20/s", client = "5/s" }'
    with gateway_as(place, "flooded", ["-m", "gateway"], unauthenticated=budget) as (flooded, _):
        gateway = client.at(flooded)
        id_ = await gateway.fresh()
        calm, _ = await reads(gateway, id_)
        before, begun, over = resident(flooded), time.monotonic(), asyncio.Event()
        reading = asyncio.create_task(reads(gateway, id_, over))
        codes = await flood(flooded)
        over.set()
        busy, shed = await reading
        took, grown = time.monotonic() - begun, resident(flooded) - before
        assert (await gateway.cancel(id_)).status == 200
    # The process has ended: what was only counted is on record too.
    kept = flooded.records()
    found = Counter(each["code"] for each in kept if each["event"] in {"authentication-refused", "refused"})
    counts = [count for each in kept if each["event"] == "suppressed" for count in each["counts"]]
    recorded = found.total()
    with capsys.disabled():
        figures = f"{took:.1f} s, {recorded} records, p99 {p99(calm):.3f} s before, {p99(busy):.3f} s meanwhile"
        sys.stdout.write(f"\n{ADDRESSES} strangers: {figures}, {grown / 2**20:.1f} MiB more\n")
    for count in counts:
        found[count["code"]] += count["count"]
    codes["overloaded"] += shed
    assert +codes == found
    # On a machine that is busy otherwise, some may be turned away before anybody looks for their token.
    assert (+codes).keys() <= {"token-missing", "overloaded"}
    assert len({each["client"] for each in counts} - {"127.0.0.0/24"}) == ADDRESSES // 250
    assert 20 <= recorded <= 20 * (took + 2)
    assert shed <= 0.02 * len(busy)
    assert p99(busy) < 1.0
    assert grown < 32 * 2**20
    assert not verify([flooded.audit]).bad
