"""The queue of messages that were acknowledged but not applied, until an administrator has looked at them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from gateway.simulator.siu import Order
from gateway.simulator.store import instant
from gateway.simulator.writes import Write

Decision = Literal["approve", "reject"]


@dataclass(frozen=True, slots=True)
class Held:
    """One message in the queue."""

    n: int
    time: datetime
    order: Order
    write: Write
    appointment: str | None  # None: of no appointment that is known
    reason: Literal["birth-date", "ordered"]

    def shown(self) -> dict[str, Any]:
        """As `GET /hl7-review` has it."""
        return {
            "n": self.n,
            "time": instant(self.time),
            "customer": self.order.owner.id,
            "trigger": self.order.trigger,
            "placer": self.order.placer,
            "appointment": self.appointment,
            "control_id": self.order.message.header.value(10),
            "reason": self.reason,
            "message": self.write.message,
        }


class Review:
    """The queue, and what was decided before: the same decision holds for later messages about the same appointment."""

    def __init__(self) -> None:
        self.waiting: dict[int, Held] = {}
        self._last = 0
        self._decided: dict[tuple[str, str], Decision] = {}

    def hold(
        self,
        order: Order,
        write: Write,
        appointment: str | None,
        at: datetime,
        reason: Literal["birth-date", "ordered"],
    ) -> None:
        """Put a message at the end."""
        self._last += 1
        self.waiting[self._last] = Held(self._last, at, order, write, appointment, reason)

    def decide(self, n: int, decision: Decision) -> Held:
        """Take a message out. Raises KeyError for a number that is not waiting."""
        held = self.waiting.pop(n)
        if held.reason == "birth-date":
            self._decided[held.order.owner.id, held.order.placer] = decision
        return held

    def decided(self, order: Order) -> Decision | None:
        """What was decided for this appointment's earlier mismatch, if anything."""
        return self._decided.get((order.owner.id, order.placer))
