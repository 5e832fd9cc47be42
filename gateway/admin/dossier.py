"""What the audit says of one request, laid out for a person: decision, rules, facts, intent, outcomes, timeline."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gateway.admin.feed import Record
from gateway.admin.words import EVENTS, OUTCOMES, advice, rule_sentence

_LATER: Final = frozenset({"outcome", "task-resolved"})
_PATIENT: Final[Mapping[str, str]] = {
    "absent": "the partner said nothing of the patient",
    "match": "what the partner said of the patient is what PKB has",
    "mismatch": "what the partner said of the patient is not what PKB has",
}
_FACTS: Final = (
    ("owner", "Belongs to"),
    ("status", "Status"),
    ("start", "Starts"),
    ("labels", "Privacy labels"),
    ("specialties", "Specialties"),
    ("fields", "Fields to be changed"),
    ("new_start", "New start"),
    ("patient", "Patient"),
)
_UPSTREAM: Final = (
    ("route", "Route"),
    ("status", "PKB's status"),
    ("version_before", "Version before"),
    ("version_after", "Version after"),
    ("control_id", "Number of the HL7 message"),
    ("collateral", "Changed though nobody asked"),
)

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class RuleView:
    """One rule, asked once; `decisive`: the first that failed, which gave the code."""

    name: str
    passed: bool
    sentence: str
    decisive: bool = False


@dataclass(frozen=True, slots=True)
class DecisionView:
    """One decision."""

    event: str
    event_words: str
    permitted: bool
    code: str
    advice: str
    failed: RuleView | None
    rules: tuple[RuleView, ...]
    about: tuple[Pair, ...]
    facts: tuple[Pair, ...]
    change: tuple[tuple[str, str, str], ...]
    shadow: str
    asked: Mapping[str, str]
    """What the form of an explanation needs to ask the same now; empty where it cannot be asked."""


@dataclass(frozen=True, slots=True)
class OutcomeView:
    """How a write ended, or that it is not known yet."""

    time: str
    outcome: str
    words: str
    code: str
    advice: str
    final: bool
    recovered: bool
    operator: str
    upstream: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """One record in the timeline."""

    time: str
    event: str
    words: str
    detail: str
    place: str
    """Chain and number in the audit."""


@dataclass(frozen=True, slots=True)
class Dossier:
    """Everything known."""

    decisions: tuple[DecisionView, ...]
    outcomes: tuple[OutcomeView, ...]
    timeline: tuple[Moment, ...]
    requests: tuple[str, ...]
    """The ids of the requests that are spoken of."""
    tasks: tuple[str, ...]


def dossier(records: Sequence[Record]) -> Dossier:
    """Lay out records, the oldest first."""
    decided = [each for each in records if each.get("decision") and each.get("event") not in _LATER]
    return Dossier(
        tuple(decision_of(each) for each in decided),
        tuple(_outcome(each) for each in records if each.get("event") == "outcome"),
        tuple(_moment(each) for each in records),
        tuple(dict.fromkeys(str(each["request_id"]) for each in records if each.get("request_id"))),
        tuple(dict.fromkeys(str(each["task"]) for each in records if each.get("task"))),
    )


def decision_of(record: Record) -> DecisionView:
    """Lay out the decision of one record."""
    rules = rules_of(record.get("checks"))
    code = _text(record.get("code"))
    event = _text(record.get("event"))
    return DecisionView(
        event,
        EVENTS.get(event, event),
        record.get("decision") == "permit",
        code,
        advice(code),
        next((rule for rule in rules if rule.decisive), None),
        rules,
        tuple(_about(record)),
        tuple(_told(record.get("facts"), _FACTS)),
        tuple(_change(record.get("change"))),
        _shadow(record.get("shadow")),
        _asked(record),
    )


def rules_of(checks: object) -> tuple[RuleView, ...]:
    """Lay out the rules that were asked, in their order."""
    found: list[RuleView] = []
    failed = False
    for check in checks if isinstance(checks, Sequence) else ():
        match check:
            case [str(name), bool(passed)]:
                decisive = not passed and not failed
                failed = failed or not passed
                found.append(RuleView(name, passed, rule_sentence(name, passed=passed), decisive))
    return tuple(found)


def _about(record: Record) -> Iterator[Pair]:
    for name, label in (
        ("partner", "Partner"),
        ("customer", "Customer"),
        ("operation", "Operation"),
        ("appointment", "Appointment"),
        ("grant", "Grant"),
        ("reason", "Reason of the cancel"),
        ("now", "Decided at"),
        ("duration_ms", "Took until the record, in ms"),
        ("client", "Came from"),
        ("operator", "Asked by"),
        ("grants_digest", "Grants file (SHA-256)"),
        ("request_id", "X-Request-Id"),
        ("correlation_id", "X-Correlation-Id"),
    ):
        if record.get(name) is not None:
            yield label, when(record[name]) if name == "now" else _text(record[name])
    token = record.get("token")
    if isinstance(token, Mapping):
        yield "Token", ", ".join(f"{key} {_text(value)}" for key, value in token.items() if value is not None)


def _told(values: object, labels: Sequence[Pair]) -> Iterator[Pair]:
    if not isinstance(values, Mapping):
        return
    for name, label in labels:
        value = values.get(name)
        if name == "patient":
            yield label, _PATIENT.get(_text(value), _text(value))
        elif name in {"start", "new_start"} and value is not None:
            yield label, when(value)
        elif name in values and value is not None and (value != [] or name in {"owner", "specialties"}):
            yield label, ("nobody can be proven" if name == "owner" else "none") if value == [] else _text(value)


def _change(change: object) -> Iterator[tuple[str, str, str]]:
    if isinstance(change, Mapping):
        for name, values in change.items():
            if isinstance(values, Mapping):
                yield str(name), _veiled(values.get("before")), _veiled(values.get("after"))


def _veiled(value: object) -> str:
    if isinstance(value, Mapping):
        return f"text of {_text(value.get('length'))} characters, not recorded"
    return "nothing" if value is None else _text(value)


def _asked(record: Record) -> Mapping[str, str]:
    names = ("partner", "customer", "operation", "appointment")
    if not all(record.get(name) for name in names):
        return {}
    return {name: _text(record[name]) for name in (*names, "reason") if record.get(name)}


def _shadow(shadow: object) -> str:
    if not isinstance(shadow, Mapping):
        return ""
    would = "permit it" if shadow.get("decision") == "permit" else f"refuse it: {_text(shadow.get('code'))}"
    return f"The shadow grant {_text(shadow.get('grant')) or '(none that fits)'} would {would}. It changes no answer."


def _outcome(record: Record) -> OutcomeView:
    word, code = _text(record.get("outcome")), _text(record.get("code"))
    final = record.get("final") is True
    return OutcomeView(
        _text(record.get("time")),
        word,
        _outcome_words(word, final=final),
        code,
        advice(code),
        final,
        record.get("recovered") is True,
        _text(record.get("operator")),
        tuple(_told(record.get("upstream"), _UPSTREAM)),
    )


def _outcome_words(word: str, *, final: bool) -> str:
    if final and word == "unknown":
        return "It was never found out. Nobody looks any more."
    if final and word == "accepted":
        return "PKB took the message; no read can show its effect."
    return OUTCOMES.get(word, "")


def _moment(record: Record) -> Moment:
    event = _text(record.get("event"))
    told: list[str] = [_text(record.get(name)) for name in ("code", "outcome") if record.get(name)]
    if event == "outcome":
        told.append("final" if record.get("final") is True else "not final")
    if record.get("operator"):
        told.append(f"by {_text(record['operator'])}")
    place = f"{_text(record.get('chain'))} {_text(record.get('seq'))}"
    return Moment(_text(record.get("time")), event, EVENTS.get(event, event), ", ".join(told), place)


def when(value: object) -> str:
    """Write a time of a record to the second."""
    try:
        return f"{datetime.fromisoformat(str(value)).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError):
        return str(value)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return "" if value is None else str(value)
