"""What must hold of every decision, whatever the policy, the appointment and the command.

The second half restates the rules naively, from the words of the grants file and not from the tables under test.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from random import Random

from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from gateway.domain.appointment import CANCEL_REASONS, Appointment, Change, Command, Instant, PatientClaim, Read, Status
from gateway.domain.decision import Decision, Permit, Refusal, summary
from gateway.domain.grant import Block, Customer, CustomerKind, Field, Grant, Operation, Ownership, Policy, RouteKind
from gateway.domain.outcome import read_back
from gateway.domain.rules import Claimant, decide
from tests.makers import (
    CUSTOMERS,
    DAY,
    NOW,
    a_claimant,
    a_command,
    a_policy,
    an_appointment,
    appointment,
    cancel,
    grant,
    policy,
    rarely,
)
from tests.strategies import by_chance


@dataclass(frozen=True)
class Situation:
    who: Claimant
    command: Command
    appointment: Appointment | None
    policy: Policy
    now: datetime
    version: str | None

    def decide(self, under: Policy | None = None) -> Decision:
        return decide(self.who, self.command, self.appointment, under or self.policy, self.now, self.version)

    def only(self, grants: tuple[Grant, ...]) -> Policy:
        return replace(self.policy, grants=grants)


def code(decision: Decision) -> str | None:
    return decision.code.value if isinstance(decision, Refusal) else None


def a_situation(chance: Random) -> Situation:
    who = a_claimant(chance)
    source = next(
        (c.source for c in CUSTOMERS if who.customer in (c.id, c.organisation) and chance.random() < 0.9), None
    )
    found = None if rarely(chance, 24) else an_appointment(chance, source)
    if found and rarely(chance):
        # A team of HL7's is told beside its organisation.
        found = replace(found, provenance=replace(found.provenance, source_teams=("Organization/bradford-eyes",)))
    times = [*[NOW] * 12, NOW - 2 * DAY, NOW + 2 * DAY, NOW + 30 * DAY - timedelta(microseconds=1)]
    version = chance.choice([None, None, "7", "7", "7", "7", "6"])
    return Situation(who, a_command(chance), found, a_policy(chance), chance.choice(times), version)


SITUATIONS = by_chance(a_situation)

MANY = settings(max_examples=250, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@MANY
@given(SITUATIONS, st.data())
def test_removing_grants_never_turns_a_refusal_into_a_permit(situation: Situation, data: st.DataObject) -> None:
    kept = tuple(grant for grant in situation.policy.grants if data.draw(st.booleans()))

    if isinstance(situation.decide(situation.only(kept)), Permit):
        assert isinstance(situation.decide(), Permit)


NAMES = st.tuples(
    st.sampled_from(["swiftbook", "cardiolink", "suspended", "nobody"]),
    st.none() | st.sampled_from([*(known.id for known in CUSTOMERS), "nowhere"]),
)


@MANY
@given(SITUATIONS, st.frozensets(NAMES, max_size=4))
def test_blocks_refuse_those_they_name_and_change_nothing_for_others(
    situation: Situation, blocks: frozenset[Block]
) -> None:
    decision = situation.decide(situation.policy.with_blocks(blocks))

    if blocks.isdisjoint({(situation.who.partner, None), (situation.who.partner, situation.who.customer)}):
        assert decision == situation.decide()
    else:
        assert isinstance(decision, Refusal)


@MANY
@given(SITUATIONS, st.randoms(use_true_random=False))
def test_the_order_of_grants_never_matters(situation: Situation, chance: Random) -> None:
    shuffled = list(situation.policy.grants)
    chance.shuffle(shuffled)

    assert situation.decide(situation.only(tuple(shuffled))) == situation.decide()


@MANY
@given(SITUATIONS)
def test_shadow_grants_change_no_verdict(situation: Situation) -> None:
    real = tuple(grant for grant in situation.policy.grants if not grant.shadow)
    shadows = tuple(replace(grant, shadow=True) for grant in situation.policy.grants)

    assert situation.decide(situation.only(real)) == situation.decide()
    assert isinstance(situation.decide(situation.only(shadows)), Refusal)


@MANY
@given(SITUATIONS)
def test_a_teams_grant_never_permits_on_what_is_not_the_teams(situation: Situation) -> None:
    assume(situation.policy.customers.get(situation.who.customer, CUSTOMERS[0]).kind is CustomerKind.TEAM)
    decision = situation.decide()

    if isinstance(decision, Permit):
        event("permit")
        assert decision.facts is not None
        assert decision.facts.owner[0] == situation.who.customer == decision.grant.customer


@MANY
@given(SITUATIONS)
def test_a_permit_never_lies_beyond_the_labels_of_the_customer_or_of_the_grant(situation: Situation) -> None:
    decision = situation.decide()

    if isinstance(decision, Permit):
        assert situation.appointment is not None
        assert situation.appointment.labels <= decision.grant.privacy_labels
        assert situation.appointment.labels <= situation.policy.customers[situation.who.customer].privacy_labels


@MANY
@given(
    SITUATIONS,
    st.sampled_from(["partner", "customer", "appointment", "label", "owner", "grant"]),
)
def test_anything_unknown_is_refused(situation: Situation, unknown: str) -> None:
    found = situation.appointment or appointment()
    match unknown:
        case "partner":
            situation = replace(situation, who=replace(situation.who, partner="stranger"))
        case "customer":
            situation = replace(situation, who=replace(situation.who, customer="stranger"))
        case "appointment":
            situation = replace(situation, appointment=None)
        case "label":
            situation = replace(situation, appointment=replace(found, labels=found.labels | {"invented-yesterday"}))
        case "owner":
            nobody = replace(found.provenance, patients=0)
            situation = replace(situation, appointment=replace(found, provenance=nobody))
        case _:
            situation = replace(situation, policy=situation.only(()))

    assert isinstance(situation.decide(), Refusal)


@MANY
@given(SITUATIONS, st.sampled_from([s for s in Status if s.value not in ["proposed", "pending", "booked", "waitlist"]]))
def test_no_write_is_permitted_on_what_is_over(situation: Situation, status: Status) -> None:
    assume(not isinstance(situation.command, Read))
    found = replace(situation.appointment or appointment(), status=status)

    assert isinstance(replace(situation, appointment=found).decide(), Refusal)


@MANY
@given(SITUATIONS)
def test_the_same_situation_has_the_same_verdict_and_evidence_for_it(situation: Situation) -> None:
    decision = situation.decide()
    failed = [check for check in decision.checks if not check.passed]

    assert situation.decide() == decision
    assert bool(failed) is isinstance(decision, Refusal)
    assert len({check.rule for check in decision.checks}) == len(decision.checks)
    assert summary(decision)["decision"] == ("refuse" if failed else "permit")


# Extremes.

OFFSETS = st.sampled_from([timezone(timedelta(hours=hours)) for hours in (-14, 0, 14)])
EDGES = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)]
EVER = st.datetimes(timezones=OFFSETS) | st.builds(
    lambda at, zone: at.replace(tzinfo=zone), st.sampled_from(EDGES), OFFSETS
)
SPANS = st.timedeltas(timedelta(0), timedelta(days=3650)) | st.sampled_from([timedelta(0), timedelta(days=3650)])


@MANY
@given(
    st.lists(EVER, min_size=5, max_size=5),
    st.booleans(),
    SPANS,
    st.none() | SPANS,
    st.sampled_from(["read", "cancel", "start", "end", "both"]),
)
def test_no_time_raises(
    times: list[datetime], known: bool, notice: timedelta, within: timedelta | None, what: str
) -> None:
    now, pkb_start, pkb_end, new_start, new_end = times
    given_start = Instant(new_start, "") if what in {"start", "both"} else None
    given_end = Instant(new_end, "") if what in {"end", "both"} else None
    told: dict[str, Command] = {"read": Read(), "cancel": cancel()}
    command = told.get(what, Change(given_start, given_end))
    found = appointment(start=pkb_start if known else None, end=pkb_end)
    ever = datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))
    after = datetime.max.replace(tzinfo=timezone(timedelta(hours=-14)))
    terms = grant(valid_from=ever, valid_until=after, notice=notice, within=within)

    decision = decide(Claimant("swiftbook", "airedale"), command, found, policy(terms), now)

    assert isinstance(decision, Permit | Refusal)
    if not isinstance(command, Read):
        read_back(command, found, replace(found, version="8"), now, pkb_end)


# The rules again, naively.


def ticks(at: datetime) -> float:
    """Microseconds since the epoch, so that nothing is compared with an offset."""
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def belongs(found: Appointment, customer: Customer, known: Policy) -> bool:
    """Whether PKB's resources make an appointment a customer's."""
    said, here = found.provenance, [c for c in known.customers.values() if c.route == customer.route]
    if said.patients != 1:
        return False
    if customer.route.ownership is Ownership.WHOLE_ENDPOINT:
        return customer.kind is CustomerKind.ORGANISATION
    if customer.route.ownership is Ownership.MANAGING_ORGANISATION:
        named = [c for c in here if c.source == said.managing_organisation]
        return any(customer.id in (c.id, c.organisation) for c in named)
    organisations, teams = set(said.source_organisations), set(said.source_teams)
    if len(said.source_organisations) > 1 or len(said.source_teams) > 1 or not organisations | teams:
        return False
    listed = {c.source: c for c in here}
    team = next((listed[t] for t in teams if t in listed), None)
    organisation = next((listed[o] for o in organisations if o in listed), None)
    if team and team.kind is not CustomerKind.TEAM:
        return False
    if organisations and (organisation is None or organisation.kind is not CustomerKind.ORGANISATION):
        return False
    if team and organisation and team.organisation != organisation.id:
        return False
    if team:
        return customer.id in (team.id, team.organisation)
    return organisation is not None and customer.id == organisation.id


def patient_differs(claim: PatientClaim, found: Appointment) -> bool:
    said = [claim.nhs_number, claim.birth_date]
    kept = [found.patient.nhs_number, found.patient.birth_date] if found.patient else [None, None]
    return any(one is not None and one != other for one, other in zip(said, kept, strict=True))


def at_the_gate(situation: Situation) -> str | Grant:
    who, known, now = situation.who, situation.policy, ticks(situation.now)
    if who.partner not in known.partners or known.partners[who.partner].suspended:
        return "partner-suspended"
    theirs = [g for g in known.grants if g.partner == who.partner and g.customer == who.customer and not g.shadow]
    if not theirs or who.customer not in known.customers:
        return "no-grant"
    in_force = [g for g in theirs if ticks(g.valid_from) <= now and not ticks(g.valid_until) <= now]
    if not in_force:
        return "grant-not-yet-valid" if any(ticks(g.valid_from) > now for g in theirs) else "grant-expired"
    wanted = {"Read": Operation.READ, "Cancel": Operation.CANCEL, "Change": Operation.CHANGE}
    if wanted[type(situation.command).__name__] not in in_force[0].operations:
        return "operation-not-granted"
    return in_force[0]


def expected(situation: Situation) -> str | None:  # noqa: C901, PLR0912 - a list of questions, as a person would ask them
    gate = at_the_gate(situation)
    if isinstance(gate, str):
        return gate
    found, command, now = situation.appointment, situation.command, ticks(situation.now)
    customer = situation.policy.customers[situation.who.customer]
    if found is None or not belongs(found, customer, situation.policy):
        return "not-found"
    if any(label not in gate.privacy_labels or label not in customer.privacy_labels for label in found.labels):
        return "not-found"
    if gate.specialties is not None and not any(coding in gate.specialties for coding in found.specialties):
        return "not-found"
    if patient_differs(command.claim, found):
        return "not-found"
    if isinstance(command, Read):
        return None
    if situation.version not in (None, found.version):
        return "version-conflict"
    if found.status == "cancelled":
        return "already-cancelled"
    if found.status not in ("booked", "pending", "proposed", "waitlist") or found.start is None:
        return "not-changeable"
    start, notice = ticks(found.start), gate.notice // timedelta(microseconds=1)
    if start <= now:
        return "in-the-past"
    if now > start - notice:
        return "too-late"
    if customer.route.kind is RouteKind.HL7 and no_message_says(command, found):
        return "not-supported-on-route"
    if isinstance(command, Change):
        return about_a_change(command, found, gate, customer, now)
    reasons = [c for c in command.codings if c.system.endswith("/appointment-cancellation-reason")]
    allowed = CANCEL_REASONS if gate.cancel_reasons is None else gate.cancel_reasons
    if len(command.codings) != 1 or len(reasons) != 1 or reasons[0].code not in allowed:
        return "reason-not-allowed"
    return None


def no_message_says(command: Command, found: Appointment) -> bool:
    """Whether PKB's HL7 has no words for it, as Bradford's people would tell on their own clocks."""
    if not found.placer_id or found.patient is None or found.patient.nhs_number is None:
        return True
    if not isinstance(command, Change):
        return not isinstance(command, Read) and command.comment is not None
    if found.status != "booked":
        return True
    times = [instant.at for instant in (command.start, command.end) if instant]
    if any(ticks(at) % 60_000_000 for at in times) or any(LAST_OF_SUMMER <= ticks(at) < WINTER for at in times):
        return True
    systems = [coding.system for coding in found.specialties]
    if len(systems) > len(set(systems)) or None in found.participants:
        return True
    return not systems and set(found.labels) != {"GENERAL_HEALTH"}


LAST_OF_SUMMER = ticks(datetime(2026, 10, 25, 0, 0, tzinfo=UTC))
WINTER = ticks(datetime(2026, 10, 25, 2, 0, tzinfo=UTC))


def about_a_change(change: Change, found: Appointment, terms: Grant, customer: Customer, now: float) -> str | None:
    given = {
        Field.START: (change.start and ticks(change.start.at), found.start and ticks(found.start)),
        Field.END: (change.end and ticks(change.end.at), found.end and ticks(found.end)),
        Field.COMMENT: (change.comment, found.comment),
        Field.LOCATION: (change.location, found.locations[0] if found.locations else None),
        Field.MANAGEMENT_URL: (change.management_url, None),
    }
    asked = {field: pair for field, pair in given.items() if pair[0] is not None}
    if Field.MANAGEMENT_URL in asked and customer.route.kind is not RouteKind.HL7:
        return "not-supported-on-route"
    if any(field not in terms.change_fields for field in asked):
        return "field-not-changeable"
    if Field.LOCATION in asked and len(found.locations) > 1:
        return "field-not-changeable"
    if all(wanted == present for wanted, present in asked.values()):
        return "nothing-to-change"
    start = change.start.at if change.start else found.start
    end = change.end.at if change.end else found.end
    if (change.start or change.end) and start and end and ticks(end) <= ticks(start):
        return "end-before-start"
    if change.start is None or found.start is None:
        return None
    new, micro = ticks(change.start.at), timedelta(microseconds=1)
    if new <= now:
        return "new-time-in-the-past"
    if terms.within is not None and abs(new - ticks(found.start)) > terms.within // micro:
        return "outside-change-window"
    return "outside-change-window" if new < now + terms.notice // micro else None


@settings(MANY, max_examples=1500)
@given(SITUATIONS)
def test_the_verdict_is_what_the_rules_say_in_plain_words(situation: Situation) -> None:
    decision = situation.decide()

    event(str(code(decision)))
    assert code(decision) == expected(situation)
