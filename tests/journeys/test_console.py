"""The console of real processes: of several workers as of one, off the loopback, and when something cannot be done."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.journeys.partner import Client
from tests.journeys.processes import Json, Place, free_port, gateway_process
from tests.journeys.workers import Crew, fresh_connections, started_crew

PAGE = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def crew(place: Place) -> Iterator[Crew]:
    with started_crew(place, "crew", workers=2) as crew:
        yield crew
        crew.process.terminate()
        crew.process.wait(60)


def token_of(place: Place) -> str:
    return Path(place.told["operator_token_file"]).read_text(encoding="ascii")


@asynccontextmanager
async def operator(place: Place) -> AsyncIterator[aiohttp.ClientSession]:
    """A browser that opens a connection for every request, with a session; any worker may answer."""
    jar = aiohttp.CookieJar(unsafe=True)
    connector = aiohttp.TCPConnector(force_close=True)
    headers = {**PAGE, "Origin": place.admin_url}
    async with aiohttp.ClientSession(place.admin_url, connector=connector, cookie_jar=jar, headers=headers) as session:
        async with session.post("/login", data={"token": token_of(place), "next": "/live"}) as response:
            assert (response.status, response.url.path) == (200, "/live")
        yield session


async def records_of(response: aiohttp.ClientResponse, wanted: int) -> list[Json]:
    found: list[Json] = []
    async with asyncio.timeout(10):
        while len(found) < wanted:
            line = await response.content.readline()
            assert line, "the stream ended"
            found += [json.loads(line[6:])] if line.startswith(b"data: ") else []
    return found


async def test_whichever_worker_is_asked_the_stream_shows_the_requests_of_all(crew: Crew) -> None:
    async with (
        fresh_connections(crew.place) as client,
        aiohttp.ClientSession() as session,
        session.get(f"{crew.place.admin_url}/audit/stream?event=read") as response,
    ):
        appointment = client.demo("changeable")["id"]
        asked: list[str] = []
        seen: list[Json] = []
        while len({each["chain"] for each in seen}) < 2:
            assert len(asked) < 200, "one worker got them all"
            several = await asyncio.gather(*(client.read(appointment) for _ in range(10)))
            asked += [each.request_id for each in several]
            seen += await records_of(response, 10)
    assert sorted(each["request_id"] for each in seen) == sorted(asked)


async def test_a_session_counts_for_every_worker_and_a_page_names_the_one_that_answers(crew: Crew) -> None:
    async with operator(crew.place) as session:
        answered = set()
        for _ in range(60):
            async with session.get("/upstreams") as response:
                text = await response.text()
            assert "sandbox" in text
            answered |= set(re.findall(r"worker \d of 2", text))
            if len(answered) == 2:
                break
    assert answered == {"worker 1 of 2", "worker 2 of 2"}


async def test_a_request_is_found_whichever_worker_answered_it(crew: Crew) -> None:
    async with fresh_connections(crew.place) as client, operator(crew.place) as session:
        for _ in range(6):
            refused = await client.cancel(client.demo("cancelled")["id"])
            async with session.get("/requests", params={"id": refused.request_id}) as response:
                assert "The appointment is cancelled already." in await response.text()


@pytest.fixture(scope="module")
def open_place(place: Place) -> Iterator[Place]:
    """A gateway whose admin side can be reached from other machines."""
    before = Path(place.told["config_file"]).read_text(encoding="utf-8")
    exposed = before.replace('admin = { host = "127.0.0.1"', 'admin = { host = "0.0.0.0"')
    assert exposed != before
    elsewhere = {**place.told, "config_file": str(place.directory / "exposed.toml")}
    Path(elsewhere["config_file"]).write_text(exposed, encoding="utf-8")
    with gateway_process(Place(elsewhere, place.gateway_url, place.admin_url, place.audit), "open") as running:
        yield running


async def test_off_the_loopback_nothing_but_health_is_told_without_a_login(open_place: Place) -> None:
    async with aiohttp.ClientSession(open_place.admin_url) as session:
        for path in ("/", "/live", "/audit/stream", "/metrics", "/requests?id=1", "/outcomes", "/blocks", "/explain"):
            async with session.get(path, allow_redirects=False) as response:
                assert response.status == 401, path
            async with session.get(path, headers=PAGE, allow_redirects=False) as response:
                assert (response.status, response.headers["Location"][:12]) == (303, "/login?next="), path
        for path in ("/health/live", "/health/ready", "/login", "/static/console.css"):
            async with session.get(path) as response:
                assert response.status == 200, path
        bearer = {"Authorization": f"Bearer {token_of(open_place)}"}
        async with session.get("/metrics", headers=bearer) as response:
            assert response.status == 200
        async with session.get("/metrics", headers={"Authorization": f"Bearer {free_port()}"}) as response:
            assert response.status == 401
    async with operator(open_place) as browser, browser.get("/") as response:
        assert "Who may do what" in await response.text()


async def test_what_cannot_be_done_is_told_and_leaves_no_record(client: Client) -> None:
    before = len(client.place.lines())
    question = {"partner": "swiftbook", "customer": "airedale", "operation": "cancel", "appointment": "a-1"}
    async with operator(client.place) as session:
        for path, form, status, words in (
            ("/outcomes/no-such-task", {"outcome": "applied"}, 409, "no Task no-such-task"),
            ("/blocks", {"what": "block", "partner": "nobody"}, 409, "knows no such partner"),
            ("/blocks", {"what": "block", "partner": "No Id"}, 409, "No Id"),
            ("/explain", {**question, "operation": "delete"}, 400, "choose an operation"),
            ("/explain", {**question, "partner": "No Id"}, 400, "partner:"),
            ("/explain", {**question, "appointment": "a/../b"}, 400, "an id of letters"),
            ("/explain", {**question, "at": "tomorrow"}, 400, "no date or time"),
            ("/explain", {**question, "birth_date": "tomorrow"}, 400, "no date such as"),
            ("/explain", {**question, "start": "2030-01-01"}, 400, "a cancel has no new start"),
        ):
            async with session.post(path, data=form) as response:
                assert (response.status, words in await response.text()) == (status, True), (path, form)
        async with session.post("/blocks", data={"what": "unblock", "partner": "swiftbook"}) as response:
            assert "was not blocked" in await response.text()
    assert [each["event"] for each in client.place.records()[before:]] == []


async def test_when_pkb_cannot_be_read_the_question_is_on_record_and_the_person_told(client: Client) -> None:
    await client.fault(target="box", kind="status", value=403, on="read", count=0)
    question = {"partner": "swiftbook", "customer": "airedale", "operation": "read", "appointment": "a-1"}
    async with operator(client.place) as session, session.post("/explain", data=question) as response:
        assert (response.status, "PKB could not be read (upstream-refused)" in await response.text()) == (400, True)
    (asked,) = [each for each in client.place.records() if each["event"] == "explained"]
    assert (asked["operator"], asked["code"], asked["appointment"]) == ("sandbox", "upstream-refused", "a-1")


async def test_a_change_is_explained_field_by_field(client: Client) -> None:
    question = {
        "partner": "swiftbook", "customer": "airedale", "operation": "change",
        "appointment": client.demo("changeable", 1)["id"], "fields": "managementUrl", "version": "0",
    }  # fmt: skip
    async with operator(client.place) as session, session.post("/explain", data=question) as response:
        text = await response.text()
    assert "The appointment has changed since the version that the partner named." in text
    assert "The way to this customer&#39;s appointments cannot carry it." in text
