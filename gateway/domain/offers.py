"""What a partner may do with an appointment now, and until when: the answer to `$actions`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import assert_never

from gateway.domain.appointment import Appointment, Cancel, Change, Command, Read
from gateway.domain.codes import Code
from gateway.domain.decision import Refusal
from gateway.domain.grant import Field, Grant, Operation, Policy
from gateway.domain.ownership import owners
from gateway.domain.rules import (
    ON_ROUTE,
    OPEN_TO_CHANGE,
    WITHIN_REACH,
    Case,
    Claimant,
    admit,
    allowed_fields,
    allowed_reasons,
)

_SECOND = timedelta(seconds=1)
_TRIALS: dict[Operation, Command] = {
    Operation.READ: Read(),
    Operation.CHANGE: Change(),
    Operation.CANCEL: Cancel(()),
}


@dataclass(frozen=True, slots=True)
class Offer:
    """One operation: allowed until then with these values, or not, and why not."""

    operation: Operation
    code: Code | None = None
    until: datetime | None = None
    """The last whole second at which it is allowed."""
    fields: tuple[Field, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        """Whether the partner may do it now."""
        return self.code is None


def offers(who: Claimant, appointment: Appointment, policy: Policy, now: datetime) -> Sequence[Offer]:
    """Say for each operation whether this partner may do it now, by the rules that will judge it then."""
    return [_offer(who, operation, appointment, policy, now) for operation in Operation]


def _offer(who: Claimant, operation: Operation, appointment: Appointment, policy: Policy, now: datetime) -> Offer:
    admitted = admit(who, frozenset({operation}), policy, now)
    if isinstance(admitted, Refusal):
        return Offer(operation, admitted.code)
    customer = policy.customers[who.customer]
    owner = owners(appointment.provenance, customer.route, policy)
    case = Case(_TRIALS[operation], appointment, owner, customer, admitted.grant, now, None)
    rules = WITHIN_REACH if operation is Operation.READ else WITHIN_REACH + OPEN_TO_CHANGE + ON_ROUTE
    failed = next((rule for rule in rules if not rule.passes(case)), None)
    if failed is not None:
        return Offer(operation, failed.code)
    until = _until(operation, appointment, admitted.grant)
    match operation:
        case Operation.READ:
            return Offer(operation, until=until)
        case Operation.CHANGE:
            fields = allowed_fields(admitted.grant, customer)
            if len(appointment.locations) > 1:
                fields -= {Field.LOCATION}
            return Offer(operation, until=until, fields=tuple(sorted(fields)))
        case Operation.CANCEL:
            return Offer(operation, until=until, reasons=tuple(sorted(allowed_reasons(admitted.grant))))
        case unexpected:
            assert_never(unexpected)


def _until(operation: Operation, appointment: Appointment, grant: Grant) -> datetime:
    last = _last_second_before(grant.valid_until)
    if operation is Operation.READ or appointment.start is None:
        return last
    try:
        last_notice = (appointment.start - grant.notice).astimezone(UTC).replace(microsecond=0)
        return min(last, last_notice, _last_second_before(appointment.start))
    except OverflowError:
        # At the last hours of the year 9999 UTC has no name for the start; the grant ends long before.
        return last


def _last_second_before(moment: datetime) -> datetime:
    whole = moment.astimezone(UTC).replace(microsecond=0)
    return whole if moment.microsecond else whole - _SECOND
