"""What one grants file lets partners do that another does not: rights compared over time, not lines of text."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from gateway.domain.grant import Customer, Grant, Operation, Policy, Rate
from gateway.domain.rules import allowed_reasons

Value: TypeAlias = "bool | str | timedelta | Rate | None"


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One thing that a grant settles: an operation, or a bound on one (`field` start, `notice`, …)."""

    kind: str
    name: str = ""


Rights: TypeAlias = Mapping[Right, Value]
"""Absent: not granted, or not bounded."""

OPERATION: Final = "operation"


@dataclass(frozen=True, slots=True)
class Difference:
    """One right that is not the same, from when until when; `until` None: for good, or as long as it is granted."""

    partner: str
    customer: str | None
    """None: at every one."""
    right: Right
    before: Value
    after: Value
    since: datetime | None = None
    """None: whenever."""
    until: datetime | None = None
    shadow: bool = False


def differences(old: Policy, new: Policy) -> list[Difference]:
    """Compare two policies, partner by partner and customer by customer; empty where nobody gains or loses anything."""
    found = [*_of_partners(old, new), *_of_customers(old, new)]
    pairs = sorted({(grant.partner, grant.customer) for policy in (old, new) for grant in policy.grants})
    for partner, customer in pairs:
        found += _of_pair(partner, customer, old, new, shadow=False)
        found += _of_pair(partner, customer, old, new, shadow=True)
    return found


def _of_partners(old: Policy, new: Policy) -> Iterator[Difference]:
    for partner in sorted(old.partners.keys() & new.partners.keys()):
        before, after = old.partners[partner], new.partners[partner]
        if before.suspended != after.suspended:
            yield Difference(partner, None, Right("suspended"), before.suspended, after.suspended)
        if before.rate != after.rate:
            yield Difference(partner, None, Right("rate"), before.rate, after.rate)


def _of_customers(old: Policy, new: Policy) -> Iterator[Difference]:
    """Tell what makes the same grant reach other appointments."""
    for id_ in sorted(old.customers.keys() & new.customers.keys()):
        before, after = old.customers[id_], new.customers[id_]
        for name, tell in _REACH.items():
            if tell(before) != tell(after):
                yield Difference("", id_, Right(name), tell(before), tell(after))


_REACH: Final[Mapping[str, Callable[[Customer], str | None]]] = {
    "source": lambda customer: customer.source,
    "route": lambda customer: customer.route.name,
    "organisation": lambda customer: customer.organisation,
}


def _of_pair(partner: str, customer: str, old: Policy, new: Policy, *, shadow: bool) -> list[Difference]:
    before, after = (_held(policy, partner, customer, shadow=shadow) for policy in (old, new))
    moments = sorted({at for grant in (*before, *after) for at in (grant.valid_from, grant.valid_until)})
    stretches = [
        (since, until, _rights(old, _at(before, since)), _rights(new, _at(after, since)))
        for since, until in itertools.pairwise(moments)
    ]
    found: list[Difference] = []
    for right in sorted({right for _, _, was, becomes in stretches for right in (*was, *becomes)}, key=_order):
        spans = [
            (since, until, was.get(right), becomes.get(right))
            for since, until, was, becomes in stretches
            if _counts(right, was, becomes)
        ]
        found += [
            Difference(partner, customer, right, one, other, since, until, shadow)
            for since, until, one, other in _joined(right, spans)
        ]
    return found


def _order(right: Right) -> tuple[str, str]:
    return ("" if right.kind == OPERATION else right.kind, right.name)


def _held(policy: Policy, partner: str, customer: str, *, shadow: bool) -> tuple[Grant, ...]:
    known = policy.partners.get(partner)
    if known is None or known.suspended or customer not in policy.customers:
        return ()
    return policy.shadows(customer, partner) if shadow else policy.held(customer, partner)


def _at(grants: Iterable[Grant], at: datetime) -> Grant | None:
    return next((grant for grant in grants if grant.valid_from <= at < grant.valid_until), None)


def _rights(policy: Policy, grant: Grant | None) -> Rights:
    """Tell all that a grant amounts to, whatever its id and however it is written."""
    if grant is None:
        return {}
    rights: dict[Right, Value] = {Right(OPERATION, each.value): True for each in grant.operations}
    labels = grant.privacy_labels & policy.customers[grant.customer].privacy_labels
    rights |= {Right("label", label): True for label in labels}
    if grant.specialties is not None:
        written = sorted(f"{each.system}|{each.code}" for each in grant.specialties)
        rights[Right("specialties")] = ", ".join(written)
    if grant.rate is not None:
        rights[Right("rate")] = grant.rate
    if grant.hl7_alias is not None:
        rights[Right("hl7_alias")] = grant.hl7_alias
    if grant.operations & {Operation.CHANGE, Operation.CANCEL}:
        rights[Right("notice")] = grant.notice
        rights[Right("patient")] = grant.patient_required
    if Operation.CHANGE in grant.operations:
        rights |= {Right("field", each.value): True for each in grant.change_fields}
        if grant.within is not None:
            rights[Right("within")] = grant.within
    if Operation.CANCEL in grant.operations:
        rights |= {Right("reason", each): True for each in allowed_reasons(grant)}
    return rights


_NEEDS: Final[Mapping[str, frozenset[Operation]]] = {
    "field": frozenset({Operation.CHANGE}),
    "within": frozenset({Operation.CHANGE}),
    "reason": frozenset({Operation.CANCEL}),
    "notice": frozenset({Operation.CHANGE, Operation.CANCEL}),
    "patient": frozenset({Operation.CHANGE, Operation.CANCEL}),
}


def _counts(right: Right, was: Rights, becomes: Rights) -> bool:
    """Whether a right says anything of its own: what comes and goes with an operation is told with that."""
    if right.kind == OPERATION:
        return True
    needed = _NEEDS.get(right.kind, frozenset(Operation))
    return all(any(Right(OPERATION, each.value) in rights for each in needed) for rights in (was, becomes))


_Span: TypeAlias = tuple[datetime, datetime, Value, Value]


def _joined(right: Right, spans: list[_Span]) -> Iterator[tuple[datetime, datetime | None, Value, Value]]:
    """Join what is the same in one stretch of time after the other, and leave out what is no difference."""
    joined: list[_Span] = []
    for since, until, was, becomes in spans:
        if joined and joined[-1][1:] == (since, was, becomes):
            joined[-1] = (joined[-1][0], until, was, becomes)
        else:
            joined.append((since, until, was, becomes))
    for number, (since, until, was, becomes) in enumerate(joined):
        if was == becomes:
            continue
        following = joined[number + 1] if number + 1 < len(joined) else None
        goes_on = following is not None and following[0] == until
        if right.kind == OPERATION:
            # What is lost would have ended some day anyway; only that it comes back is worth telling.
            tells_end = bool(becomes) or (following is not None and goes_on and bool(following[3]))
        else:
            tells_end = goes_on
        yield since, until if tells_end else None, was, becomes
