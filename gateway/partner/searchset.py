"""A search of a proven partner, from its parameters to the FHIR R4 Bundle it gets."""

from dataclasses import replace
from typing import Final, assert_never

from aiohttp import web

from gateway.domain.codes import Code
from gateway.domain.search import Query
from gateway.flow.gate import Admitted
from gateway.flow.request import Caller, Refused
from gateway.flow.search import BEGINNING, Found
from gateway.partner.answers import FHIR_JSON, Headers, as_bytes
from gateway.partner.cursors import Bound, Cursor
from gateway.partner.desk import Desk, Stop
from gateway.partner.search import Pairs, read_search
from gateway.partner.wire import Misfit

STALE: Final = "_cursor is not one of yours that still counts: it is good for ten minutes, under the same grants."


async def search(desk: Desk, caller: Caller, entered: Admitted, pairs: Pairs) -> bytes | Refused:
    """Search, and tell a page of hits. Raises Stop for parameters that cannot be used, and JournalUnavailable."""
    bound = Bound(caller.partner, caller.customer, desk.policy().digest)
    asked = read_search(pairs, entered.customer.time_zone)
    match asked:
        case Misfit(code=code, detail=detail):
            raise Stop(code, detail)
        case Query():
            cursor = Cursor(asked, BEGINNING)
        case str():
            opened = desk.cursors.open(asked, bound, desk.clock())
            if opened is None:
                raise Stop(Code.INVALID_PARAMETER, STALE)
            cursor = opened
        case unexpected:
            assert_never(unexpected)
    found = await desk.searches.find(caller, entered.customer, entered.permit, cursor.query, cursor.place)
    if isinstance(found, Refused):
        return found
    base, now = f"{desk.answers.public_url}/{caller.customer}/fhir", desk.clock()
    bound = replace(bound, digest=found.digest)
    here = desk.cursors.seal(cursor, bound, now)
    if found.following is None:
        return searchset(base, found, here, None)
    return searchset(base, found, here, desk.cursors.seal(Cursor(cursor.query, found.following), bound, now))


def searchset(base: str, found: Found, here: str, following: str | None) -> bytes:
    """Tell one page as a Bundle of type searchset; `base` is the customer's FHIR address at this gateway.

    Both links are cursors, this page's own too: what was searched for must not stand in an address that is kept.
    There is no `total`, which would count what is not shown.
    """
    links = [{"relation": "self", "url": f"{base}/Appointment?_cursor={here}"}]
    if following is not None:
        links.append({"relation": "next", "url": f"{base}/Appointment?_cursor={following}"})
    head = as_bytes({"resourceType": "Bundle", "type": "searchset", "link": links})
    # The resources go in as bytes: their numbers stay as PKB wrote them. FHIR has no empty arrays.
    entries = [
        b'{"fullUrl":"%b/Appointment/%b","resource":%b,"search":{"mode":"match"}}'
        % (base.encode(), hit.appointment.id.encode(), hit.body)
        for hit in found.hits
    ]
    return b'%b,"entry":[%b]}' % (head[:-1], b",".join(entries)) if entries else head


def bundle(body: bytes, quotas: Headers) -> web.Response:
    """Answer with a page of hits."""
    return web.Response(body=body, headers={**quotas, "Content-Type": f"{FHIR_JSON}; charset=utf-8"})
