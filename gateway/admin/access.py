"""Who may ask the admin side for what: the name it is asked under, where a page comes from, and who is logged in."""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from gateway.admin.sessions import Sessions

COOKIE: Final = "pkb-gateway-console"
OPEN: Final = ("/health/", "/static/")
"""What needs no login anywhere: health names nobody, and the style of the login page tells nothing."""
LOGIN: Final = "/login"
OPERATOR: Final = web.RequestKey("operator", str)
"""The name of who asks; empty where that is nobody."""


@dataclass(frozen=True, slots=True)
class Access:
    """The rules of the door."""

    hosts: frozenset[str]
    loopback: bool
    sessions: Sessions

    def knows_host(self, host: str) -> bool:
        """Whether the admin side is asked under a name of its own.

        A page in a browser can be made to talk to a loopback port under a name of its own (DNS rebinding).
        """
        name = host.rsplit(":", 1)[0].strip("[]").lower() if not _is_address(host) else host
        return name in self.hosts or host.lower() in self.hosts

    def operator(self, request: web.Request) -> str:
        """Name who asks, by a token or by a session; empty where that is nobody."""
        if has_token(request):
            _, _, token = request.headers["Authorization"].partition(" ")
            found = self.sessions.operators.named(token)
            return found[1] if found else ""
        return self.sessions.holder(request.cookies.get(COOKIE, "")) or ""

    def may_look(self, request: web.Request, operator: str) -> bool:
        """Whether to answer at all: on the loopback to everybody, elsewhere to operators."""
        open_ = request.path.startswith(OPEN) or request.path == LOGIN
        return open_ or self.loopback or bool(operator)

    def is_own(self, request: web.Request) -> bool:
        """Whether a POST was sent by a page of this console, or by a program that brought its own token.

        A browser sends a session's cookie along with what another site's page makes it send; `SameSite` keeps it from
        doing so, and this does not rely on that. What it says of the page cannot be forged by the page.
        """
        if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            return False
        origin = request.headers.get("Origin")
        if origin is None:
            return has_token(request)
        return urlsplit(origin).scheme in {"http", "https"} and urlsplit(origin).netloc.lower() == request.host.lower()


def has_token(request: web.Request) -> bool:
    """Whether a Bearer token came along; no browser sends one by itself."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and bool(token)


def local_path(path: str) -> str:
    """Take a path of this console to go on to; anything else leads to its first page."""
    good = path.startswith("/") and path.isascii() and path.isprintable() and not set(path) & set('\\ "<>')
    return path if good and not path.startswith("//") else "/"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
