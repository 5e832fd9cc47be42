"""What the pages of the console say, and that nothing in them is ever taken for markup."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.admin.feed import Filter
from gateway.admin.sources import Blocked, GrantsFile
from gateway.domain.grant import Policy
from tests.edges.console_desk import UNKNOWN, Desk, FakeAudit, called, record
from tests.makers import NOW, grant, policy

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
ID = "11111111-1111-4111-8111-111111111111"


async def page(desk: Desk, path: str) -> str:
    async with desk.open() as asker:
        got = await asker.get(path)
    assert got.status == 200
    return got.text


async def test_the_matrix_shows_each_grant_with_its_state_and_days() -> None:
    grants = (
        grant(),
        grant(id="soon", customer="leeds", valid_until=NOW + timedelta(days=10, hours=1)),
        grant(id="later", customer="bradford", valid_from=NOW + timedelta(days=3), valid_until=NOW + timedelta(days=9)),
        grant(id="over", customer="wharfedale", valid_until=NOW - timedelta(days=2)),
        grant(id="tried", shadow=True),
        grant(id="out", partner="suspended"),
    )
    text = await page(Desk(policy=policy(*grants)), "/")
    for words in (
        "213 days left", "10 days left", "begins in 3 days", "ended 2 days ago", "In force", "Ends soon", "Not begun",
        "Ended", "Shadow", "Suspended", "read, change, cancel", "2 days", "GENERAL_HEALTH",
        "comment, end, location, start",
        "no grant", "team of airedale",
    ):  # fmt: skip
        assert words in text


async def test_a_blocked_partner_shows_in_its_column_and_in_its_grants() -> None:
    everywhere = policy().with_blocks(frozenset({("swiftbook", None)}))
    at_one = policy().with_blocks(frozenset({("swiftbook", "airedale")}))
    assert (await page(Desk(policy=everywhere), "/")).count(">Blocked</span>") == 2
    assert (await page(Desk(policy=at_one), "/")).count(">Blocked</span>") == 1


async def test_a_large_matrix_comes_in_pages_and_narrows_by_words() -> None:
    base = policy()
    customers = {
        f"trust-{n:03}": replace(base.customers["leeds"], id=f"trust-{n:03}", name=f"Trust {n}") for n in range(60)
    }
    partners = {f"partner-{n:02}": replace(base.partners["swiftbook"], id=f"partner-{n:02}") for n in range(40)}
    large = Policy("d", partners, customers, tuple(grant(id=c, customer=c, partner="partner-39") for c in customers))
    text = await page(Desk(policy=large), "/")
    assert "60 customers, page 1 of 3; 28 more partners not shown" in text
    # Who has something there is shown before those who have nothing.
    assert "<code>partner-39</code>" in text
    assert "trust-030" in await page(Desk(policy=large), "/?page=2")
    assert "Grants: 1 customer<" in await page(Desk(policy=large), "/?customer=trust-059&partner=partner-39")
    assert "No customer of that name." in await page(Desk(policy=large), "/?customer=nowhere&page=99999999")


async def test_a_refused_request_names_the_rule_that_failed_first_and_the_advice() -> None:
    text = await page(Desk(audit=FakeAudit([record()])), f"/requests?id={ID}")
    assert "It is too late: the customer&#39;s notice before the start has begun." in text
    assert (
        "The customer&#39;s notice period for this appointment has begun. Ask the hospital&#39;s booking team." in text
    )
    assert text.count("This decided it.") == 1
    assert text.index("This decided it.") < text.index("reason-allowed")


async def test_a_write_shows_its_intent_its_outcomes_and_who_said_so() -> None:
    task = UNKNOWN.task.id
    written = {"length": 12, "hmac": "k1:abc"}
    records = [
        record(
            event="intent",
            decision="permit",
            code=None,
            task=task,
            change={"comment": {"before": None, "after": written}},
        ),
        record(
            event="outcome", decision=None, code="outcome-unknown", outcome="unknown", final=False, task=task, seq=2
        ),
        record(
            event="task-resolved", decision=None, code=None, outcome="applied", operator="Jo Bloggs", task=task, seq=3
        ),
        record(
            event="outcome",
            decision=None,
            code=None,
            outcome="applied",
            final=True,
            operator="Jo Bloggs",
            task=task,
            seq=4,
        ),
    ]
    text = await page(Desk(audit=FakeAudit(records)), f"/requests?id={task}")
    for words in (
        "text of 12 characters, not recorded", "May or may not be done. The gateway goes on looking.",
        "Done, and seen in PKB. This is final.", "Said by Jo Bloggs.", "A person says how the write ended",
    ):  # fmt: skip
        assert words in text
    assert "k1:abc" not in text


async def test_an_id_that_nothing_names_is_said_to_be_unknown_and_how_far_was_looked() -> None:
    audit = FakeAudit(stopped_after="20260101T000000Z-00000000.000001.jsonl")
    async with Desk(audit=audit).open() as asker:
        got = await asker.get("/requests?id=X-Request-Id:%20" + ID)
        assert got.status == 404
        assert "Nothing on record names this id." in got.text
        assert "Look further back" in got.text
        await asker.get(f"/requests?id={ID}&after={audit.stopped_after}")
    assert audit.asked == [(ID, ""), (ID, audit.stopped_after)]


@pytest.mark.parametrize("id_", [EVIL, "../../etc/passwd", "a" * 65, "é"])
async def test_what_is_spelled_like_no_id_is_not_looked_for(id_: str) -> None:
    audit = FakeAudit()
    async with Desk(audit=audit).open() as asker, asker.client.get("/requests", params={"id": id_}) as response:
        assert (response.status, audit.asked) == (400, [])
        assert "<script>alert" not in await response.text()


async def test_open_writes_show_their_age_and_lead_to_their_end() -> None:
    text = await page(Desk(writes=[UNKNOWN]), "/outcomes")
    assert "1 day 2 hours" in text
    assert f'href="/outcomes/{UNKNOWN.task.id}"' in text
    assert "No write is open." in await page(Desk(), "/outcomes")


async def test_a_store_that_does_not_answer_is_told_and_takes_no_page_down() -> None:
    desk = Desk(store_missing="gone")
    for path in ("/", "/outcomes", "/blocks"):
        assert "state store does not answer" in await page(desk, path)
    async with desk.open() as asker:
        assert (await asker.get(f"/outcomes/{UNKNOWN.task.id}")).status == 503


async def test_an_audit_folder_that_cannot_be_read_is_told() -> None:
    async with Desk(audit=FakeAudit(missing="The audit folder cannot be read: gone")).open() as asker:
        assert "cannot be read" in (await asker.get("/live")).text
        assert (await asker.get(f"/requests?id={ID}")).status == 503


async def test_a_refused_grants_file_is_told_with_each_line_and_failing_cases_too() -> None:
    problems = ("/etc/grants.toml:7: grants[0].until: must be after from", "/etc/grants.toml:9: x: unknown key")
    file = GrantsFile("/etc/grants.toml", "d" * 64, NOW, problems, NOW, ("cases.toml:3: cases[0]: expects a permit",))
    text = await page(Desk(file=file), "/grants")
    for words in (*problems, "cases.toml:3", "older grants stay in force", "2026-06-01 09:00:00 UTC"):
        assert words in text
    assert "refused" in await page(Desk(file=file), "/")


async def test_blocks_are_listed_with_who_set_them() -> None:
    desk = Desk(blocked=[Blocked("swiftbook", None, "Jo Bloggs", NOW), Blocked("cardiolink", "leeds", "Sam Doe", NOW)])
    text = await page(desk, "/blocks")
    assert all(words in text for words in ("every customer", "leeds", "Jo Bloggs", "Sam Doe"))


async def test_the_health_of_a_route_is_drawn_and_told() -> None:
    desk = Desk(breakers={"airedale-box": "open", "quiet": "closed"})
    for n in range(20):
        desk.ring("airedale-box", "read", "ok" if n % 4 else "timeout", 0.1 * n)
    text = await page(desk, "/upstreams")
    assert "20 exchanges in 15 minutes, 5 failed" in text
    assert "Half answered within 1000 ms" in text
    assert ">Held back: PKB fails</span>" in text
    assert "2026-06-01 09:00:00 UTC, timeout" in text
    assert "none seen" in text
    assert text.count("<polyline") == 2


async def test_live_decisions_show_the_last_ones_and_filter_them() -> None:
    audit = FakeAudit(
        [record(), record(event="checkpoint", seq=2), record(event="read", decision="permit", code=None, seq=3)]
    )
    everything = await page(Desk(audit=audit), "/live")
    assert everything.count("<tr data-place") == 2
    assert (await page(Desk(audit=audit), "/live?decision=refuse&event=")).count("<tr data-place") == 1
    assert (await page(Desk(audit=audit), "/live?event=checkpoint")).count("<tr data-place") == 1


@pytest.mark.parametrize("path", ["/", "/live", "/outcomes", "/grants", "/blocks", f"/requests?id={ID}", "/explain"])
async def test_what_others_chose_is_text_on_every_page(path: str) -> None:
    names = ("partner", "customer", "operation", "appointment", "code", "event", "grants_digest", "outcome", "operator")
    hostile = {
        **record(**dict.fromkeys(names, EVIL), checks=[[EVIL, False]], token={"iss": EVIL}),
        "facts": {"status": EVIL, "owner": [EVIL]},
        "change": {EVIL: {"before": EVIL, "after": EVIL}},
        "shadow": {"grant": EVIL, "code": EVIL},
    }
    outcome = {**hostile, "event": "outcome", "upstream": {"route": EVIL, "collateral": [EVIL]}, "seq": 2}
    write = replace(UNKNOWN, task=replace(UNKNOWN.task, id=EVIL, appointment=EVIL, outcome=EVIL))
    desk = Desk(
        audit=FakeAudit([hostile, outcome, record(event="grants-loaded", grants_digest=EVIL, code=EVIL)]),
        writes=[write],
        policy=called(policy(), EVIL),
        blocked=[Blocked(EVIL, EVIL, EVIL, NOW)],
        file=GrantsFile(EVIL, EVIL, NOW, (EVIL,), NOW, (EVIL,)),
    )
    text = await page(desk, path)
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text or path == "/explain"


async def test_a_hostile_filter_is_text_too() -> None:
    async with Desk().open() as asker, asker.client.get("/live", params={"partner": EVIL, "event": EVIL}) as response:
        assert "<script>alert" not in await response.text()


@pytest.mark.parametrize("path", ["/", "/nothing", "/static/console.css", "/health/live", "/metrics", "/login"])
async def test_every_answer_forbids_scripts_frames_and_being_kept(path: str) -> None:
    async with Desk().open() as asker:
        headers = (await asker.get(path)).headers
    policy_ = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy_
    assert "frame-ancestors 'none'" in policy_
    assert "unsafe" not in policy_
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"


async def test_the_pages_hold_no_inline_script_or_style_and_refer_to_nothing_elsewhere() -> None:
    desk = Desk(writes=[UNKNOWN], audit=FakeAudit([record()]))
    for path in (
        "/",
        "/live",
        "/outcomes",
        "/upstreams",
        "/grants",
        "/blocks",
        f"/requests?id={ID}",
        "/explain",
        "/login",
    ):
        text = await page(desk, path)
        assert " style=" not in text
        assert "<style" not in text
        assert "<script>" not in text
        assert "http://" not in text.replace("http://snomed.info", "")
        assert "https://" not in text


async def test_what_was_said_of_the_patient_is_used_and_not_shown_again() -> None:
    desk = Desk()
    form = {
        "partner": "swiftbook", "customer": "airedale", "operation": "cancel", "appointment": "a-1", "reason": "pat",
        "patient": "9990000018", "birth_date": "1980-02-29",
    }  # fmt: skip
    async with desk.open() as asker:
        got = await asker.post("/explain", form, Cookie=await asker.log_in())
        assert desk.deeds.done == [("explain", "swiftbook", "9990000018", "1980-02-29", "Jo Bloggs")]
        assert ("9990000018" in got.text, "1980-02-29" in got.text.replace("Such as 1980-02-29", "")) == (False, False)
        assert 'value="a-1"' in got.text
        desk.deeds.undone = "PKB could not be read"
        failed = await asker.post("/explain", form, Cookie=await asker.log_in())
        assert (failed.status, "PKB could not be read" in failed.text, "9990000018" in failed.text) == (
            400,
            True,
            False,
        )


async def test_what_could_not_be_done_is_told_and_not_taken_for_done() -> None:
    desk = Desk(writes=[UNKNOWN])
    async with desk.open() as asker:
        cookie = await asker.log_in()
        path = f"/outcomes/{UNKNOWN.task.id}"
        assert (await asker.post(path, {"outcome": "perhaps"}, Cookie=cookie)).status == 400
        desk.deeds.undone = "the gateway has just ended it itself"
        for where, form in ((path, {"outcome": "applied"}), ("/blocks", {"partner": "swiftbook"})):
            got = await asker.post(where, form, Cookie=cookie)
            assert got.status == 409
            assert "he gateway has just ended it itself" in got.text
        assert desk.deeds.done == []


async def test_what_fails_is_a_page_for_a_person_json_for_a_program_and_a_fault_in_the_log() -> None:
    class Broken(FakeAudit):
        async def recent(self, wanted: Filter, count: int) -> Sequence[Mapping[str, Any]]:
            raise RuntimeError("9990000018")

    async with Desk(audit=Broken()).open() as asker:
        with capture_logs() as logs:
            shown = await asker.get("/live")
            told = await asker.get("/live", Accept="application/json")
        assert (shown.status, "The gateway failed; see its log." in shown.text) == (500, True)
        assert (told.status, told.text) == (500, '{"error": "the gateway failed; see its log"}')
        assert "9990000018" not in shown.text + told.text
        assert [(each["event"], each["what"]) for each in logs] == [("fault", "/live")] * 2
