"""A question in a person's own words, from the command line or from a form, made into one that can be decided."""

from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from gateway.app.explaining import Question
from gateway.domain.appointment import CANCEL_REASON_SYSTEM, Cancel, Change, Command, Instant, PatientClaim, Read
from gateway.domain.grant import Coding, Operation, Policy
from gateway.domain.rules import Claimant


class NotUnderstood(Exception):
    """The words make no question; the message says why."""


def read_time(text: str, zone: ZoneInfo) -> datetime:
    """Read a date or a time; without an offset it is in `zone`. Raises NotUnderstood."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise NotUnderstood(f"{text!a} is no date or time such as 2026-01-31 or 2026-01-31T09:00:00Z") from error
    return at if at.tzinfo else at.replace(tzinfo=zone)


def read_day(text: str) -> date:
    """Read a date. Raises NotUnderstood."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise NotUnderstood(f"{text!a} is no date such as 1980-02-29") from error


@dataclass(frozen=True, slots=True)
class Words:
    """What is said of the command itself; None: nothing."""

    reason: str | None = None
    start: str | None = None
    end: str | None = None
    comment: str | None = None
    location: str | None = None
    management_url: str | None = None
    patient: str | None = None
    birth_date: str | None = None

    @property
    def claim(self) -> PatientClaim:
        """What is said of the patient. Raises NotUnderstood."""
        return PatientClaim(self.patient, None if self.birth_date is None else read_day(self.birth_date))

    def command(self, operation: Operation, zone: ZoneInfo) -> Command:
        """Make the command they tell. Raises NotUnderstood."""
        changes = (self.start, self.end, self.location, self.management_url)
        match operation:
            case Operation.CANCEL if any(each is not None for each in changes):
                raise NotUnderstood("a cancel has no new start, end, location or management URL")
            case Operation.CANCEL:
                codings = () if self.reason is None else (Coding(CANCEL_REASON_SYSTEM, self.reason),)
                return Cancel(codings, comment=self.comment, claim=self.claim)
            case Operation.CHANGE if self.reason is None:
                start, end = (None if each is None else _instant(each, zone) for each in (self.start, self.end))
                return Change(start, end, self.comment, self.location, self.management_url, self.claim)
            case Operation.READ if self == Words():
                return Read()
        raise NotUnderstood(f"some of what was said is not for {operation}")


@dataclass(frozen=True, slots=True)
class AskedInWords:
    """The question as it was typed; times without an offset wait for the customer's zone."""

    who: Claimant
    operation: Operation
    words: Words
    at: str | None = None
    version: str | None = None

    def question(self, policy: Policy) -> Question:
        """Make the question. Raises NotUnderstood."""
        known = policy.customers.get(self.who.customer)
        zone = known.time_zone if known else ZoneInfo("Europe/London")
        at = None if self.at is None else read_time(self.at, zone)
        return Question(self.who, self.words.command(self.operation, zone), at, self.version)


def _instant(text: str, zone: ZoneInfo) -> Instant:
    at = read_time(text, zone)
    return Instant(at, at.isoformat())
