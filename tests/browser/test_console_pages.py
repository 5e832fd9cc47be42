"""Every page of the console, light and dark, with something to show on it: axe finds no fault, a picture is kept."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.browser.happenings import write_without_answer
from tests.browser.visitor import Scheme, Visitor
from tests.journeys.partner import Client, until
from tests.journeys.processes import Place

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Stage:
    """What happened before anybody looks."""

    refused: str
    written: str
    unknown: str
    task: str
    inside_notice: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(place: Place) -> AsyncIterator[Stage]:
    """A refusal, a write, one whose end is unknown, a PKB that failed, a block, and a grants file with two mistakes."""
    async with Client(place) as client:
        inside_notice = client.demo("inside-notice")["id"]
        for _ in range(3):
            await client.read(client.demo("changeable")["id"])
        written = await client.cancel(await client.fresh())
        refused = await client.cancel(inside_notice)
        unknown, task = await write_without_answer(client)
        good = place.grants.read_text(encoding="utf-8")
        place.grants.write_text(good.replace('operations = ["read"]', 'operations = ["look"]'), encoding="utf-8")

        async def refusals() -> int:
            return sum(each["event"] == "grants-refused" for each in place.records())

        await until(refusals, lambda count: count > 0)
        yield Stage(refused.request_id, written.request_id, unknown.request_id, task, inside_notice)
        place.grants.write_text(good, encoding="utf-8")


def pages(stage: Stage) -> dict[str, tuple[str, str]]:
    """The name of each page, where it is, and words that it must show."""
    explain = f"/explain?partner=swiftbook&customer=airedale&operation=cancel&appointment={stage.inside_notice}"
    return {
        "login": ("/login", "Operator's token"),
        "matrix": ("/", "Airedale NHS Foundation Trust"),
        "live": ("/live", "Live: new records appear by themselves."),
        "outcomes": ("/outcomes", "unknown"),
        "resolve": (f"/outcomes/{stage.task}", "What does PKB show?"),
        "upstreams": ("/upstreams", "airedale-box"),
        "grants": ("/grants", "grants.toml:"),
        "blocks": ("/blocks", "The kill switch"),
        "explain": (explain, "What the partner sends besides"),
        "request-search": ("/requests", "Enter the X-Request-Id"),
        "request-refused": (f"/requests?id={stage.refused}", "This decided it."),
        "request-written": (f"/requests?id={stage.written}", "Done, and seen in PKB."),
        "request-unknown": (f"/requests?id={stage.unknown}", "May or may not be done."),
        "request-missing": ("/requests?id=nothing-like-it", "Nothing on record names this id."),
        "error": ("/nowhere", "Not done"),
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_shows_what_it_is_for_and_axe_finds_no_fault(
    browser: Browser, place: Place, stage: Stage, token: str, scheme: Scheme
) -> None:
    faults = {}
    async with Visitor.open(browser, place.admin_url, token, scheme) as visitor:
        await visitor.log_in()
        for name, (path, words) in pages(stage).items():
            await visitor.go(path)
            await visitor.page.get_by_text(words).first.wait_for()
            faults[name] = await visitor.violations()
            await visitor.picture(f"{name}-{scheme}")
        await visitor.go(pages(stage)["explain"][0])
        await visitor.page.get_by_role("button", name="Explain").click()
        await visitor.page.get_by_text("This decided it.").wait_for()
        faults["explained"] = await visitor.violations()
        await visitor.picture(f"explained-{scheme}")
        assert visitor.complaints == []
    assert {name: found for name, found in faults.items() if found} == {}


async def test_at_the_width_of_a_telephone_nothing_runs_out_of_the_page(visitor: Visitor, stage: Stage) -> None:
    await visitor.page.set_viewport_size({"width": 360, "height": 740})
    for name, (path, _) in pages(stage).items():
        await visitor.go(path)
        wide = await visitor.page.evaluate("() => document.documentElement.scrollWidth")
        assert wide <= 360, name


async def test_without_scripts_every_page_works(browser: Browser, place: Place, stage: Stage) -> None:
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    for name, (path, words) in pages(stage).items():
        if name in {"live", "resolve", "explain", "login"}:
            continue
        await page.goto(place.admin_url + path)
        assert await page.get_by_text(words).first.is_visible(), name
    await page.goto(f"{place.admin_url}/live?code=too-late")
    rows = page.locator("#records tr")
    assert await rows.count() >= 1
    assert set(await rows.locator("td:nth-child(7)").all_inner_texts()) == {"too-late"}
    await context.close()
