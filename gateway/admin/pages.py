"""How pages are made: templates that escape everything, and the headers they are served under."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from gateway.admin.matrix import span

if TYPE_CHECKING:
    from jinja2 import Environment

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Cache-Control": "no-store",
        "Content-Security-Policy": POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        # Not no-referrer: under that browsers send the Origin of a form as null.
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
)
ASSETS: Final[Mapping[str, str]] = MappingProxyType(
    {"console.css": "text/css", "live.js": "text/javascript", "icon.svg": "image/svg+xml"}
)


@cache
def asset(name: str) -> bytes:
    """Read a file that pages refer to."""
    return (files("gateway.admin") / "static" / name).read_bytes()


@cache
def _environment() -> "Environment":
    """Templates are compiled once a process."""
    # At the first page: a start would pay 40 ms and 4 MB for what many a gateway never shows.
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - see above

    environment = Environment(
        loader=PackageLoader("gateway.admin"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {"clock": clock, "day": day, "iso": iso, "span": span}
    return environment


def clock(at: datetime | str | None) -> str:
    """Write a time to the second."""
    told = _moment(at)
    return "" if told is None else f"{told:%Y-%m-%d %H:%M:%S} UTC"


def day(at: datetime | str | None) -> str:
    """Write the time of day of a time."""
    told = _moment(at)
    return "" if told is None else f"{told:%H:%M:%S}"


def iso(at: datetime | str | None) -> str:
    """Write a time for machines."""
    told = _moment(at)
    return "" if told is None else told.isoformat().replace("+00:00", "Z")


def _moment(at: datetime | str | None) -> datetime | None:
    if isinstance(at, str):
        try:
            at = datetime.fromisoformat(at)
        except ValueError:
            return None
    return None if at is None or at.tzinfo is None else at.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Pages:
    """Makes pages out of templates."""

    async def page(self, template: str, values: Mapping[str, Any], status: int = 200) -> web.Response:
        """Make a page. Long ones take their time, so it is made beside the event loop."""
        text = await asyncio.to_thread(_render, template, values)
        return web.Response(status=status, text=text, content_type="text/html")


def _render(template: str, values: Mapping[str, Any]) -> str:
    return _environment().get_template(template).render(values)
