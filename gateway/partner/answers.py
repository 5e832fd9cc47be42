"""Values out, FHIR answers in bytes: the one place where a code becomes a response."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from aiohttp import web

from gateway.domain.codes import CATALOGUE, Code
from gateway.domain.offers import Offer
from gateway.domain.outcome import TaskStatus
from gateway.flow.ports import Sighting
from gateway.flow.request import Quota
from gateway.flow.tasks import Task
from gateway.partner.headers import Preference

FHIR_JSON: Final = "application/fhir+json"
CODE: Final = web.ResponseKey("code", str)
"""Where a response carries its error code, for log and metrics."""

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

Headers = Mapping[str, str]
Resource = dict[str, object]


@dataclass(frozen=True, slots=True)
class Answers:
    """Renders answers. `codes_system` is the code system of the error codes, `public_url` ours.

    A Task that PKB accepted and does not show after `review_hint_after` says where the message may be waiting.
    """

    codes_system: str
    public_url: str
    review_hint_after: timedelta

    def outcome_body(self, code: Code, detail: str = "", expression: str | None = None) -> bytes:
        """Tell an error as an OperationOutcome."""
        return _outcome(self.codes_system, code, detail, expression)

    def error(
        self,
        code: Code,
        detail: str = "",
        *,
        expression: str | None = None,
        retry_after: int | None = None,
        headers: Headers | None = None,
    ) -> web.Response:
        """Answer with an error; `retry_after` in seconds where something better is known than the catalogue's."""
        entry = CATALOGUE[code]
        wait = entry.retry_after if retry_after is None else retry_after
        extra = dict(headers or {})
        if wait is not None:
            extra["Retry-After"] = str(wait)
        response = _fhir(entry.status, self.outcome_body(code, detail, expression), extra)
        response[CODE] = code.value
        return response

    def appointment(self, sighting: Sighting, preference: Preference, headers: Headers) -> web.Response:
        """Answer with PKB's copy, or with as much of it as was asked for (RFC 7240)."""
        tagged = {**headers, "ETag": f'W/"{sighting.appointment.version}"'}
        match preference:
            case Preference.REPRESENTATION:
                return _fhir(200, sighting.body, tagged)
            case Preference.MINIMAL:
                return web.Response(status=200, headers=tagged)
            case Preference.OPERATION_OUTCOME:
                return _fhir(200, _information("The change is visible in PKB."), tagged)

    def done(self, headers: Headers) -> web.Response:
        """Answer that a write is done, where its appointment cannot be shown."""
        return web.Response(status=200, headers=headers)

    def accepted(self, customer: str, task: str, headers: Headers) -> web.Response:
        """Answer that PKB took a write whose effect cannot be seen yet."""
        body = _information("PKB accepted the message. Follow the Task at Content-Location until it ends.")
        return _fhir(202, body, {**headers, **self.task_location(customer, task)})

    def task_location(self, customer: str, task: str) -> Headers:
        """Point at a Task."""
        return {"Content-Location": f"{self.public_url}/{customer}/fhir/Task/{task}"}

    def actions(self, offered: Sequence[Offer], headers: Headers) -> web.Response:
        """Answer `$actions`."""
        parameters = [{"name": offer.operation.value, "part": _parts(offer)} for offer in offered]
        return resource(200, {"resourceType": "Parameters", "parameter": parameters}, headers)

    def task(self, task: Task, now: datetime, headers: Headers) -> web.Response:
        """Answer with a Task; none of its text is PKB's."""
        told: Resource = {
            "resourceType": "Task",
            "id": task.id,
            "status": task.status.value,
            "intent": "order",
            "code": {"coding": [{"system": self.codes_system, "code": task.operation.value}]},
            "focus": {"reference": f"Appointment/{task.appointment}"},
            "authoredOn": instant(task.requested),
            "lastModified": instant(task.updated),
        }
        if task.code is not None:
            told["statusReason"] = {"coding": [{"system": self.codes_system, "code": task.code}]}
        if task.outcome is not None:
            told["businessStatus"] = {"coding": [{"system": self.codes_system, "code": task.outcome}]}
        outputs = [("outcome", "valueCode", task.outcome), ("code", "valueCode", task.code)]
        outputs.append(("version", "valueString", task.version))
        told["output"] = [{"type": {"text": name}, kind: value} for name, kind, value in outputs if value is not None]
        if not told["output"]:
            del told["output"]
        note = self._note(task, now)
        if note:
            told["note"] = [{"text": note}]
        waits = {"Retry-After": "2"} if task.open else {}
        return resource(200, told, {**headers, **waits})

    def _note(self, task: Task, now: datetime) -> str:
        if task.status is TaskStatus.COMPLETED and task.outcome == "accepted":
            return "PKB accepted the message. What it changed is in no resource of PKB's, so a read cannot show it."
        if task.status is TaskStatus.ACCEPTED and now - task.requested >= self.review_hint_after:
            return (
                "PKB accepted the message and does not show its effect. It may be waiting in the hospital's review "
                "queue; ask the booking team, and do not send it again."
            )
        return ""


