"""Gauges whose needles stand still."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from gateway.admin.gauges import Gauges
from gateway.admin.metrics import Metrics
from gateway.flow.watching import Stage

BY_LABEL: Mapping[str, Mapping[str, float]] = {
    "intents": {"accepted": 0.0},
    "oldest_intent": {"accepted": 0.0},
    "breakers": {"airedale-box": 0.0},
    "degraded": {"grants": 0.0},
}


def still(**readings: float | Mapping[str, float]) -> Gauges:
    """Gauges that read what is given, and 0 otherwise."""

    def reading(name: str) -> Any:
        return lambda: readings.get(name, BY_LABEL.get(name, 0.0))

    return Gauges(**{each.name: reading(each.name) for each in fields(Gauges)})


def every_metric() -> Metrics:
    """Metrics in which every one has at least one series."""
    metrics = Metrics()
    metrics.read(still())
    metrics.observe("read", 200, "", 0.1)
    metrics.stage(Stage.READ, 0.1)
    metrics.decided("read", "permit", "")
    metrics.ended("cancel", "applied", final=True)
    metrics.shed("turnstile")
    metrics.alarm("x")
    metrics.reloaded("loaded")
    metrics.exchanged("airedale-box", "read", "ok", 0.1)
    metrics.committed(0.001, 3)
    metrics.replaced()
    return metrics
