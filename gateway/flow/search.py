"""The story of a search: PKB's pages are read on until one page of what the partner may see is full."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from gateway.domain.appointment import NHS_NUMBER_SYSTEM
from gateway.domain.codes import Code
from gateway.domain.decision import Check, Permit, Refusal
from gateway.domain.grant import Customer, Operation, Policy
from gateway.domain.rules import admit
from gateway.domain.search import Hit, Query, Reach, judge, narrow
from gateway.flow import records
from gateway.flow.ports import Journal, UpstreamFault
from gateway.flow.request import Caller, Refused, milliseconds_since, same_route
from gateway.flow.watching import Stage, StageObserver, unwatched

PAGES: Final = 8
"""How many of PKB's pages one request reads at most; beyond, its own page may be short and have a next one."""
LAST_PAGE: Final = 400
"""A PKB that has still more pages than this never ends."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in PKB's list of hits to go on: page, from 1, and how many of its hits are done."""

    page: int = 1
    offset: int = 0


BEGINNING: Final = Place()


@dataclass(frozen=True, slots=True)
class Page:
    """One page of PKB's hits from the asked place on."""

    hits: tuple[Hit | None, ...]
    """None for what is not asked for, no appointment, or cannot be understood: nothing of it is shown."""
    more: bool
    """Whether PKB has another page."""
    unreadable: int = 0
    """How many could not be understood."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the partner is shown, and where the next page begins, if there is one."""

    hits: tuple[Hit, ...]
    following: Place | None
    digest: str
    """Of the grants under which every hit was judged."""


class Finder(Protocol):
    """The edge towards PKB, as far as a search needs it."""

    async def search(self, customer: Customer, query: Query, reach: Reach, place: Place, deadline: float) -> Page:
        """Give the hits of one page from a place on; `deadline` is a time of the event loop. Raises UpstreamFault."""
        ...


@dataclass(frozen=True, slots=True)
class _Gathered:
    hits: tuple[Hit, ...]
    following: Place | None
    unreadable: int


@dataclass(frozen=True, slots=True)
class Searches:
    """Shows every appointment that is asked for and that a read would show; the record is durable before that."""

    policy: Callable[[], Policy]
    upstream: Finder
    journal: Journal
    veil: records.Veil
    clock: Callable[[], datetime]
    stages: StageObserver = unwatched

    async def find(
        self, caller: Caller, customer: Customer, permit: Permit, query: Query, place: Place = BEGINNING
    ) -> Found | Refused:
        """Search from a place on. Raises JournalUnavailable."""
        reach = narrow(customer, permit.grant, self.policy())
        try:
            gathered = await self._gather(caller, customer, query, reach, place)
        except UpstreamFault as fault:
            told = records.failed(fault.code, self.clock(), fault.status)
            await self._record(caller, self.policy(), {**told, "patient": self._patient(customer, query, ())})
            return Refused(fault.code)
        began = time.perf_counter()
        policy, now = self.policy(), self.clock()
        decision = admit(caller.who, frozenset({Operation.READ}), policy, now)
        if isinstance(decision, Refusal):
            told = {**records.refused(decision, now), "patient": self._patient(customer, query, ())}
            await self._record(caller, policy, told)
            return Refused(decision.code, decision.detail)
        # Once more, now that nothing is waited for: a grant may have changed while PKB was read.
        shows = judge(caller.who, query, policy, now)
        hits = tuple(hit for hit in gathered.hits if shows(hit)) if same_route(customer, policy) else ()
        self.stages(Stage.DECIDE, time.perf_counter() - began)
        readable = Check("hits-readable", passed=gathered.unreadable == 0)
        seen = replace(decision, checks=(*decision.checks, readable))
        told = {"event": "search", **records.decided(seen, now), "patient": self._patient(customer, query, hits)}
        await self._record(caller, policy, told)
        return Found(hits, gathered.following, policy.digest)

    async def _gather(self, caller: Caller, customer: Customer, query: Query, reach: Reach, place: Place) -> _Gathered:
        """Look for one hit more than is shown: a next page is promised only where there is something on it.

        Otherwise the promise would tell of hits that the partner may not see.
        """
        found: list[tuple[Hit, Place]] = []
        seen: set[str] = set()
        unreadable = 0
        for _ in range(PAGES):
            if place.page > LAST_PAGE:
                raise UpstreamFault(Code.UPSTREAM_INVALID, "the pages have no end", 200)
            page = await self._page(caller, customer, query, reach, place)
            unreadable += page.unreadable
            shows = judge(caller.who, query, self.policy(), self.clock())
            for offset, hit in enumerate(page.hits, place.offset):
                if hit is not None and hit.appointment.id not in seen and shows(hit):
                    seen.add(hit.appointment.id)
                    found.append((hit, Place(place.page, offset)))
            if len(found) > query.count or not page.more:
                break
            place = Place(place.page + 1)
        else:
            return _Gathered(tuple(hit for hit, _ in found), place, unreadable)
        following = found[query.count][1] if len(found) > query.count else None
        return _Gathered(tuple(hit for hit, _ in found[: query.count]), following, unreadable)

    async def _page(self, caller: Caller, customer: Customer, query: Query, reach: Reach, place: Place) -> Page:
        began = time.perf_counter()
        try:
            return await self.upstream.search(customer, query, reach, place, caller.deadline)
        finally:
            self.stages(Stage.READ, time.perf_counter() - began)

    def _patient(self, customer: Customer, query: Query, hits: tuple[Hit, ...]) -> str | None:
        """Name the patient searched for under the veil, or the one patient of all that was shown."""
        if query.patient is not None and query.patient.system == NHS_NUMBER_SYSTEM:
            return self.veil.patient(query.patient.code, customer.route.name, "")
        named = {records.patient_of(hit.appointment, customer, self.veil) for hit in hits}
        return next(iter(named)) if len(named) == 1 else None

    async def _record(self, caller: Caller, policy: Policy, told: records.Record) -> None:
        about = records.about(caller, policy, Operation.READ, None)
        await self.journal.write({**about, **told, "duration_ms": milliseconds_since(caller.received)})
