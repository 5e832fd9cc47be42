"""All ways to PKB as one: the route of the customer chooses."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Protocol, TypeVar

from gateway.domain.appointment import Write
from gateway.domain.codes import Code
from gateway.domain.grant import Customer
from gateway.domain.search import Query, Reach
from gateway.flow.ports import Doubt, NotSent, Sender, Sighting, Upstream, UpstreamFault, WriteAnswer
from gateway.flow.search import Finder, Page, Place
from gateway.pkb.breaker import PATIENCE_SECONDS, BreakerState, Bulkhead, Overloaded

Found = TypeVar("Found")


class RouteUpstream(Upstream, Finder, Protocol):
    """The upstream of one route."""

    @property
    def state(self) -> BreakerState:
        """Whether requests get through to PKB."""
        ...

    async def close(self) -> None:
        """Stop what runs in the background."""
        ...


class Tell(Protocol):
    """Hears why PKB was not read, or a write not sent or left in doubt."""

    def __call__(self, what: str, /, *, route: str, reason: str, status: int | str | None) -> None:
        """Say what happened; `reason` is in the gateway's own words, never in PKB's."""
        ...


def _tell_nobody(what: str, /, *, route: str, reason: str, status: int | str | None) -> None:
    del what, route, reason, status


class Upstreams:
    """The upstream of every route, and the bulkhead that keeps one customer from taking all of the gateway."""

    def __init__(
        self,
        routes: Mapping[str, RouteUpstream],
        per_customer: int,
        patience: float = PATIENCE_SECONDS,
        tell: Tell = _tell_nobody,
        shed: Callable[[], None] = lambda: None,
    ) -> None:
        """`routes` by name; `per_customer` requests may be under way for one customer, others wait for `patience`.

        `shed` is called for each that waited in vain.
        """
        self._routes = dict(routes)
        self._bulkhead = Bulkhead(per_customer, patience)
        self._tell = tell
        self._shed = shed

    @property
    def states(self) -> dict[str, BreakerState]:
        """The breaker of each route, for metrics and the console."""
        return {name: route.state for name, route in self._routes.items()}

    @property
    def under_way(self) -> dict[str, int]:
        """Requests under way per customer, for metrics."""
        return self._bulkhead.under_way

    async def read(self, customer: Customer, appointment: str, deadline: float, *, fresh: bool) -> Sighting | None:
        """Read by the customer's route; see the port. Raises UpstreamFault, `overloaded` included."""
        return await self._in_place(
            customer, "not read", lambda route: route.read(customer, appointment, deadline, fresh=fresh)
        )

    async def search(self, customer: Customer, query: Query, reach: Reach, place: Place, deadline: float) -> Page:
        """Search by the customer's route; see the port. Raises UpstreamFault, `overloaded` included."""
        return await self._in_place(
            customer, "not searched", lambda route: route.search(customer, query, reach, place, deadline)
        )

    async def write(
        self, customer: Customer, command: Write, sighting: Sighting, deadline: float, *, sender: Sender
    ) -> WriteAnswer:
        """Write by the customer's route; see the port."""
        answer = await self._write(customer, command, sighting, deadline, sender)
        match answer:
            case NotSent(reason=reason):
                self._say("not sent", customer, reason, None)
            case Doubt(reason=reason, status=status):
                self._say("in doubt", customer, reason, status)
            case _:
                pass
        return answer

    async def _write(
        self, customer: Customer, command: Write, sighting: Sighting, deadline: float, sender: Sender
    ) -> WriteAnswer:
        route = self._routes.get(customer.route.name)
        if route is None:
            return NotSent("no such route")
        try:
            async with self._bulkhead.place(customer.id):
                return await route.write(customer, command, sighting, deadline, sender=sender)
        except Overloaded:
            self._shed()
            return NotSent("too many requests for this customer")

    async def _in_place(
        self, customer: Customer, what: str, look: Callable[[RouteUpstream], Awaitable[Found]]
    ) -> Found:
        route = self._routes.get(customer.route.name)
        try:
            if route is None:
                raise UpstreamFault(Code.UPSTREAM_UNAVAILABLE, "no such route")
            async with self._bulkhead.place(customer.id):
                return await look(route)
        except Overloaded as error:
            self._shed()
            # The partner is told; a line for each would only add to the load.
            raise UpstreamFault(Code.OVERLOADED, "too many requests for this customer") from error
        except UpstreamFault as fault:
            self._say(what, customer, fault.reason, fault.status)
            raise

    def _say(self, what: str, customer: Customer, reason: str, status: int | str | None) -> None:
        # What is known of a write must not get lost because it could not be told.
        with suppress(Exception):
            self._tell(what, route=customer.route.name, reason=reason, status=status)

    async def close(self) -> None:
        """Close every route."""
        for route in self._routes.values():
            await route.close()
