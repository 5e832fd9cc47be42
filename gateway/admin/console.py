"""The pages of the console that show something; what changes something is in `deeds`."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from aiohttp import web

from gateway.admin.access import OPERATOR, Access
from gateway.admin.charts import HEIGHT, WIDTH, chart
from gateway.admin.dossier import dossier
from gateway.admin.feed import FILTERS, Filter, Record
from gateway.admin.matrix import STATES, matrix
from gateway.admin.pages import Pages
from gateway.admin.ring import SLOTS, SPAN, Heard
from gateway.admin.sources import Blocked, Missing, Sources
from gateway.admin.words import EVENTS, advice
from gateway.domain.codes import Code
from gateway.domain.grant import Operation
from gateway.flow.store import Filed
from gateway.flow.tasks import outline

SHOWN: Final = 50
"""Records on the page of live decisions to begin with."""
GRANTS_NEWS: Final = 20
ID: Final = re.compile(r"[A-Za-z0-9._:\-]{1,64}")
"""How request ids and Task ids are spelled."""

_QUIET: Final = frozenset({"checkpoint", "start", "stop"})
_GRANTS_NEWS: Final = Filter({"event": frozenset({"grants-loaded", "grants-refused"})})


@dataclass(frozen=True, slots=True)
class Console:
    """The pages."""

    sources: Sources
    access: Access
    pages: Pages

    def routes(self) -> list[web.RouteDef]:
        """List the pages."""
        return [
            web.get("/", self.overview),
            web.get("/live", self.live),
            web.get("/outcomes", self.outcomes),
            web.get("/upstreams", self.upstreams),
            web.get("/grants", self.grants),
            web.get("/blocks", self.blocks),
            web.get("/requests", self.requests),
        ]

    async def overview(self, request: web.Request) -> web.Response:
        """Who may do what, and whether anything needs a look."""
        query = request.query
        customer, partner = query.get("customer", "").strip(), query.get("partner", "").strip()
        now, policy = self.sources.clock(), self.sources.policy()
        grid = await asyncio.to_thread(matrix, policy, now, customer, partner, _number(query.get("page", "1")))
        open_ = await self._open_writes()
        states = self.sources.breakers()
        values = {
            "matrix": grid,
            "states": STATES,
            "customer": customer,
            "partner": partner,
            "open": open_,
            "unknown": [each for each in open_ or () if each.task.outcome == "unknown"],
            "troubled": sorted(route for route, state in states.items() if state != "closed"),
            "routes": len(states),
            "grants": self.sources.grants_file(),
            "blocked": len(policy.blocks),
        }
        return await self.show(request, "overview.html", values)

    async def live(self, request: web.Request) -> web.Response:
        """What is decided now; newer records come by themselves where scripts run."""
        wanted = Filter.read(request.query)
        # Signatures and the like are shown only where they are asked for.
        heard = wanted if "event" in wanted.fields else replace(wanted, quiet=_QUIET)
        trouble, records = await self._recent(heard, SHOWN)
        values = {
            "records": [_line(each) for each in reversed(records)],
            "trouble": trouble,
            "filters": {name: ", ".join(sorted(wanted.fields.get(name, ()))) for name in FILTERS},
            "choices": {
                "operation": [each.value for each in Operation],
                "decision": ["permit", "refuse"],
                "event": sorted(EVENTS),
                "code": sorted([*(each.value for each in Code), "patient-mismatch"]),
                "partner": sorted(self.sources.policy().partners)[:500],
                "customer": sorted(self.sources.policy().customers)[:500],
            },
            "query": request.query_string,
        }
        return await self.show(request, "live.html", values)

    async def outcomes(self, request: web.Request) -> web.Response:
        """Writes whose end is not known."""
        found = await self._open_writes()
        now = self.sources.clock()
        rows = None if found is None else [write_values(each, now) for each in found]
        return await self.show(request, "outcomes.html", {"writes": rows, "done": self._done(request)})

    async def upstreams(self, request: web.Request) -> web.Response:
        """How PKB answers, route by route."""
        states = self.sources.breakers()
        ring = self.sources.ring
        routes = [
            {
                "name": name,
                "state": state,
                "heard": ring.routes.get(name) or Heard(),
                "chart": await asyncio.to_thread(chart, ring.slots(name)),
            }
            for name, state in sorted(states.items())
        ]
        values = {
            "routes": routes,
            "minutes": SLOTS * SPAN // 60,
            "width": WIDTH,
            "height": HEIGHT,
            "slot": SPAN,
            "speaker": self.sources.speaker,
        }
        return await self.show(request, "upstreams.html", values)

    async def grants(self, request: web.Request) -> web.Response:
        """How the grants file stands."""
        _, news = await self._recent(_GRANTS_NEWS, GRANTS_NEWS)
        policy = self.sources.policy()
        values = {
            "file": self.sources.grants_file(),
            "news": [_line(each) for each in reversed(news)],
            "counts": (len(policy.partners), len(policy.customers), len(policy.grants)),
        }
        return await self.show(request, "grants.html", values)

    async def blocks(self, request: web.Request) -> web.Response:
        """Who is shut out whatever the grants file says."""
        found: Sequence[Blocked] | None
        try:
            found = await self.sources.blocks()
        except Missing:
            found = None
        policy = self.sources.policy()
        values = {
            "blocked": found,
            "partners": sorted(policy.partners),
            "customers": sorted(policy.customers),
            "done": self._done(request),
        }
        return await self.show(request, "blocks.html", values)

    async def requests(self, request: web.Request) -> web.Response:
        """What became of one request, or of one write."""
        # Who copies a whole line of headers has pasted the name as well.
        asked = request.query.get("id", "").strip().rpartition(" ")[2]
        values: dict[str, Any] = {"asked": asked[:100], "found": None, "view": None, "trouble": ""}
        if ID.fullmatch(asked) is None:
            if asked:
                values["trouble"] = "That is no id of a request or of a Task: both are letters, digits and hyphens."
            return await self.show(request, "requests.html", values, 400 if asked else 200)
        after = request.query.get("after", "")
        try:
            found = await self.sources.audit.find(asked, after if ID.fullmatch(after) else "")
        except Missing as missing:
            values["trouble"] = str(missing)
            return await self.show(request, "requests.html", values, 503)
        values |= {"found": found, "view": dossier(found.records)}
        return await self.show(request, "requests.html", values, 200 if found.records else 404)

    async def show(
        self, request: web.Request, template: str, values: Mapping[str, Any], status: int = 200
    ) -> web.Response:
        """Make a page with what every page has."""
        common = {
            "path": request.path,
            "operator": request.get(OPERATOR, ""),
            "operators": bool(self.access.sessions.operators),
            "now": self.sources.clock(),
            "version": self.sources.version,
            "speaker": self.sources.speaker,
            "asked": "",
        }
        return await self.pages.page(template, {**common, **values}, status)

    def _done(self, request: web.Request) -> str:
        """Tell what was done just now, in words that only this console can have put into the link."""
        words, mark = request.query.get("done", ""), request.query.get("mark", "")
        return words if self.access.sessions.vouched(words, mark) else ""

    async def _open_writes(self) -> Sequence[Filed] | None:
        try:
            return await self.sources.open_writes()
        except Missing:
            return None

    async def _recent(self, wanted: Filter, count: int) -> tuple[str, Sequence[Record]]:
        try:
            return "", await self.sources.audit.recent(wanted, count)
        except Missing as missing:
            return str(missing), ()


def write_values(filed: Filed, now: datetime) -> dict[str, Any]:
    """Tell of an open write what a person needs to find it at PKB."""
    task = filed.task
    return {
        **outline(task),
        "outcome": task.outcome or "not known yet",
        "age": now - task.requested,
        "requested": task.requested,
    }


def _line(record: Record) -> dict[str, Any]:
    """Give the columns of the table of records, as `live.js` does."""
    names = ("time", "event", "partner", "customer", "operation", "appointment", "decision", "code", "outcome")
    line = {
        name: record.get(name) or "" for name in (*names, "request_id", "grants_digest", "chain", "seq", "operator")
    }
    return {**line, "words": EVENTS.get(str(line["event"]), ""), "advice": advice(str(line["code"]))}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1
