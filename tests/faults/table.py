"""The table: every step of a write, every fault that can happen there, both routes, both stores."""

from dataclasses import dataclass
from typing import Any, Final

from tests.faults.build import STEPS

OUTCOME_STEPS: Final = ("doubt recorded", "doubt filed")


@dataclass(frozen=True)
class Cell:
    """One fault at one step, or one thing that PKB does, on one route and one store."""

    fault: str
    step: str
    route: str
    store: str
    pkb: tuple[tuple[str, Any], ...] = ()
    """What PKB does besides: arguments of a fault of the simulator."""

    @property
    def name(self) -> str:
        return f"{self.fault} | {self.step} | {self.route} | {self.store}"


def box(kind: str, value: Any = None, on: str = "write", count: int = 1) -> tuple[tuple[str, Any], ...]:
    return (("target", "box"), ("kind", kind), ("value", value), ("on", on), ("count", count))


def hl7(kind: str, value: Any = None) -> tuple[tuple[str, Any], ...]:
    return (("target", "hl7"), ("kind", kind), ("value", value), ("on", "any"), ("count", 1))


def aggregated(kind: str, value: Any = None, count: int = 1) -> tuple[tuple[str, Any], ...]:
    return (("target", "aggregated"), ("kind", kind), ("value", value), ("on", "any"), ("count", count))


SLOW: Final = 700
"""Milliseconds that PKB takes over a write which is to be met on the wire."""

PKB_FAULTS: Final = {
    "customer-fhir": {
        "PKB drops a write unread": box("drop-before"),
        "PKB drops a write done": box("drop-after"),
        "PKB answers 500": box("status", 500),
        "PKB answers 409": box("status", 409),
        "PKB answers 403": box("status", 403),
        "PKB answers junk, done": box("garbage", "applied"),
        "PKB answers junk, not done": box("garbage", "not-applied"),
        "PKB answers too late": box("delay", 4000),
        "PKB cannot be read": box("status", 503, "read", 3),
    },
    "hl7": {
        "PKB drops a message unread": hl7("drop-before"),
        "PKB drops a message done": hl7("drop-after"),
        "PKB answers 500": hl7("status", 500),
        "PKB acknowledges AR": hl7("ack", "AR"),
        "PKB acknowledges AE": hl7("ack", "AE"),
        "PKB acknowledges another": hl7("ack", "wrong-id"),
        "PKB answers junk, done": hl7("garbage", "applied"),
        "PKB answers too late": hl7("delay", 4000),
        "PKB shows it late": aggregated("lag", 2000, 0),
        "PKB cannot be read": aggregated("status", 503, 3),
    },
}
DOUBT: Final = {"customer-fhir": box("drop-after"), "hl7": hl7("drop-after")}
TAKES_LONG: Final = {"customer-fhir": box("delay", SLOW), "hl7": hl7("delay", SLOW)}
ROUTES: Final = ("customer-fhir", "hl7")


def faults_of(store: str) -> tuple[str, ...]:
    return ("kill", "stall", "store", "disk", *(("database",) if store == "postgresql" else ()))


def can_happen(fault: str, step: str) -> bool:
    """A disk does not fill up where nothing more is written; a process that answered is not stalled by a write."""
    if step == "end confirmed":
        return fault in {"kill", "store"}
    return not (fault == "disk" and step in {"end recorded", "about to answer"})


def table(stores: tuple[str, ...]) -> list[Cell]:
    """Every cell there is."""
    cells: list[Cell] = []
    for store in stores:
        for route in ROUTES:
            for step in STEPS:
                cells += [
                    Cell(fault, step, route, store, _meanwhile(step, route))
                    for fault in faults_of(store)
                    if can_happen(fault, step)
                ]
            cells += [Cell(name, "at PKB", route, store, told) for name, told in PKB_FAULTS[route].items()]
            cells += [
                Cell(name, step, route, store)
                for name, step in (
                    ("revoked", "held"),
                    ("revoked", "after the answer"),
                    ("relabelled", "after the answer"),
                    ("two nodes at once", "same key"),
                    ("two nodes at once", "other key"),
                )
            ]
    return cells


def _meanwhile(step: str, route: str) -> tuple[tuple[str, Any], ...]:
    if step in OUTCOME_STEPS:
        # A read-back that fails, too, would be needed to leave a done write in doubt; one that never arrived is.
        return box("drop-before") if route == "customer-fhir" else hl7("drop-before")
    return TAKES_LONG[route] if step == "on the wire" else ()
