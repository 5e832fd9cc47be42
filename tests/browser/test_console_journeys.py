"""What people come to the console for, done as they would do it."""

import json
import time
import uuid

import aiohttp
import pytest
from playwright.async_api import Browser, expect

from tests.browser.happenings import write_without_answer
from tests.browser.visitor import Visitor
from tests.journeys.partner import Client, until
from tests.journeys.processes import Json, Place

pytestmark = pytest.mark.asyncio(loop_scope="module")
EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>"


async def test_a_person_who_knows_only_the_readme_finds_out_why_a_request_was_refused_by_keyboard_alone(
    visitor: Visitor, client: Client
) -> None:
    refused = await client.cancel(client.demo("inside-notice")["id"])
    assert refused.status == 422

    await visitor.go("/")
    await visitor.press("Tab")
    assert await visitor.focused() == "Skip to the content"
    await visitor.tab_to("Request or Task id")
    await visitor.page.keyboard.insert_text(refused.headers["X-Request-Id"])
    await visitor.press("Enter")
    await expect(visitor.page.get_by_role("heading", level=1)).to_have_text(f"Request {refused.request_id}")

    text = await visitor.text()
    assert "Refused too-late" in text
    assert "The rule notice-kept failed: It is too late: the customer's notice before the start has begun." in text
    assert "What to do: The customer's notice period for this appointment has begun." in text
    rows = visitor.page.get_by_role("row").filter(has_text="This decided it.")
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("notice-kept")
    await visitor.picture("journey-refused")


async def test_a_decision_appears_within_a_second_of_the_answer(visitor: Visitor, client: Client) -> None:
    await visitor.go("/live?code=already-cancelled")
    await expect(visitor.page.locator("#state")).to_have_text("Live: new records appear by themselves.")
    appointment = client.demo("cancelled")["id"]
    took = []
    for _ in range(3):
        refused = await client.cancel(appointment)
        answered = time.monotonic()
        await visitor.page.wait_for_selector(f'a[href="/requests?id={refused.request_id}"]', timeout=5000)
        took.append(time.monotonic() - answered)
    assert max(took) < 1.0
    await client.read(appointment)
    codes = await visitor.page.locator("#records td:nth-child(7)").all_inner_texts()
    assert set(codes) == {"already-cancelled"}


async def test_held_records_wait_until_one_goes_on(visitor: Visitor, client: Client) -> None:
    await visitor.go("/live?event=read")
    await expect(visitor.page.locator("#state")).to_have_text("Live: new records appear by themselves.")
    await visitor.page.get_by_role("button", name="Hold").click()
    before = await visitor.page.locator("#records tr").count()
    await client.read(client.demo("changeable")["id"])
    await visitor.page.get_by_role("button", name="Go on (1 new)").click()
    await expect(visitor.page.locator("#records tr")).to_have_count(before + 1)


async def test_a_named_operator_ends_a_write_and_the_audit_says_so(visitor: Visitor, client: Client) -> None:
    _, task = await write_without_answer(client)
    await visitor.go("/outcomes")
    await visitor.page.get_by_role("link", name=f"Resolve {task}").click()
    # Nobody is logged in yet, and even on the loopback that is needed.
    await expect(visitor.page.get_by_role("button", name="Put it on record")).to_have_count(0)
    await visitor.page.get_by_role("main").get_by_role("link", name="Log in").click()
    await visitor.page.get_by_label("Operator's token").fill(visitor.token)
    await visitor.press("Enter")
    await visitor.page.get_by_label("Rejected").check()
    await visitor.page.get_by_role("button", name="Put it on record").click()
    await expect(visitor.page.get_by_role("status")).to_have_text(f"{task} is on record as rejected, said sandbox.")
    await expect(visitor.page.get_by_role("link", name=f"Resolve {task}")).to_have_count(0)

    written = [each for each in client.place.records() if each["task"] == task]
    assert [each["event"] for each in written] == ["intent", "outcome", "task-resolved", "outcome"]
    assert [(each["operator"], each["outcome"]) for each in written[2:]] == [("sandbox", "rejected")] * 2
    assert [each["final"] for each in written if each["event"] == "outcome"] == [False, True]
    # It is the same on the page of the request.
    await visitor.go(f"/requests?id={task}")
    assert "Said by sandbox." in await visitor.text()


async def test_a_person_explains_a_decision_and_what_was_said_of_the_patient_goes_nowhere(
    visitor: Visitor, client: Client
) -> None:
    appointment = client.demo("changeable", 2)
    await visitor.log_in()
    await visitor.go("/explain")
    for label, words in {
        "Partner": "swiftbook", "Customer": "airedale", "Appointment": appointment["id"], "NHS number": "9999999999",
        "Date of birth": "1931-07-19",
    }.items():  # fmt: skip
        await visitor.page.get_by_label(label, exact=True).fill(words)
    await visitor.page.get_by_label("Operation").select_option("cancel")
    await visitor.page.get_by_label("Reason").select_option("pat")
    await visitor.page.get_by_role("button", name="Explain").click()
    await expect(visitor.page.get_by_role("heading", name="Refused patient-mismatch")).to_be_visible()
    rows = visitor.page.get_by_role("row").filter(has_text="This decided it.")
    await expect(rows).to_contain_text("patient-matches")
    page = await visitor.page.content()
    assert ("9999999999" in page, "1931-07-19" in page) == (False, False)
    told = b"".join(client.place.lines())
    assert (b"9999999999" in told, b"1931-07-19" in told) == (False, False)
    (explained,) = [each for each in client.place.records() if each["event"] == "explained"]
    assert (explained["operator"], explained["code"], explained["appointment"]) == (
        "sandbox",
        "patient-mismatch",
        appointment["id"],
    )


