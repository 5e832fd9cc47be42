from datetime import UTC, datetime, timedelta, timezone

import pytest

from gateway.domain.appointment import CANCEL_REASONS, Appointment, Read, Status
from gateway.domain.codes import Code
from gateway.domain.grant import Field, Grant, Operation, Policy
from gateway.domain.offers import Offer, offers
from gateway.domain.rules import Claimant, decide
from tests.makers import (
    CUSTOMERS,
    DAY,
    HOUR,
    NOW,
    SECOND,
    WHO,
    appointment,
    by_hl7,
    cancel,
    grant,
    move,
    owned_by,
    policy,
)

EVERY = frozenset(Operation)
FOREVER = NOW + 300 * DAY
UNSAYABLE = Code.NOT_SUPPORTED_ON_ROUTE


def terms(**changes: object) -> Grant:
    return grant(**{"operations": EVERY, "valid_until": FOREVER, "notice": timedelta(0), **changes})


def offered(facts: Appointment, granted: Grant, now: datetime = NOW) -> dict[Operation, Offer]:
    return {offer.operation: offer for offer in offers(WHO, facts, policy(granted), now)}


def test_each_operation_is_offered_once_and_in_order() -> None:
    assert [offer.operation for offer in offers(WHO, appointment(), policy(terms()), NOW)] == list(Operation)


def test_a_read_is_offered_until_the_last_second_of_the_grant() -> None:
    assert offered(appointment(), terms())[Operation.READ] == Offer(Operation.READ, until=FOREVER - SECOND)


def test_a_grant_that_ends_within_a_second_ends_at_that_second() -> None:
    ends = FOREVER.replace(microsecond=1)

    assert offered(appointment(), terms(valid_until=ends))[Operation.READ].until == FOREVER


def test_a_write_is_offered_until_exactly_the_notice_before_the_start() -> None:
    start = NOW + 10 * DAY
    found = offered(appointment(start=start), terms(notice=48 * HOUR))

    assert found[Operation.CANCEL].until == start - 48 * HOUR
    assert found[Operation.CHANGE].until == start - 48 * HOUR


def test_without_notice_a_write_is_offered_until_the_second_before_the_start() -> None:
    start = NOW + 10 * DAY

    assert offered(appointment(start=start), terms())[Operation.CANCEL].until == start - SECOND


def test_a_fraction_of_a_second_is_rounded_down() -> None:
    start = NOW + 10 * DAY + timedelta(milliseconds=500)

    assert offered(appointment(start=start), terms(notice=HOUR))[Operation.CANCEL].until == NOW + 10 * DAY - HOUR


def test_a_grant_that_ends_before_the_notice_bounds_a_write() -> None:
    start = NOW + 400 * DAY

    assert offered(appointment(start=start), terms())[Operation.CANCEL].until == FOREVER - SECOND


def test_times_are_told_in_utc() -> None:
    start = (NOW + 10 * DAY).astimezone(timezone(timedelta(hours=5)))
    until = offered(appointment(start=start), terms())[Operation.CANCEL].until

    assert until is not None
    assert until.tzinfo is UTC


@pytest.mark.parametrize("notice", [timedelta(0), 2 * DAY], ids=["no notice", "two days"])
def test_what_is_offered_is_permitted_until_then_and_refused_after(notice: timedelta) -> None:
    facts, granted = appointment(start=NOW + 10 * DAY), terms(notice=notice)
    until = offered(facts, granted)[Operation.CANCEL].until
    assert until is not None

    at_last = decide(WHO, cancel(), facts, policy(granted), until)
    too_late = decide(WHO, cancel(), facts, policy(granted), until + SECOND)

    assert type(at_last).__name__ == "Permit"
    assert type(too_late).__name__ == "Refusal"


def test_a_change_lists_the_fields_of_the_grant_that_the_route_can_carry() -> None:
    granted = terms(change_fields=frozenset({Field.START, Field.LOCATION, Field.MANAGEMENT_URL}))

    assert offered(appointment(), granted)[Operation.CHANGE].fields == (Field.LOCATION, Field.START)


def test_with_several_locations_none_may_be_changed() -> None:
    facts = appointment(locations=("Clinic 1", "Clinic 2"))

    assert Field.LOCATION not in offered(facts, terms())[Operation.CHANGE].fields


def test_a_cancel_lists_the_reasons_of_the_grant() -> None:
    found = offered(appointment(), terms(cancel_reasons=frozenset({"pat", "other"})))

    assert found[Operation.CANCEL].reasons == ("other", "pat")


