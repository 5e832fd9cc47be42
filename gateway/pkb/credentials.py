"""Access tokens of the gateway at PKB: OAuth 2.0 client credentials (RFC 6749 §4.4), one request for everybody."""

import asyncio
import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import quote_plus, urlencode

from gateway.domain import strict_json
from gateway.domain.codes import Code
from gateway.domain.strict_json import MalformedJson, Number
from gateway.flow.ports import Message, UpstreamFault
from gateway.pkb.answers import fault_of, fault_of_token_status, invalid
from gateway.pkb.http import HttpFault, Reuse, checked_url
from gateway.pkb.line import Line

FETCH_SECONDS: Final = 5.0
"""How long one token request may take, whoever waits for it."""
USUAL_LIFETIME: Final = 60
"""Seconds, where the server does not say (RFC 6749 §5.1 only recommends `expires_in`)."""
LONGEST_LIFETIME: Final = 86_400
AHEAD: Final = 0.8
"""The part of its lifetime after which a token is replaced while still in use."""
COOL_DOWN: Final = 1.0
"""Seconds between two tries to replace a token that still works."""

# RFC 6750 §2.1; anything else could end the header it is put into.
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]{1,16384}=*")


class TokenStyle(StrEnum):
    """Where the client's id and secret go: PKB documents both."""

    BODY = "body"
    BASIC = "basic"


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Where and as whom to ask for a token."""

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    style: TokenStyle = TokenStyle.BODY


@dataclass(frozen=True, slots=True)
class _Held:
    token: str = field(repr=False)
    replace_at: float
    expires_at: float


class Credentials:
    """The token of one route. Many callers share one request; a failed one fails for all who waited for it."""

    def __init__(self, settings: TokenSettings, line: Line, clock: Callable[[], float]) -> None:
        """`clock` is monotonic, in seconds. Raises ValueError for a bad address."""
        self._url = checked_url(settings.url)
        self._headers, self._body = _request(settings)
        self._line = line
        self._clock = clock
        self._held: _Held | None = None
        self._fetching: asyncio.Task[str] | None = None
        self._tried_at = float("-inf")

    async def token(self, deadline: float) -> str:
        """Give a token that is good now, waiting for a new one only when there is none. Raises UpstreamFault."""
        held, now = self._held, self._clock()
        if held is None or now >= held.expires_at:
            return await self._wait(deadline)
        if now >= held.replace_at and now >= self._tried_at + COOL_DOWN:
            self._fetch()
        return held.token

    def drop(self, token: str) -> None:
        """Forget a token that PKB refused, unless another has taken its place already."""
        if self._held is not None and self._held.token == token:
            self._held = None

    async def close(self) -> None:
        """Stop asking."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    async def _wait(self, deadline: float) -> str:
        # Shielded: one caller that gives up must not take the token away from the others.
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(self._fetch())
        except TimeoutError as error:
            raise UpstreamFault(Code.UPSTREAM_TIMEOUT, "no token in time") from error

    def _fetch(self) -> asyncio.Task[str]:
        if self._fetching is None:
            self._tried_at = self._clock()
            self._fetching = asyncio.create_task(self._ask())
            self._fetching.add_done_callback(self._fetched)
        return self._fetching

    def _fetched(self, task: asyncio.Task[str]) -> None:
        self._fetching = None
        if not task.cancelled():
            # Whoever waits gets the fault from the task; a replacement ahead of time has nobody waiting.
            task.exception()

    async def _ask(self) -> str:
        asked_at = self._clock()
        deadline = asyncio.get_running_loop().time() + FETCH_SECONDS
        try:
            answer = await self._line.send(
                Message.TOKEN, "POST", self._url, self._headers, deadline, body=self._body, reuse=Reuse.NEVER
            )
        except HttpFault as fault:
            told = fault_of(fault)
            # The time that ran out is the token request's own; the caller's deadline is watched by the caller.
            code = Code.UPSTREAM_UNAVAILABLE if told.code is Code.UPSTREAM_TIMEOUT else told.code
            raise UpstreamFault(code, f"token server: {told.reason}") from fault
        if answer.status != 200:
            raise fault_of_token_status(answer.status)
        token, lifetime = _parse(answer.body)
        self._held = _Held(token, asked_at + AHEAD * lifetime, asked_at + lifetime)
        return token


def _request(settings: TokenSettings) -> tuple[dict[str, str], bytes]:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    form = {"grant_type": "client_credentials"}
    if settings.style is TokenStyle.BASIC:
        # RFC 6749 §2.3.1: id and secret are form-encoded before they are joined.
        pair = f"{quote_plus(settings.client_id)}:{quote_plus(settings.client_secret)}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        form |= {"client_id": settings.client_id, "client_secret": settings.client_secret}
    return headers, urlencode(form).encode()


def _parse(body: bytes) -> tuple[str, int]:
    """Give the token and its lifetime in seconds (RFC 6749 §5.1). Raises UpstreamFault."""
    try:
        document = strict_json.read(body)
    except MalformedJson:
        invalid("token answer is not JSON")
    if not isinstance(document, dict):
        invalid("token answer is not an object")
    token, kind = document.get("access_token"), document.get("token_type")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        invalid("token answer has no token")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        invalid("token is not a bearer token")
    lifetime = document.get("expires_in", Number.of(USUAL_LIFETIME))
    seconds = lifetime.integer() if isinstance(lifetime, Number) else None
    if seconds is None or seconds <= 0:
        invalid("token has no lifetime")
    return token, min(seconds, LONGEST_LIFETIME)
