"""A sandbox and a browser for each module; without a browser the module is skipped, aloud."""

import json
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.browser.visitor import ARGUMENTS, Visitor
from tests.journeys.partner import Client
from tests.journeys.processes import Place, Sandbox, sandbox_process


def chromium() -> str | None:
    """Find a browser of this machine; one is never fetched."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    if chromium() is None:
        pytest.skip(
            "THE CONSOLE WAS SEEN IN NO BROWSER: THERE IS NO CHROMIUM; on Debian and Ubuntu: apt-get install chromium"
        )
    with sandbox_process(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture(scope="module")
def place(sandbox: Sandbox) -> Place:
    return sandbox.place


@pytest.fixture(scope="module")
def token(place: Place) -> str:
    """What an operator of the sandbox logs in with."""
    return Path(place.told["operator_token_file"]).read_text(encoding="ascii")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(sandbox: Sandbox) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def client(place: Place) -> AsyncIterator[Client]:
    async with Client(place) as speaking:
        yield speaking
        await speaking.clear()


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(browser: Browser, place: Place, token: str) -> AsyncIterator[Visitor]:
    async with Visitor.open(browser, place.admin_url, token) as somebody:
        yield somebody
        assert somebody.complaints == [], json.dumps(somebody.complaints, indent=1)
