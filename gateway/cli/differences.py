"""Differences between two grants files in words."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from gateway.cli import tables
from gateway.domain.comparison import Difference, Value
from gateway.domain.grant import Customer, Policy, Rate

_UNITS: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms"))
_EACH: Final[Mapping[str, str]] = {
    "operation": "{name}",
    "label": "the privacy label {name}",
    "field": "changing the field {name}",
    "reason": "cancelling for the reason {name}",
}
"""What is gained or lost."""
_SETTLED: Final[Mapping[str, str]] = {
    "notice": "must keep a notice of {after} instead of {before}",
    "within": "may move a start by {after} instead of {before}",
    "rate": "may ask {after} instead of {before}",
    "hl7_alias": "is known to PKB by the alias {after} instead of {before}",
    "specialties": "reaches {after} instead of {before}",
}
_UNSET: Final[Mapping[str, str]] = {
    "within": "any distance",
    "rate": "as often as its own rate allows",
    "hl7_alias": "none",
    "specialties": "every specialty",
}
_CUSTOMERS: Final[Mapping[str, str]] = {
    "source": "is {after} to PKB instead of {before}, so other appointments are its own",
    "route": "is reached by the route {after} instead of {before}",
    "organisation": "belongs to {after} instead of {before}",
}


def sentence(difference: Difference, old: Policy, new: Policy) -> str:
    """Tell one difference: "swiftbook loses cancel at Airedale from 2026-12-01"."""
    kind, name = difference.right.kind, difference.right.name
    if not difference.partner:
        told = _CUSTOMERS[kind].format(before=_value(kind, difference.before), after=_value(kind, difference.after))
        return f"{customer_name(difference.customer, old, new)} {told}"
    where = "" if difference.customer is None else f" at {customer_name(difference.customer, old, new)}"
    when = _when(difference, _zone(difference.customer, old, new))
    only = " (shadow only)" if difference.shadow else ""
    return f"{difference.partner} {_verb(difference, kind, name)}{where}{when}{only}"


def _verb(difference: Difference, kind: str, name: str) -> str:
    if kind in _EACH:
        return f"{'gains' if difference.after else 'loses'} {_EACH[kind].format(name=name)}"
    if kind == "suspended":
        return "is suspended" if difference.after else "is no longer suspended"
    if kind == "patient":
        return "must name the patient" if difference.after else "need no longer name the patient"
    return _SETTLED[kind].format(before=_value(kind, difference.before), after=_value(kind, difference.after))


def _when(difference: Difference, zone: ZoneInfo) -> str:
    since = f" from {tables.tell_time(difference.since, zone)}" if difference.since else ""
    until = f" until {tables.tell_time(difference.until, zone)}" if difference.until else ""
    return since + until


def as_json(difference: Difference, old: Policy, new: Policy) -> dict[str, Any]:
    """Give a difference for programs."""
    zone = _zone(difference.customer, old, new)
    kind = difference.right.kind
    return {
        "partner": difference.partner or None,
        "customer": difference.customer,
        "what": kind,
        "name": difference.right.name or None,
        "before": _json(difference.before),
        "after": _json(difference.after),
        "from": tables.tell_time(difference.since, zone) if difference.since else None,
        "until": tables.tell_time(difference.until, zone) if difference.until else None,
        "shadow": difference.shadow,
        "text": sentence(difference, old, new),
    }


def customer_name(id_: str | None, *policies: Policy) -> str:
    """Name a customer as people do; by its id where another one has the same name."""
    known = _customer(id_, *reversed(policies))
    if known is None:
        return str(id_)
    names = [each.name for each in policies[-1].customers.values()]
    return known.name if names.count(known.name) <= 1 else known.id


def _customer(id_: str | None, *policies: Policy) -> Customer | None:
    return next((policy.customers[id_] for policy in policies if id_ is not None and id_ in policy.customers), None)


def _zone(id_: str | None, old: Policy, new: Policy) -> ZoneInfo:
    known = _customer(id_, new, old)
    return known.time_zone if known else ZoneInfo("Europe/London")


def _value(kind: str, value: Value) -> str:
    return _UNSET.get(kind, "none") if value is None else str(_json(value))


def _json(value: Value) -> bool | str | None:
    match value:
        case timedelta():
            return tell_duration(value)
        case Rate():
            return tell_rate(value)
        case _:
            return value


def tell_duration(length: timedelta) -> str:
    """Write a duration as the grants file does; three days as 72h, as notices are thought of."""
    amount = round(length / timedelta(milliseconds=1))
    if amount and amount % 86_400_000 == 0 and amount <= 7 * 86_400_000:
        return f"{amount // 3_600_000}h"
    return next((f"{amount // each}{unit}" for each, unit in _UNITS if amount and amount % each == 0), "0s")


def tell_rate(rate: Rate) -> str:
    """Write a rate as the grants file does."""
    return f"{rate.requests}/{ {1: 's', 60: 'min', 3600: 'h'}.get(rate.seconds, f'{rate.seconds}s') }"
