"""Who may see the console, who may do something in it, and what no other site can make a browser do."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import pytest

from gateway.admin.access import COOKIE, local_path
from gateway.admin.sessions import (
    ADDRESSES,
    FAILED_AT_ONE,
    FAILED_IN_ALL,
    FAILED_SECONDS,
    Failures,
    Operators,
    Sessions,
)
from tests.edges.console_desk import DIGEST, OPERATORS, OTHER, SECRET, TOKEN, UNKNOWN, Desk
from tests.makers import NOW

PAGES = ["/", "/live", "/outcomes", "/upstreams", "/grants", "/blocks", "/requests", "/explain"]
TASK = UNKNOWN.task.id
DEEDS = {
    f"/outcomes/{TASK}": {"outcome": "applied"},
    "/blocks": {"what": "block", "partner": "swiftbook"},
    "/explain": {"partner": "swiftbook", "customer": "airedale", "operation": "read", "appointment": "a-1"},
}


@pytest.mark.parametrize("path", PAGES)
async def test_on_the_loopback_looking_needs_no_login(path: str) -> None:
    async with Desk().open() as asker:
        got = await asker.get(path)
        assert (got.status, "<h1>" in got.text) == (200, True)


@pytest.mark.parametrize("path", [*PAGES, f"/outcomes/{TASK}", "/audit/stream", "/metrics", "/nothing"])
async def test_off_the_loopback_a_browser_is_sent_to_the_login_and_a_program_is_told(path: str) -> None:
    async with Desk(loopback=False).open() as asker:
        page = await asker.get(path)
        assert (page.status, page.headers["Location"].startswith("/login?next=%2F")) == (303, True)
        program = await asker.get(path, Accept="*/*")
        assert (program.status, "WWW-Authenticate" in program.headers) == (401, True)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/login", "/static/console.css", "/static/live.js"])
async def test_health_and_what_the_login_page_is_made_of_need_no_login_anywhere(path: str) -> None:
    async with Desk(loopback=False).open() as asker:
        assert (await asker.get(path)).status == 200


async def test_a_login_opens_every_page_and_a_token_of_a_program_does_too() -> None:
    async with Desk(loopback=False).open() as asker:
        cookie = await asker.log_in()
        for path in PAGES:
            assert "Jo Bloggs" in (await asker.get(path, Cookie=cookie)).text
            assert "Jo Bloggs" in (await asker.get(path, Authorization=f"Bearer {TOKEN}")).text


async def test_the_cookie_of_a_session_is_kept_from_scripts_other_sites_and_plain_http_behind_https() -> None:
    async with Desk().open() as asker:
        plain = await asker.post("/login", {"token": TOKEN, "next": "/"})
        told = plain.headers["Set-Cookie"]
        assert told.startswith(f"{COOKIE}=")
        assert all(word in told for word in ("HttpOnly", "SameSite=Strict", "Max-Age=28800", "Path=/"))
        assert ("Secure" in told, TOKEN in told, DIGEST in told) == (False, False, False)
        behind = await asker.post(
            "/login", {"token": TOKEN, "next": "/"}, Host="ops.example", Origin="https://ops.example"
        )
        assert "Secure" in behind.headers["Set-Cookie"]


@pytest.mark.parametrize("path", DEEDS)
async def test_nobody_does_anything_without_a_name_not_even_on_the_loopback(path: str) -> None:
    desk = Desk(writes=[UNKNOWN])
    async with desk.open() as asker:
        got = await asker.post(path, DEEDS[path])
        assert (got.status, desk.deeds.done) == (403, [])
        page = await asker.get(path)
        assert "Log in" in page.text


@pytest.mark.parametrize("path", DEEDS)
async def test_what_is_done_is_done_under_the_name_of_the_session_or_the_token(path: str) -> None:
    desk = Desk(writes=[UNKNOWN])
    async with desk.open() as asker:
        await asker.post(path, DEEDS[path], Cookie=await asker.log_in())
        await asker.post(path, DEEDS[path], Authorization=f"Bearer {OTHER}", Origin="")
        assert [done[-1] for done in desk.deeds.done] == ["Jo Bloggs", "Sam Doe"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "file://"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
    ],
    ids=lambda headers: " ".join(headers.values()) or "none",
)
@pytest.mark.parametrize("path", [*DEEDS, "/login", "/logout"])
async def test_a_form_of_another_site_does_nothing(path: str, headers: dict[str, str]) -> None:
    desk = Desk(writes=[UNKNOWN])
    async with desk.open() as asker:
        cookie = await asker.log_in()
        form = DEEDS.get(path, {"token": TOKEN, "next": "/"})
        got = await asker.post(path, form, Cookie=cookie, **headers)
        assert (got.status, desk.deeds.done, "Set-Cookie" in got.headers) == (403, [], False)


async def test_a_token_does_not_excuse_a_foreign_origin() -> None:
    desk = Desk()
    async with desk.open() as asker:
        got = await asker.post(
            "/blocks", DEEDS["/blocks"], Authorization=f"Bearer {TOKEN}", Origin="https://evil.example"
        )
        assert (got.status, desk.deeds.done) == (403, [])


async def test_under_a_name_that_is_not_its_own_the_console_shows_and_does_nothing() -> None:
    desk = Desk()
    async with desk.open() as asker:
        cookie = await asker.log_in()
        foreign = {"Host": "rebound.example:9090"}
        assert (await asker.get("/", Cookie=cookie, **foreign)).status == 421
        post = await asker.post(
            "/blocks", DEEDS["/blocks"], Cookie=cookie, Origin="http://rebound.example:9090", **foreign
        )
        assert (post.status, desk.deeds.done) == (421, [])


async def test_logging_out_takes_the_cookie_away() -> None:
    async with Desk().open() as asker:
        got = await asker.post("/logout", {}, Cookie=await asker.log_in())
        assert got.status == 303
        assert f'{COOKIE}=""' in got.headers["Set-Cookie"]


async def test_without_operators_the_pages_say_how_to_configure_one() -> None:
    async with Desk(operators={}).open() as asker:
        for path in ("/login", "/explain", "/blocks"):
            text = (await asker.get(path)).text
            assert "admin = { operators = [" in text
            assert "sha256sum" in text


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("/requests?id=1", "/requests?id=1"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
        ("", "/"),
        ("evil", "/"),
    ],
)
async def test_a_login_leads_back_to_a_page_of_the_console_only(given: str, taken: str) -> None:
    assert local_path(given) == taken
    async with Desk().open() as asker:
        got = await asker.post("/login", {"token": TOKEN, "next": given})
        assert (got.status, got.headers["Location"]) == (303, taken)


async def test_guessing_is_slowed_down_and_tells_nothing() -> None:
    async with Desk().open() as asker:
        for n in range(FAILED_AT_ONE):
            got = await asker.post("/login", {"token": f"guess {n}", "next": "/"})
            assert (got.status, f"guess {n}" in got.text) == (403, False)
        late = await asker.post("/login", {"token": TOKEN, "next": "/"})
        assert (late.status, "Set-Cookie" in late.headers) == (429, False)


def test_failures_are_forgotten_after_a_minute_and_counted_in_all_too() -> None:
    now = [0.0]
    failures = Failures(lambda: now[0])
    for n in range(FAILED_AT_ONE):
        assert not failures.too_many("a")
        now[0] += 0.1 * n
        failures.add("a")
    assert failures.too_many("a")
    assert not failures.too_many("b")
    now[0] += FAILED_SECONDS + 10
    assert not failures.too_many("a")
    for n in range(FAILED_IN_ALL):
        failures.add(f"client {n}")
    assert failures.too_many("somebody else")


def test_no_more_addresses_are_kept_than_there_is_room_for() -> None:
    failures = Failures(lambda: 0.0)
    for n in range(ADDRESSES + 50):
        failures.add(f"client {n}")
    assert len(failures._by) == ADDRESSES


def sessions(clock: datetime = NOW, operators: Mapping[str, str] = OPERATORS) -> Sessions:
    return Desk(clock=clock, operators=operators).sessions


def test_a_session_counts_on_every_node_with_the_same_secret_and_on_no_other() -> None:
    cookie = sessions().begin(TOKEN)
    assert cookie is not None
    assert sessions().holder(cookie) == "Jo Bloggs"
    other = Sessions.of(b"another secret of that length", Operators(OPERATORS), lambda: NOW)
    assert other.holder(cookie) is None


def test_a_session_ends_after_eight_hours() -> None:
    cookie = sessions().begin(TOKEN)
    assert cookie is not None
    assert sessions(clock=NOW + timedelta(hours=7, minutes=59)).holder(cookie) == "Jo Bloggs"
    assert sessions(clock=NOW + timedelta(hours=8)).holder(cookie) is None


def test_a_session_ends_with_its_operator_or_the_operators_token() -> None:
    cookie = sessions().begin(TOKEN)
    assert cookie is not None
    assert sessions(operators={}).holder(cookie) is None
    assert sessions(operators={"0" * 64: "Jo Bloggs"}).holder(cookie) is None


def test_a_session_that_was_tampered_with_is_nobodys() -> None:
    cookie = sessions().begin(TOKEN)
    sams = sessions().begin(OTHER)
    assert cookie is not None
    assert sams is not None
    told, mark = cookie.split(".")
    for bad in (
        f"{sams.split('.')[0]}.{mark}",
        f"{told}.",
        told,
        "",
        ".",
        "é" * 20,
        "A" * 2000,
        f"{told}.{mark[:-2]}AA",
        "bnVsbA.AAAA",
    ):
        assert sessions().holder(bad) is None
    assert sessions().begin("nobody's") is None
    assert SECRET not in repr(sessions()).encode()


async def test_no_link_from_elsewhere_puts_words_into_the_mouth_of_the_console() -> None:
    desk = Desk(writes=[UNKNOWN])
    async with desk.open() as asker:
        cookie = await asker.log_in()
        done = await asker.post(f"/outcomes/{TASK}", {"outcome": "applied"}, Cookie=cookie)
        words = f"{TASK} is on record as applied, said Jo Bloggs."
        assert words in (await asker.get(done.headers["Location"])).text
        for path in ("/outcomes", "/blocks"):
            for mark in ("", "x", "é", desk.sessions.vouch("other words")):
                forged = await asker.get(f"{path}?done=Send%20your%20token%20to%20Eve&mark={mark}")
                assert (forged.status, "Eve" in forged.text) == (200, False)
