"""No patient data in any sink: canaries go in wherever somebody may write, and none comes out where it must not."""

import asyncio
import base64
import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping

import aiohttp
import pytest
from yarl import URL

from tests.journeys.canaries import Cage, found, written_files
from tests.journeys.canary_hospital import messages, pkbs_words, token_server
from tests.journeys.canary_words import Day, Story, partners_words, tokens
from tests.journeys.collector import collector
from tests.journeys.partner import Client
from tests.journeys.processes import Place, gateway_process

LINK = re.compile(rb'(?:href|src|action)="(/[^"]*)"')


async def everything(day: Day) -> Mapping[str, bytes]:
    """All that the gateway wrote or shows, after the day."""
    sinks = dict(day.answers)
    sinks |= written_files(day.client.place.directory)
    admin = day.client.place.admin_url
    seen, pages = set[str](), ["/", "/metrics", "/health/ready", "/health/live", "/audit/stream"]
    while pages:
        page = pages.pop()
        if page in seen or len(seen) > 300:
            continue
        seen.add(page)
        told = await page_of(day.client.session, admin + page)
        sinks[f"page {page}"] = told
        pages += [link.decode() for link in LINK.findall(told)]
    return sinks


async def page_of(session: aiohttp.ClientSession, url: str) -> bytes:
    """A page, or what came of one without end within a second."""
    told = b""
    async with session.get(URL(url, encoded=True)) as response:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                async for piece in response.content.iter_any():
                    told += piece
    return told


async def lived(place: Place, *stories: Story) -> tuple[Cage, Mapping[str, bytes]]:
    """Live through a day, and give what was hidden and all that is left of it."""
    async with Client(place) as client:
        day = Day(client, Cage())
        for story in stories:
            await story(day)
            await client.clear()
        # Refusals of strangers are written without being waited for.
        await asyncio.sleep(0.5)
        return day.cage, await everything(day)


@pytest.fixture(scope="module")
def json_day(place: Place) -> tuple[Cage, Mapping[str, bytes]]:
    return asyncio.run(lived(place, partners_words, tokens, pkbs_words, messages))


@pytest.fixture(scope="module")
def console_day(place: Place) -> Iterator[tuple[Cage, Mapping[str, bytes]]]:
    with collector() as spans:
        options = ("--log", "console")
        with gateway_process(place, "console", options=options, environment=spans.environment) as further:
            cage, sinks = asyncio.run(lived(further, token_server, partners_words, tokens))
        # What was still waiting is sent when the gateway ends.
        yield cage, {**sinks, "spans": b"".join(spans.bodies), "spans as text": str(spans.spans).encode()}


@pytest.mark.parametrize("day", ["json_day", "console_day"])
def test_no_canary_gets_out(day: str, request: pytest.FixtureRequest) -> None:
    cage, sinks = request.getfixturevalue(day)

    assert cage.out_in(sinks) == []
    assert len(cage.names) > 90
    # What may be on record is: so a canary that got out would have been seen.
    meant = [text for text, what in cage.names.items() if what in {"jti", "id", "Idempotency-Key"}]
    assert len(meant) == 3
    assert {text for content in sinks.values() for text, _ in found(meant, content)} == set(meant)


def test_every_sink_was_searched(
    json_day: tuple[Cage, Mapping[str, bytes]], console_day: tuple[Cage, Mapping[str, bytes]]
) -> None:
    _, sinks = json_day
    names = " ".join(sinks)
    for name in (
        "audit/",
        ".jsonl",
        "sandbox.out",
        "state.db",
        "state.db-wal",
        "page /metrics",
        "its Task",
        "page /live",
        "page /requests?id=",
    ):
        assert name in names
    _, sinks = console_day
    for name, known in (
        ("spans", b"authenticate"),
        ("spans as text", b"links"),
        ("console.log", b"swiftbook"),
        ("console.db-wal", b"completed"),
        ("page /metrics", b"_bucket"),
    ):
        assert known in b"".join(content for sink, content in sinks.items() if sink.endswith(name))


CANARY = "c0123456789abcdef"
NUMBER = "9434765919"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (CANARY, f"x {CANARY} x"),
        (CANARY, CANARY.upper()),
        (CANARY, json.dumps(json.dumps({"x": CANARY}))),
        (CANARY, f"x%3D{CANARY}%26"),
        (CANARY, f"{CANARY}!".encode().hex()),
        *((CANARY, base64.b64encode(f"{'y' * before}{CANARY}zz".encode()).decode()) for before in range(4)),
        *((CANARY, base64.urlsafe_b64encode(f"{'?' * before}{CANARY}".encode()).decode()) for before in range(4)),
        (NUMBER, "943 476 5919"),
        (NUMBER, "943-476-5919"),
        (NUMBER, hashlib.sha256(NUMBER.encode()).hexdigest()),
        (NUMBER, base64.urlsafe_b64encode(hashlib.sha256(NUMBER.encode()).digest()).decode().rstrip("=")),
    ],
)
def test_a_canary_is_found_however_it_is_written(text: str, written: str) -> None:
    assert {seen for seen, _ in found([text], written.encode())} == {text}


def test_a_canary_is_not_found_where_it_is_not() -> None:
    assert list(found([CANARY, NUMBER], b"9434765918 c0123456789abcdee" + bytes(range(256)))) == []
