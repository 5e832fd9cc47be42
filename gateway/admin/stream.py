"""`/audit/stream`: the records of the audit as server-sent events, as they are written."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from gateway.admin.feed import Feed, Filter, Full, Record, Viewer

MOST_RECENT: Final = 200
STILL_THERE: Final = 15.0
"""Seconds of silence after which a viewer is told that the line is still there."""
PATIENCE: Final = 10.0
"""Seconds that a viewer has to take what is sent."""
AT_ONCE: Final = 50

_LOST: Final = b'event: lost\ndata: {"why":"records came faster than they were taken; connect again"}\n\n'


@dataclass(frozen=True, slots=True)
class Stream:
    """Sends records to whoever asks. `recent` gives the last ones that are wanted, the oldest first."""

    feed: Feed
    recent: Callable[[Filter, int], Awaitable[Sequence[Record]]]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer with the last `recent` records, then every new one, until the viewer leaves or does not keep up."""
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
            raise web.HTTPForbidden(reason="the stream is for the console and for programs, not for other sites")
        wanted, count = Filter.read(request.query), _count(request.query.get("recent", "0"))
        try:
            async with self.feed.watching(wanted) as viewer:
                return await self._send(request, viewer, wanted, count)
        except Full:
            raise web.HTTPServiceUnavailable(reason="as many watch as may") from None

    async def _send(self, request: web.Request, viewer: Viewer, wanted: Filter, count: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        last = await self.recent(wanted, count) if count else ()
        shown = {(record.get("chain"), record.get("seq")) for record in last}
        try:
            await _write(response, b": the audit stream\n\n", *map(event, last))
            while True:
                batch = await _next(viewer)
                if batch is None:
                    break
                await _write(response, *(event(each) for each in batch if not _known(each, shown)))
            if viewer.lost:
                await _write(response, _LOST)
        except (TimeoutError, ConnectionError):
            # It takes nothing any more; what waits in the socket must not be waited for either.
            if request.transport is not None:
                request.transport.abort()
        return response


def event(record: Record) -> bytes:
    """Write a record as one event; its id is its place in the audit."""
    # JSON escapes line ends, so that nothing in a record can begin a line of the stream.
    text = json.dumps(record, separators=(",", ":"))
    return f"id: {record.get('chain')}:{record.get('seq')}\nevent: record\ndata: {text}\n\n".encode()


def _known(record: Record, shown: set[tuple[object, object]]) -> bool:
    return bool(shown) and (record.get("chain"), record.get("seq")) in shown


async def _next(viewer: Viewer) -> list[Record] | None:
    """Give what waits, perhaps nothing after a silence; None when nothing more comes."""
    if (viewer.lost or viewer.over) and viewer.waiting.empty():
        return None
    try:
        async with asyncio.timeout(STILL_THERE):
            first = await viewer.waiting.get()
    except TimeoutError:
        return []
    batch = [] if first is None else [first]
    while len(batch) < AT_ONCE and not viewer.waiting.empty():
        if (following := viewer.waiting.get_nowait()) is not None:
            batch.append(following)
    return batch


async def _write(response: web.StreamResponse, *events: bytes) -> None:
    async with asyncio.timeout(PATIENCE):
        await response.write(b"".join(events) or b": still here\n\n")


def _count(text: str) -> int:
    return min(int(text), MOST_RECENT) if text.isascii() and text.isdigit() and len(text) < 6 else 0
