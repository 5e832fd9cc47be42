"""All ways to PKB as one: the route of the customer chooses."""

from collections.abc import Mapping
from typing import Protocol

from gateway.domain.appointment import Write
from gateway.domain.codes import Code
from gateway.domain.grant import Customer
from gateway.domain.search import Query, Reach
from gateway.flow.ports import NotSent, Sender, Sighting, Upstream, UpstreamFault, WriteAnswer
from gateway.flow.search import Finder, Page, Place
from gateway.pkb.breaker import PATIENCE_SECONDS, BreakerState, Bulkhead, Overloaded


class RouteUpstream(Upstream, Finder, Protocol):
    """The upstream of one route."""

    @property
    def state(self) -> BreakerState:
        """Whether requests get through to PKB."""
        ...

    async def close(self) -> None:
        """Stop what runs in the background."""
        ...


class Upstreams:
    """The upstream of every route, and the bulkhead that keeps one customer from taking all of the gateway."""

    def __init__(
        self, routes: Mapping[str, RouteUpstream], per_customer: int, patience: float = PATIENCE_SECONDS
    ) -> None:
        """`routes` by name; `per_customer` requests may be under way for one customer, others wait for `patience`."""
        self._routes = dict(routes)
        self._bulkhead = Bulkhead(per_customer, patience)

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
        route = self._routes.get(customer.route.name)
        if route is None:
            raise UpstreamFault(Code.UPSTREAM_UNAVAILABLE, "no such route")
        try:
            async with self._bulkhead.place(customer.id):
                return await route.read(customer, appointment, deadline, fresh=fresh)
        except Overloaded as error:
            raise UpstreamFault(Code.OVERLOADED, "too many requests for this customer") from error

    async def search(self, customer: Customer, query: Query, reach: Reach, place: Place, deadline: float) -> Page:
        """Search by the customer's route; see the port. Raises UpstreamFault, `overloaded` included."""
        route = self._routes.get(customer.route.name)
        if route is None:
            raise UpstreamFault(Code.UPSTREAM_UNAVAILABLE, "no such route")
        try:
            async with self._bulkhead.place(customer.id):
                return await route.search(customer, query, reach, place, deadline)
        except Overloaded as error:
            raise UpstreamFault(Code.OVERLOADED, "too many requests for this customer") from error

    async def write(
        self, customer: Customer, command: Write, sighting: Sighting, deadline: float, *, sender: Sender
    ) -> WriteAnswer:
        """Write by the customer's route; see the port."""
        route = self._routes.get(customer.route.name)
        if route is None:
            return NotSent("no such route")
        try:
            async with self._bulkhead.place(customer.id):
                return await route.write(customer, command, sighting, deadline, sender=sender)
        except Overloaded:
            return NotSent("too many requests for this customer")

    async def close(self) -> None:
        """Close every route."""
        for route in self._routes.values():
            await route.close()