async def test_a_partner_is_blocked_and_let_in_again(visitor: Visitor, client: Client) -> None:
    appointment = client.demo("changeable")["id"]
    await visitor.log_in()
    await visitor.go("/blocks")
    await visitor.page.get_by_label("Partner").fill("viewonly")
    await visitor.page.get_by_role("button", name="Block", exact=True).click()
    await expect(visitor.page.get_by_role("status")).to_contain_text("viewonly at every customer is blocked.")
    refused = await until(lambda: client.read(appointment, partner="viewonly"), lambda reply: reply.status == 403, 5)
    assert refused.code == "partner-suspended"
    await visitor.go("/")
    await expect(visitor.page.get_by_role("columnheader", name="ViewOnly Ltd")).to_contain_text("Blocked")
    await visitor.go("/blocks")
    await visitor.page.get_by_role("button", name="Lift the block of viewonly").click()
    await expect(visitor.page.get_by_role("status")).to_contain_text("no longer blocked")
    await until(lambda: client.read(appointment, partner="viewonly"), lambda reply: reply.status == 200, 5)
    # Each stands in a chain of its own, and chains that began in the same second are in no order.
    changes = sorted(
        (each for each in client.place.records() if each["event"] == "blocked"), key=lambda each: each["time"]
    )
    assert [(each["operator"], each["decision"]) for each in changes] == [("sandbox", "refuse"), ("sandbox", "permit")]


async def test_markup_in_what_partners_and_pkb_chose_does_nothing(visitor: Visitor, client: Client) -> None:
    id_ = str(uuid.uuid4())
    # A path of a partner's cannot hold such a thing; a reference of an assertion can, and so can PKB's status.
    record: Json = {
        "chain": "20200101T000000Z-00000000", "seq": 1, "time": "2020-01-01T00:00:00.000000Z", "event": EVIL,
        "request_id": id_, "partner": EVIL, "customer": EVIL, "operation": EVIL, "appointment": EVIL,
        "decision": "refuse", "code": EVIL, "outcome": EVIL,
    }  # fmt: skip
    await visitor.go("/live")
    await expect(visitor.page.locator("#state")).to_have_text("Live: new records appear by themselves.")
    await visitor.page.evaluate("record => show(record)", record)
    await expect(visitor.page.locator("#records tr").first).to_contain_text(EVIL)
    for path in (f"/requests?id={EVIL}", f"/live?partner={EVIL}", f"/explain?partner={EVIL}", f"/login?next={EVIL}"):
        await visitor.go(path)
        assert await visitor.page.locator("img, script:not([src])").count() == 0
    refused = await client.ask("GET", "/airedale/fhir/Appointment/x", token="a.b.c", headers={"X-Correlation-Id": EVIL})
    await visitor.go(f"/requests?id={refused.request_id}")
    assert "token-invalid" in await visitor.text()
    # A visitor's complaints, a dialog among them, fail the test when it leaves.


async def test_what_another_site_makes_the_browser_send_does_nothing(
    browser: Browser, visitor: Visitor, place: Place
) -> None:
    await visitor.log_in()
    attempts: list[tuple[str, Json]] = [("/blocks", {"what": "block", "partner": "swiftbook"}), ("/logout", {})]
    context = visitor.page.context
    form = "".join(
        f'<form id="f{n}" method="post" action="{place.admin_url}{path}">'
        + "".join(f'<input name="{name}" value="{value}">' for name, value in values.items())
        + "</form>"
        for n, (path, values) in enumerate(attempts)
    )
    # Another port of this machine is the same site to a browser, so that it sends the cookie along.
    other = "http://127.0.0.1:9/"
    for n in range(len(attempts)):
        page = await context.new_page()
        await page.route(other, lambda route: route.fulfill(body=form, content_type="text/html"))
        await page.goto(other)
        async with page.expect_navigation() as navigation:
            await page.evaluate(f"document.getElementById('f{n}').submit()")
        response = await navigation.value
        assert response is not None
        assert response.status == 403
        await page.close()
    assert [each for each in place.records() if each["event"] == "blocked" and each["partner"] == "swiftbook"] == []
    await visitor.go("/")
    await expect(visitor.page.get_by_role("button", name="Log out")).to_be_visible()


async def test_a_program_follows_the_stream_with_the_same_filters(client: Client) -> None:
    url = f"{client.place.admin_url}/audit/stream?partner=swiftbook&event=read"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        asked = await client.read(client.demo("changeable")["id"])
        while not (line := await response.content.readline()).startswith(b"data: "):
            assert line, "the stream ended"
    record = json.loads(line[6:])
    assert (record["request_id"], record["event"], len(record["hash"])) == (asked.request_id, "read", 64)