def resource(status: int, body: Mapping[str, object], headers: Headers) -> web.Response:
    """Answer with a FHIR resource of ours."""
    return _fhir(status, as_bytes(body), headers)


def plain_json(body: Mapping[str, object], headers: Headers | None = None) -> web.Response:
    """Answer with JSON that is not FHIR (OAuth, JWKS, ping)."""
    return web.Response(
        body=as_bytes(body), headers={**(headers or {}), "Content-Type": "application/json; charset=utf-8"}
    )


def rate_headers(quotas: Sequence[Quota]) -> Headers:
    """Tell what is left of each rate (draft-ietf-httpapi-ratelimit-headers)."""
    if not quotas:
        return {}
    policy = ", ".join(f'"{quota.name}";q={quota.requests};w={quota.seconds}' for quota in quotas)
    left = ", ".join(f'"{quota.name}";r={quota.remaining};t={quota.reset}' for quota in quotas)
    return {"RateLimit-Policy": policy, "RateLimit": left}


def instant(at: datetime) -> str:
    """Write a FHIR instant in UTC, to the millisecond where there is a fraction."""
    precision = "milliseconds" if at.microsecond else "seconds"
    return at.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def as_bytes(body: Mapping[str, object]) -> bytes:
    """Write JSON of our own making."""
    return _encode(body).encode()


@lru_cache(maxsize=512)
def _outcome(codes_system: str, code: Code, detail: str, expression: str | None) -> bytes:
    """Most errors of a kind are told in the same bytes."""
    entry = CATALOGUE[code]
    issue: Resource = {
        "severity": "error",
        "code": entry.issue,
        "details": {"coding": [{"system": codes_system, "code": code.value}]},
        "diagnostics": f"{entry.advice} {detail}".strip(),
    }
    if expression is not None:
        issue["expression"] = [expression]
    return as_bytes({"resourceType": "OperationOutcome", "issue": [issue]})


def _fhir(status: int, body: bytes, headers: Headers) -> web.Response:
    return web.Response(status=status, body=body, headers={**headers, "Content-Type": f"{FHIR_JSON}; charset=utf-8"})


def _information(text: str) -> bytes:
    issue = {"severity": "information", "code": "informational", "diagnostics": text}
    return as_bytes({"resourceType": "OperationOutcome", "issue": [issue]})


def _parts(offer: Offer) -> list[Resource]:
    parts: list[Resource] = [{"name": "allowed", "valueBoolean": offer.allowed}]
    if offer.code is not None:
        parts.append({"name": "code", "valueCode": offer.code.value})
    if offer.until is not None:
        parts.append({"name": "until", "valueInstant": instant(offer.until)})
    parts += [{"name": "fields", "valueCode": field.value} for field in offer.fields]
    parts += [{"name": "reasons", "valueCode": reason} for reason in offer.reasons]
    return parts
