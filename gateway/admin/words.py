"""The words of the audit stream in plain ones, for people who read decisions and do not write code."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway.domain.codes import CATALOGUE, Code


@dataclass(frozen=True, slots=True)
class RuleWords:
    """What it means that a rule passed, and that it failed."""

    passed: str
    failed: str


RULES: Final[Mapping[str, RuleWords]] = MappingProxyType(
    {
        "partner-active": RuleWords(
            "The partner is known and not suspended.", "The partner is not known, or suspended in the grants file."
        ),
        "partner-not-blocked": RuleWords(
            "The partner is not blocked.", "The kill switch blocks the partner everywhere."
        ),
        "grant-not-blocked": RuleWords(
            "The partner is not blocked at this customer.", "The kill switch blocks the partner at this customer."
        ),
        "granted": RuleWords(
            "The customer has given the partner a grant.", "The customer has given the partner no grant."
        ),
        "grant-begun": RuleWords("The grant has begun.", "The grant has not begun yet."),
        "grant-not-ended": RuleWords("The grant has not ended.", "The grant has ended."),
        "operation-granted": RuleWords("The grant covers this operation.", "The grant does not cover this operation."),
        "customer-known": RuleWords("The customer is in the grants file.", "The customer is not in the grants file."),
        "partner-rate": RuleWords(
            "The partner keeps to its rate.", "The partner has sent more requests than its rate allows."
        ),
        "grant-rate": RuleWords(
            "The partner keeps to the rate of the grant.", "More requests came than the rate of the grant allows."
        ),
        "scope": RuleWords(
            "The access token covers this kind of request.", "The access token does not cover this kind of request."
        ),
        "appointment-exists": RuleWords("PKB has this appointment.", "PKB has no such appointment."),
        "owned-by-customer": RuleWords(
            "PKB says that the appointment belongs to this customer.",
            "PKB does not say that the appointment belongs to this customer.",
        ),
        "labels-granted": RuleWords(
            "The grant covers the appointment's privacy labels.",
            "The appointment has a privacy label that the grant does not cover.",
        ),
        "specialty-granted": RuleWords(
            "The grant covers the appointment's specialty.",
            "The appointment has none of the specialties that the grant covers.",
        ),
        "patient-matches": RuleWords(
            "What the partner said of the patient is what PKB has, or it said nothing.",
            "The NHS number or the date of birth that the partner sent is not that of PKB's patient.",
        ),
        "version-expected": RuleWords(
            "The partner has seen the present version, or did not name one.",
            "The appointment has changed since the version that the partner named.",
        ),
        "tests-hold": RuleWords("Every test in the patch holds.", "A test in the patch does not hold for PKB's copy."),
        "values-fit": RuleWords("The values that were sent can be used.", "A value that was sent cannot be used."),
        "one-intent": RuleWords(
            "The request is one cancel or one change.", "The request cancels and changes at the same time."
        ),
        "intent-granted": RuleWords(
            "The grant covers what the request comes to.", "The grant does not cover what the request comes to."
        ),
        "nothing-beyond": RuleWords(
            "Nothing differs from PKB's copy that may not be changed.",
            "Something else differs from PKB's copy than what may be changed.",
        ),
        "not-cancelled": RuleWords("The appointment is not cancelled.", "The appointment is cancelled already."),
        "status-changeable": RuleWords(
            "The appointment's status allows it to be changed.",
            "The appointment's status does not allow it: only booked, pending, proposed and waitlist do.",
        ),
        "start-known": RuleWords("PKB knows when it starts.", "PKB does not say when it starts."),
        "in-the-future": RuleWords("The appointment has not begun.", "The appointment has begun, or is over."),
        "notice-kept": RuleWords(
            "It is early enough: the customer's notice has not begun.",
            "It is too late: the customer's notice before the start has begun.",
        ),
        "supported-on-route": RuleWords(
            "The way to this customer's appointments can carry it.",
            "The way to this customer's appointments cannot carry it.",
        ),
        "fields-granted": RuleWords(
            "The grant lets the partner change these fields.",
            "The grant does not let the partner change one of these fields.",
        ),
        "one-location": RuleWords(
            "It is clear which location is meant.",
            "The appointment has several locations, so none can be changed.",
        ),
        "reason-allowed": RuleWords(
            "The customer accepts the reason of the cancel.",
            "The reason of the cancel is missing, or not one that the customer accepts.",
        ),
        "something-changes": RuleWords(
            "The request would change something.", "The appointment has these values already."
        ),
        "ends-after-start": RuleWords("It would end after it starts.", "It would not end after it starts."),
        "new-start-in-the-future": RuleWords("The new start is in the future.", "The new start is not in the future."),
        "new-start-in-the-window": RuleWords(
            "The new start lies in the window that the customer allows.",
            "The new start lies outside the window that the customer allows: too far away, or too soon.",
        ),
        "appointment-free": RuleWords(
            "No other write to this appointment is open.", "Another write to this appointment has not ended."
        ),
        "task-of-partner": RuleWords(
            "The Task is this partner's, at this customer.", "There is no such Task of this partner's at this customer."
        ),
        "hits-readable": RuleWords(
            "Every appointment in PKB's list could be read.",
            "PKB's list held an appointment that could not be read; it was not shown.",
        ),
        "token-too-large": RuleWords("", "The token is larger than any good one."),
        "token-not-three-parts": RuleWords("", "The token is no signed JWT."),
        "token-not-base64url": RuleWords("", "The token is not well encoded."),
        "token-not-json": RuleWords("", "What is in the token is not JSON."),
        "token-algorithm": RuleWords("", "The token is signed in a way that is not accepted."),
        "token-type": RuleWords("", "The token is of another type than is asked for here."),
        "token-extension": RuleWords("", "The token asks for an extension that nobody here knows."),
        "token-issuer": RuleWords("", "The token's issuer is not believed here."),
        "token-key": RuleWords("", "No known key fits the token."),
        "token-signature": RuleWords("", "The token's signature is wrong."),
        "token-subject": RuleWords("", "The token does not name its subject as it must."),
        "token-audience": RuleWords("", "The token is meant for another server."),
        "token-expiry": RuleWords("", "The token does not say when it ends."),
        "token-expired": RuleWords("", "The token has expired."),
        "token-from-the-future": RuleWords("", "The token is not valid yet: a clock is wrong."),
        "token-lifetime": RuleWords("", "The token lives longer than is accepted."),
        "token-claims": RuleWords("", "A claim in the token is not of the right kind."),
        "token-partner": RuleWords("", "The token speaks for no partner of the grants file."),
        "token-replayed": RuleWords("", "This assertion was used before; each is good once."),
        "query-parameters": RuleWords("", "The token request has parameters in its address; they belong in the form."),
        "not-a-form": RuleWords("", "The token request is no form."),
        "parameter-repeated": RuleWords("", "A parameter of the token request came twice."),
        "grant-type-missing": RuleWords("", "The token request has no grant_type."),
        "grant-type-unsupported": RuleWords("", "The token request's grant_type is not client_credentials."),
        "two-authentication-methods": RuleWords("", "The token request authenticates itself in two ways."),
        "authentication-method": RuleWords("", "The token request authenticates itself in a way that is not accepted."),
        "assertion-missing": RuleWords("", "The token request has no assertion."),
        "client-id-differs": RuleWords("", "The client_id is another one than the assertion's."),
        "partner-suspended": RuleWords("", "The partner is suspended or blocked, so it gets no token."),
        "rate-limited": RuleWords("", "The partner has sent more requests than its rate allows."),
        "scope-unknown": RuleWords("", "None of the scopes that were asked for is known."),
        "state-unavailable": RuleWords("", "The state store could not say whether the assertion was used before."),
    }
)

EVENTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "start": "A run of the gateway, or of a command, begins",
        "stop": "A run ends in order",
        "checkpoint": "Signature over the chain so far",
        "grants-loaded": "A grants file is in force",
        "grants-refused": "A changed grants file was not taken",
        "token-issued": "The partner gets an access token",
        "authentication-refused": "The caller could not prove who it is",
        "refused": "Refused",
        "read": "Shown to the partner",
        "search": "A page of a search is shown to the partner",
        "replayed": "The same request again: its answer is repeated",
        "intent": "Permitted, and about to be sent to PKB",
        "outcome": "How the write ended, as far as is known",
        "task-resolved": "A person says how the write ended",
        "blocked": "A person uses the kill switch",
        "explained": "A person asks why",
        "segments-removed": "Old audit files are removed",
        "suppressed": "Refusals of unknown callers that were only counted",
    }
)

OUTCOMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "applied": "Done, and seen in PKB.",
        "accepted": "PKB took the message and does not show it yet.",
        "rejected": "Not done: nothing was changed.",
        "unknown": "May or may not be done.",
    }
)

_OTHER_CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "patient-mismatch": "The partner was told not-found. What it said of the patient is not what PKB has: its "
        "records are mixed up, or it asked about somebody else.",
        "case-failed": "The grants file is in force, and fails a test that the customer wrote for it.",
        "grants-refused": "The grants file has a mistake. The last good one stays in force.",
        "invalid_request": "The token request is not well formed. Correct it.",
        "invalid_client": "The assertion was not accepted. The partner is not told why; the failed rule says it.",
        "unauthorized_client": "The partner is suspended or blocked.",
        "invalid_scope": "None of the scopes that were asked for is known here.",
        "unsupported_grant_type": "Only client_credentials is served here.",
        "temporarily_unavailable": "The gateway could not check the assertion just now. Try again.",
    }
)


def advice(code: str | None) -> str:
    """Say what a code asks of whoever gets it."""
    if not code:
        return ""
    if code in _OTHER_CODES:
        return _OTHER_CODES[code]
    known = CATALOGUE.get(Code(code)) if code in set(Code) else None
    return known.advice if known else ""


def rule_sentence(rule: str, *, passed: bool) -> str:
    """Say in words how a rule was answered; a rule of another version of the gateway has only its name."""
    words = RULES.get(rule)
    if words is None:
        return ""
    return words.passed if passed else words.failed