def test_without_reasons_of_its_own_a_grant_allows_all_of_fhir() -> None:
    assert offered(appointment(), terms())[Operation.CANCEL].reasons == tuple(sorted(CANCEL_REASONS))


@pytest.mark.parametrize(
    ("facts", "granted", "code"),
    [
        pytest.param(appointment(status=Status.CANCELLED), terms(), Code.ALREADY_CANCELLED, id="cancelled"),
        pytest.param(appointment(status=Status.NOSHOW), terms(), Code.NOT_CHANGEABLE, id="no-show"),
        pytest.param(appointment(start=None), terms(), Code.NOT_CHANGEABLE, id="no start"),
        pytest.param(appointment(start=NOW), terms(), Code.IN_THE_PAST, id="begun"),
        pytest.param(appointment(start=NOW + HOUR), terms(notice=DAY), Code.TOO_LATE, id="inside the notice"),
        pytest.param(
            appointment(), terms(operations=frozenset({Operation.READ})), Code.OPERATION_NOT_GRANTED, id="read only"
        ),
    ],
)
def test_what_would_be_refused_is_not_offered_and_says_why(facts: Appointment, granted: Grant, code: Code) -> None:
    found = offered(facts, granted)

    assert found[Operation.READ].allowed
    assert found[Operation.CANCEL] == Offer(Operation.CANCEL, code)
    assert not found[Operation.CHANGE].allowed
    assert decide(WHO, move(NOW + 20 * DAY), facts, policy(granted), NOW) != decide(
        WHO, Read(), facts, policy(granted), NOW
    )


def test_an_appointment_of_somebody_else_is_not_offered_at_all() -> None:
    found = offered(appointment(provenance=owned_by("Organization/wharfedale")), terms())

    assert {offer.code for offer in found.values()} == {Code.NOT_FOUND}


def test_a_grant_of_a_customer_that_the_file_lacks_offers_nothing() -> None:
    others = [customer for customer in CUSTOMERS if customer.id != WHO.customer]
    stray: Policy = policy(terms(), customers=others)

    assert {offer.code for offer in offers(WHO, appointment(), stray, NOW)} == {Code.NO_GRANT}


def test_the_last_hours_of_the_last_year_are_bounded_by_the_grant() -> None:
    last = datetime(9999, 12, 31, 23, 30, tzinfo=timezone(timedelta(hours=-14)))

    assert offered(appointment(start=last), terms())[Operation.CANCEL].until == FOREVER - SECOND


def test_a_start_without_time_bounds_nothing_more() -> None:
    assert offered(appointment(start=None), terms())[Operation.READ].until == FOREVER - SECOND


@pytest.mark.parametrize(
    ("facts", "codes"),
    [
        pytest.param({}, (None, None, None), id="all that a message needs"),
        pytest.param({"placer_id": None}, (None, UNSAYABLE, UNSAYABLE), id="no placer id"),
        pytest.param({"participants": (None,)}, (None, UNSAYABLE, None), id="a participant that a change would lose"),
        pytest.param(
            {"placer_id": None, "status": Status.CANCELLED},
            (None, Code.ALREADY_CANCELLED, Code.ALREADY_CANCELLED),
            id="cancelled comes first",
        ),
    ],
)
def test_what_no_message_can_say_is_not_offered(
    facts: dict[str, object], codes: tuple[Code | None, Code | None, Code | None]
) -> None:
    theirs = policy(terms(customer="bradford", change_fields=frozenset(Field)))

    found = offers(Claimant("swiftbook", "bradford"), by_hl7(**facts), theirs, NOW)

    assert {offer.operation: offer.code for offer in found} == dict(
        zip((Operation.READ, Operation.CHANGE, Operation.CANCEL), codes, strict=True)
    )


def test_the_management_page_is_offered_where_messages_carry_it() -> None:
    theirs = policy(terms(customer="bradford", change_fields=frozenset(Field)))

    found = offers(Claimant("swiftbook", "bradford"), by_hl7(), theirs, NOW)

    assert {offer.operation: offer.fields for offer in found}[Operation.CHANGE] == tuple(sorted(Field))


@pytest.mark.parametrize("locations", [(), ("Clinic 1",)], ids=["none", "one"])
def test_with_at_most_one_location_it_may_be_changed(locations: tuple[str, ...]) -> None:
    found = offered(appointment(locations=locations), terms())

    assert Field.LOCATION in found[Operation.CHANGE].fields
