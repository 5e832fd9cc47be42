"""Who may do what: customers by partners, as far as they fit a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from gateway.domain.grant import Customer, CustomerKind, Grant, Operation, Partner, Policy, Rate

CUSTOMERS: Final = 25
PARTNERS: Final = 12
"""Rows and columns of one page."""
ENDS_SOON: Final = timedelta(days=30)

STATES: Final[Mapping[str, str]] = {
    "in-force": "In force",
    "ends-soon": "Ends soon",
    "not-yet": "Not begun",
    "ended": "Ended",
    "suspended": "Suspended",
    "blocked": "Blocked",
    "shadow": "Shadow",
}


@dataclass(frozen=True, slots=True)
class GrantView:
    """One grant as it stands now."""

    id: str
    state: str
    """One of STATES."""
    operations: tuple[str, ...]
    days: str
    bounds: tuple[tuple[str, str], ...]

    @property
    def state_word(self) -> str:
        """The state, for people."""
        return STATES[self.state]


@dataclass(frozen=True, slots=True)
class Column:
    """A partner."""

    id: str
    name: str
    note: str
    """Suspended, or blocked everywhere."""


@dataclass(frozen=True, slots=True)
class Row:
    """A customer and, for each partner, the grants it has given."""

    id: str
    name: str
    kind: str
    cells: tuple[tuple[GrantView, ...], ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """One page of the matrix."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    page: int
    pages: int
    customers: int
    """All that fit what was asked for."""
    left_out: int
    """Partners that found no room."""


def matrix(policy: Policy, now: datetime, customer: str = "", partner: str = "", page: int = 1) -> Matrix:
    """Lay out the grants of the customers and partners whose id or name holds these words."""
    found = [each for each in policy.customers.values() if _fits(customer, each.id, each.name)]
    found.sort(key=lambda each: (each.organisation or each.id, each.kind is CustomerKind.TEAM, each.id))
    pages = max(1, -(-len(found) // CUSTOMERS))
    page = min(max(page, 1), pages)
    shown = found[(page - 1) * CUSTOMERS : page * CUSTOMERS]
    everyone = [each for each in policy.partners.values() if _fits(partner, each.id, each.name)]
    # Who has a grant at one of these customers comes first; the others only where there is room.
    busy = {grant.partner for each in shown for grant in _of_customer(policy, each, everyone)}
    everyone.sort(key=lambda each: (each.id not in busy, each.id))
    columns = sorted(everyone[:PARTNERS], key=lambda each: each.id)
    rows = [
        Row(
            each.id,
            each.name,
            each.kind.value if each.organisation is None else f"team of {each.organisation}",
            tuple(_cell(policy, each, one, now) for one in columns),
        )
        for each in shown
    ]
    heads = tuple(Column(one.id, one.name, _note(policy, one)) for one in columns)
    return Matrix(heads, tuple(rows), page, pages, len(found), len(everyone) - len(columns))


def _fits(words: str, *texts: str) -> bool:
    return words.casefold() in " ".join(texts).casefold()


def _of_customer(policy: Policy, customer: Customer, partners: Sequence[Partner]) -> Sequence[Grant]:
    return [grant for one in partners for grant in _all(policy, customer.id, one.id)]


def _all(policy: Policy, customer: str, partner: str) -> Sequence[Grant]:
    return (*policy.held(customer, partner), *policy.shadows(customer, partner))


def _cell(policy: Policy, customer: Customer, partner: Partner, now: datetime) -> tuple[GrantView, ...]:
    return tuple(_view(policy, grant, customer, now) for grant in _all(policy, customer.id, partner.id))


def _view(policy: Policy, grant: Grant, customer: Customer, now: datetime) -> GrantView:
    operations = tuple(each.value for each in Operation if each in grant.operations)
    return GrantView(grant.id, _state(policy, grant, now), operations, _days(grant, now), _bounds(grant, customer))


def _note(policy: Policy, partner: Partner) -> str:
    if policy.blocked(partner.id):
        return "blocked"
    return "suspended" if partner.suspended else ""


def _state(policy: Policy, grant: Grant, now: datetime) -> str:
    if now >= grant.valid_until:
        return "ended"
    if policy.blocked(grant.partner) or policy.blocked(grant.partner, grant.customer):
        return "blocked"
    if policy.partners[grant.partner].suspended:
        return "suspended"
    if grant.shadow:
        return "shadow"
    if now < grant.valid_from:
        return "not-yet"
    return "ends-soon" if grant.valid_until - now <= ENDS_SOON else "in-force"


def _days(grant: Grant, now: datetime) -> str:
    if now >= grant.valid_until:
        return f"ended {_counted((now - grant.valid_until).days)} ago"
    if now < grant.valid_from:
        return f"begins in {_counted((grant.valid_from - now).days)}"
    return f"{_counted((grant.valid_until - now).days)} left"


def _counted(days: int) -> str:
    return "1 day" if days == 1 else f"{days} days"


def _bounds(grant: Grant, customer: Customer) -> tuple[tuple[str, str], ...]:
    specialties = grant.specialties
    writes = grant.operations - {Operation.READ}
    told = [
        ("From", _moment(grant.valid_from, customer.time_zone)),
        ("Until", f"{_moment(grant.valid_until, customer.time_zone)} (no longer on that day)"),
        ("Privacy labels", ", ".join(sorted(grant.privacy_labels)) or "none"),
        ("Specialties", "all" if specialties is None else ", ".join(sorted(each.code for each in specialties))),
        ("Patient's number and birth date", "required" if grant.patient_required else "checked where given"),
    ]
    if writes:
        told.append(("Notice", span(grant.notice) if grant.notice else "none"))
    if Operation.CHANGE in writes:
        told.append(("Fields", ", ".join(sorted(each.value for each in grant.change_fields)) or "none"))
        told.append(("Move at most", span(grant.within) if grant.within else "any distance"))
    if Operation.CANCEL in writes:
        reasons = grant.cancel_reasons
        told.append(("Reasons", "any of FHIR's" if reasons is None else ", ".join(sorted(reasons))))
    if grant.rate is not None:
        told.append(("Rate", rate(grant.rate)))
    if grant.hl7_alias is not None:
        told.append(("HL7 alias", grant.hl7_alias))
    if grant.shadow:
        told.append(("Shadow", "decided and recorded, never in force"))
    if grant.approved_by:
        told.append(("Approved by", grant.approved_by))
    return tuple(told)


def _moment(at: datetime, zone: ZoneInfo) -> str:
    local = at.astimezone(zone)
    if local.timetz().replace(tzinfo=None) == time():
        return str(local.date())
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def rate(of: Rate) -> str:
    """Write a rate."""
    return f"{of.requests} in {span(timedelta(seconds=of.seconds))}"


def span(of: timedelta) -> str:
    """Write a duration in its two largest units: 2 days 4 hours."""
    left = max(0, int(of.total_seconds()))
    parts: list[str] = []
    for name, size in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        count, left = divmod(left, size)
        if count or (name == "second" and not parts):
            parts.append(f"{count} {name}{'' if count == 1 else 's'}")
        elif parts:
            break
    return " ".join(parts[:2])
