"""Somebody who looks at the console in a browser."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Page, Request

ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
]
PICTURES = Path(__file__).resolve().parents[2] / "build" / "screenshots"
Scheme = Literal["light", "dark"]
_NAME = """() => {
  const focused = document.activeElement;
  return (focused.labels && focused.labels.length ? focused.labels[0].innerText : focused.innerText) || "";
}"""


@dataclass
class Visitor:
    """One browser window. `complaints`: what the browser found fault with, and every request to somewhere else."""

    page: Page
    url: str
    token: str
    complaints: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ("status of 404", "status of 403", "status of 400", "status of 409", "ERR_CONNECTION")

    @classmethod
    @asynccontextmanager
    async def open(cls, browser: Browser, url: str, token: str, scheme: Scheme = "light") -> AsyncIterator["Visitor"]:
        context = await browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
        context.set_default_timeout(10_000)
        page = await context.new_page()
        visitor = cls(page, url, token)
        page.on("console", visitor._hear)
        page.on("pageerror", lambda error: visitor.complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: visitor.complaints.append(f"dialog: {dialog.message}"))
        page.on("request", visitor._look)
        try:
            yield visitor
        finally:
            await context.close()

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not any(each in message.text for each in self.expected):
            self.complaints.append(f"{message.type}: {message.text}")

    def _look(self, request: Request) -> None:
        if not request.url.startswith(self.url):
            self.complaints.append(f"request to {request.url}")

    async def go(self, path: str) -> None:
        await self.page.goto(self.url + path, wait_until="load")

    async def log_in(self) -> None:
        await self.go("/login")
        await self.page.get_by_label("Operator's token").fill(self.token)
        await self.page.get_by_role("button", name="Log in").click()
        await self.page.get_by_role("button", name="Log out").wait_for()

    async def text(self) -> str:
        return await self.page.locator("main").inner_text()

    async def picture(self, name: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)

    async def violations(self) -> list[Any]:
        """What axe finds fault with, with the places."""
        found = await Axe().run(self.page)
        return [
            (each["id"], node["target"], node.get("failureSummary", ""))
            for each in found.response["violations"]
            for node in each["nodes"]
        ]

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.page.keyboard.press(key)

    async def focused(self) -> str:
        """The accessible name of what has the focus, as far as it has one of its own."""
        told: str = await self.page.evaluate(_NAME)
        return told.strip()

    async def tab_to(self, name: str) -> None:
        """Go with the keyboard to what bears a name."""
        for _ in range(60):
            if await self.focused() == name:
                return
            await self.press("Tab")
        raise AssertionError(f"no way to {name!r} by keyboard")
