"""The one catalogue of error codes: answers, audit, the OpenAPI document and docs/errors.md are made from it."""

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Why a request is refused or could not be carried out. Codes are public: add, never rename."""

    MALFORMED_REQUEST = "malformed-request"
    MALFORMED_JSON = "malformed-json"
    INVALID_PARAMETER = "invalid-parameter"
    MISSING_PARAMETER = "missing-parameter"
    TOKEN_MISSING = "token-missing"  # noqa: S105 - an error code
    TOKEN_EXPIRED = "token-expired"  # noqa: S105 - an error code
    TOKEN_INVALID = "token-invalid"  # noqa: S105 - an error code
    PARTNER_SUSPENDED = "partner-suspended"
    SCOPE_INSUFFICIENT = "scope-insufficient"
    NO_GRANT = "no-grant"
    GRANT_NOT_YET_VALID = "grant-not-yet-valid"
    GRANT_EXPIRED = "grant-expired"
    OPERATION_NOT_GRANTED = "operation-not-granted"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    NOT_ACCEPTABLE = "not-acceptable"
    REQUEST_TIMEOUT = "request-timeout"
    BODY_TOO_LARGE = "body-too-large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    ALREADY_CANCELLED = "already-cancelled"
    NOT_CHANGEABLE = "not-changeable"
    REQUEST_IN_PROGRESS = "request-in-progress"
    APPOINTMENT_BUSY = "appointment-busy"
    VERSION_CONFLICT = "version-conflict"
    VERSION_REQUIRED = "version-required"
    IN_THE_PAST = "in-the-past"
    TOO_LATE = "too-late"
    NOT_SUPPORTED_ON_ROUTE = "not-supported-on-route"
    FIELD_NOT_CHANGEABLE = "field-not-changeable"
    REASON_NOT_ALLOWED = "reason-not-allowed"
    NOTHING_TO_CHANGE = "nothing-to-change"
    END_BEFORE_START = "end-before-start"
    NEW_TIME_IN_THE_PAST = "new-time-in-the-past"
    OUTSIDE_CHANGE_WINDOW = "outside-change-window"
    MIXED_INTENT = "mixed-intent"
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused"
    RATE_LIMITED = "rate-limited"
    INTERNAL = "internal"
    UPSTREAM_REFUSED = "upstream-refused"
    UPSTREAM_INVALID = "upstream-invalid"
    UPSTREAM_UNAVAILABLE = "upstream-unavailable"
    AUDIT_UNAVAILABLE = "audit-unavailable"
    STATE_UNAVAILABLE = "state-unavailable"
    OVERLOADED = "overloaded"
    DRAINING = "draining"
    OUTCOME_UNKNOWN = "outcome-unknown"
    UPSTREAM_TIMEOUT = "upstream-timeout"


@dataclass(frozen=True, slots=True)
class Entry:
    """How a code is told: HTTP status, FHIR R4 `issue-type`, and what the partner should do about it."""

    status: int
    issue: str
    advice: str
    retry_after: int | None = None
    """Seconds for `Retry-After`, where the code always carries one and nothing better is known."""


CATALOGUE: dict[Code, Entry] = {
    Code.MALFORMED_REQUEST: Entry(
        400,
        "structure",
        "The request breaks the rules of HTTP or of this API's paths and headers. Correct it.",
    ),
    Code.MALFORMED_JSON: Entry(
        400, "structure", "The body is not one well-formed JSON object with unique members. Correct it."
    ),
    Code.INVALID_PARAMETER: Entry(400, "value", "A parameter or header has a value that is not allowed. Correct it."),
    Code.MISSING_PARAMETER: Entry(400, "required", "A required parameter is absent. Add it."),
    Code.TOKEN_MISSING: Entry(401, "login", "Send one Authorization header with a Bearer access token."),
    Code.TOKEN_EXPIRED: Entry(401, "expired", "The access token is no longer accepted. Get a new one."),
    Code.TOKEN_INVALID: Entry(401, "login", "The access token is not accepted. Get a new one."),
    Code.PARTNER_SUSPENDED: Entry(403, "forbidden", "This partner is suspended. Ask the operator of the gateway."),
    Code.SCOPE_INSUFFICIENT: Entry(
        403, "forbidden", "The access token's scope does not cover this request. Ask for a token that does."
    ),
    Code.NO_GRANT: Entry(
        403, "forbidden", "This customer has granted this partner no access. Ask the customer for a grant."
    ),
    Code.GRANT_NOT_YET_VALID: Entry(403, "forbidden", "The customer's grant has not begun. Wait until it does."),
    Code.GRANT_EXPIRED: Entry(403, "forbidden", "The customer's grant has ended. Ask the customer to renew it."),
    Code.OPERATION_NOT_GRANTED: Entry(
        403, "forbidden", "The customer's grant does not cover this operation. Ask the customer to extend it."
    ),
    Code.NOT_FOUND: Entry(404, "not-found", "There is nothing here that this partner may reach for this customer."),
    Code.METHOD_NOT_ALLOWED: Entry(405, "not-supported", "This path does not take that method. See the Allow header."),
    Code.NOT_ACCEPTABLE: Entry(
        406, "not-supported", "Accept application/fhir+json (FHIR 4.0); nothing else is served here."
    ),
    Code.REQUEST_TIMEOUT: Entry(408, "timeout", "The body did not arrive in time. Nothing was done; send it again."),
    Code.ALREADY_CANCELLED: Entry(409, "conflict", "The appointment is already cancelled. There is nothing to do."),
    Code.NOT_CHANGEABLE: Entry(
        409, "conflict", "The appointment's status does not allow this. Ask the hospital's booking team."
    ),
    Code.REQUEST_IN_PROGRESS: Entry(
        409, "conflict", "A request with this Idempotency-Key is still running. Ask again later.", 1
    ),
    Code.APPOINTMENT_BUSY: Entry(
        409,
        "lock-error",
        "Another write to this appointment has not ended. Wait for it, or ask the hospital's booking team.",
        2,
    ),
    Code.VERSION_CONFLICT: Entry(
        412, "conflict", "The appointment has another version by now. Read it again and decide afresh."
    ),
    Code.BODY_TOO_LARGE: Entry(413, "too-long", "The body is larger than this API takes. Send a smaller one."),
    Code.UNSUPPORTED_MEDIA_TYPE: Entry(
        415,
        "not-supported",
        "Send application/fhir+json or application/json in UTF-8, without content coding.",
    ),
    Code.IN_THE_PAST: Entry(
        422, "business-rule", "The appointment has begun or is over. Ask the hospital's booking team."
    ),
    Code.TOO_LATE: Entry(
        422,
        "business-rule",
        "The customer's notice period for this appointment has begun. Ask the hospital's booking team.",
    ),
    Code.NOT_SUPPORTED_ON_ROUTE: Entry(
        422, "not-supported", "The way this customer's appointments are reached in PKB cannot carry that. Leave it out."
    ),
    Code.FIELD_NOT_CHANGEABLE: Entry(
        422, "business-rule", "A field cannot be changed under the customer's grant. Leave it out."
    ),
    Code.REASON_NOT_ALLOWED: Entry(
        422, "business-rule", "Give exactly one reason code that the customer allows. $actions lists them."
    ),
    Code.NOTHING_TO_CHANGE: Entry(
        422, "business-rule", "The appointment already has these values. There is nothing to do."
    ),
    Code.END_BEFORE_START: Entry(
        422, "business-rule", "The appointment would not end after it starts. Correct start or end."
    ),
    Code.NEW_TIME_IN_THE_PAST: Entry(422, "business-rule", "The new start is not in the future. Choose a later one."),
    Code.OUTSIDE_CHANGE_WINDOW: Entry(
        422, "business-rule", "The new start lies outside the window that the customer allows. Choose another one."
    ),
    Code.MIXED_INTENT: Entry(422, "business-rule", "Send a cancel or a change, not both in one request."),
    Code.IDEMPOTENCY_KEY_REUSED: Entry(
        422, "business-rule", "This Idempotency-Key was used for another request. Use a new key."
    ),
    Code.VERSION_REQUIRED: Entry(428, "required", "Send If-Match with the version you have read."),
    Code.RATE_LIMITED: Entry(429, "throttled", "Too many requests. Wait as long as Retry-After says.", 1),
    Code.INTERNAL: Entry(500, "exception", "The gateway failed. Nothing more is known; tell its operator."),
    Code.UPSTREAM_REFUSED: Entry(502, "processing", "PKB refused the request. Nothing was changed."),
    Code.UPSTREAM_INVALID: Entry(
        502, "processing", "PKB answered with something that cannot be used. Tell the operator of the gateway."
    ),
    Code.UPSTREAM_UNAVAILABLE: Entry(
        503, "transient", "PKB cannot be reached. Nothing was done; it is safe to repeat the request.", 5
    ),
    Code.AUDIT_UNAVAILABLE: Entry(
        503,
        "transient",
        "The audit stream is not available. Nothing was done; it is safe to repeat the request.",
        5,
    ),
    Code.STATE_UNAVAILABLE: Entry(
        503,
        "transient",
        "The state store is not available. Nothing was done; it is safe to repeat the request.",
        5,
    ),
    Code.OVERLOADED: Entry(503, "throttled", "The gateway is overloaded. Nothing was done; repeat it later.", 1),
    Code.DRAINING: Entry(503, "transient", "The gateway is stopping. Nothing was done; repeat it elsewhere.", 1),
    Code.OUTCOME_UNKNOWN: Entry(
        504,
        "incomplete",
        "It may or may not have taken effect. Do not repeat it; follow the Task at Content-Location.",
    ),
    Code.UPSTREAM_TIMEOUT: Entry(504, "timeout", "PKB did not answer in time. Nothing was changed; try again."),
}
