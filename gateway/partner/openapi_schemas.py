"""JSON Schemas (2020-12) of what enters and leaves. PKB's resources are open, what the gateway writes is exact."""

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.domain.appointment import CANCEL_REASON_SYSTEM, CANCEL_REASONS, NHS_NUMBER_SYSTEM, Status
from gateway.domain.codes import CATALOGUE, Code
from gateway.domain.grant import Field, Operation
from gateway.domain.outcome import TaskStatus
from gateway.partner.table import RESOURCE_ID
from gateway.partner.token_endpoint import OAuthError

Schema = Mapping[str, object]

ID: Final[Schema] = {"type": "string", "pattern": f"^{RESOURCE_ID.pattern}$"}
INSTANT: Final[Schema] = {
    "type": "string",
    "format": "date-time",
    "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}",
}
URL: Final[Schema] = {"type": "string", "format": "uri"}
TEXT: Final[Schema] = {"type": "string", "minLength": 1}
_BOOLEAN: Final[Schema] = {"type": "boolean"}


def ref(name: str) -> Schema:
    """Point at a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def exact(properties: Mapping[str, Schema], *optional: str) -> Schema:
    """An object of these members and no others; all but the optional ones must be there."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def listed(items: Schema, **bounds: int) -> Schema:
    """A list with these items, never an empty one: FHIR has none."""
    return {"type": "array", "items": items, "minItems": 1, **bounds}


def one_of(words: Sequence[str]) -> Schema:
    """One of these words."""
    return {"type": "string", "enum": list(words)}


def only(word: str) -> Schema:
    """This word."""
    return {"type": "string", "const": word}


def schemas(codes_system: str) -> Mapping[str, Schema]:
    """Every named schema of the document; `codes_system` is the code system of the error codes."""
    return {
        **_errors(codes_system),
        **_appointments(),
        **_results(codes_system),
        **_commands(),
        **_documents(),
    }


def error_with(codes: Sequence[Code]) -> Schema:
    """An OperationOutcome that carries one of these codes, with the FHIR issue type of each."""
    issues = sorted({CATALOGUE[code].issue for code in codes})
    coding = {"properties": {"code": {"enum": [code.value for code in codes]}}}
    details = {"properties": {"coding": {"items": coding}}}
    issue = {"properties": {"code": {"enum": issues}, "details": details}}
    return {"allOf": [ref("Refusal"), {"properties": {"issue": {"items": issue}}}]}


def _errors(codes_system: str) -> Mapping[str, Schema]:
    coding = exact({"system": only(codes_system), "code": ref("ErrorCode")})
    refusal = exact(
        {
            "severity": only("error"),
            "code": one_of(sorted({entry.issue for entry in CATALOGUE.values()})),
            "details": exact({"coding": listed(coding, maxItems=1)}),
            "diagnostics": TEXT,
            "expression": listed(TEXT, maxItems=1),
        },
        "expression",
    )
    told = exact({"severity": only("information"), "code": only("informational"), "diagnostics": TEXT})
    return {
        "ErrorCode": {
            "description": "Codes are added, never renamed.",
            "oneOf": [
                {"const": code.value, "title": f"{entry.status}", "description": entry.advice}
                for code, entry in CATALOGUE.items()
            ],
        },
        "Refusal": {
            "description": "A FHIR R4 OperationOutcome that says why nothing, or nothing certain, was done.",
            **exact({"resourceType": only("OperationOutcome"), "issue": listed(refusal, maxItems=1)}),
        },
        "Notice": {
            "description": "A FHIR R4 OperationOutcome that says how a write went.",
            **exact({"resourceType": only("OperationOutcome"), "issue": listed(told, maxItems=1)}),
        },
        "OAuthError": {
            "description": "RFC 6749, section 5.2.",
            **exact({"error": one_of([error.value for error in OAuthError]), "error_description": TEXT}),
        },
    }


def _appointments() -> Mapping[str, Schema]:
    known = {
        "resourceType": only("Appointment"),
        "id": ID,
        "meta": {"type": "object"},
        "status": one_of([status.value for status in Status]),
        "cancelationReason": {"type": "object"},
        "description": {"type": "string"},
        "start": {"type": "string"},
        "end": {"type": "string"},
        "minutesDuration": {"type": "number"},
        "comment": {"type": "string"},
        "participant": {"type": "array", "items": {"type": "object"}},
    }
    appointment = {
        "description": "A FHIR R4 Appointment as PKB has it, with every element that PKB holds.",
        "type": "object",
        "properties": known,
        "required": ["resourceType", "id", "status"],
    }
    link = exact({"relation": one_of(["self", "next"]), "url": URL})
    entry = exact({"fullUrl": URL, "resource": ref("Appointment"), "search": exact({"mode": only("match")})})
    bundle = {
        "resourceType": only("Bundle"),
        "type": only("searchset"),
        "link": listed(link, maxItems=2),
        "entry": listed(entry, maxItems=100),
    }
    return {
        "Appointment": appointment,
        "Bundle": {"description": "One page of hits; it has no total.", **exact(bundle, "entry")},
    }


def _results(codes_system: str) -> Mapping[str, Schema]:
    coding = exact({"system": only(codes_system), "code": TEXT})
    concept = exact({"coding": listed(coding, maxItems=1)})
    kind = exact({"text": one_of(["outcome", "code", "version"])})
    output = exact({"type": kind, "valueCode": TEXT, "valueString": TEXT}, "valueCode", "valueString")
    task = {
        "resourceType": only("Task"),
        "id": ID,
        "status": one_of([status.value for status in TaskStatus]),
        "intent": only("order"),
        "code": concept,
        "focus": exact({"reference": {"type": "string", "pattern": f"^Appointment/{RESOURCE_ID.pattern}$"}}),
        "authoredOn": INSTANT,
        "lastModified": INSTANT,
        "statusReason": concept,
        "businessStatus": concept,
        "output": listed(output),
        "note": listed(exact({"text": TEXT}), maxItems=1),
    }
    parts: Sequence[tuple[str, str, Schema]] = (
        ("allowed", "valueBoolean", _BOOLEAN),
        ("code", "valueCode", ref("ErrorCode")),
        ("until", "valueInstant", INSTANT),
        ("fields", "valueCode", one_of([field.value for field in Field])),
        ("reasons", "valueCode", TEXT),
    )
    part = {"oneOf": [exact({"name": only(name), value: schema}) for name, value, schema in parts]}
    offer = exact({"name": one_of([operation.value for operation in Operation]), "part": listed(part)})
    offered = exact({"resourceType": only("Parameters"), "parameter": listed(offer, minItems=3, maxItems=3)})
    return {
        "Task": {
            "description": "How a write stands. None of its text is PKB's.",
            **exact(task, "statusReason", "businessStatus", "output", "note"),
        },
        "Offers": {"description": "What this partner may do with the appointment now.", **offered},
    }


def _parameter(name: str, value: str, schema: Schema) -> Schema:
    return exact({"name": only(name), value: schema})


def _commands() -> Mapping[str, Schema]:
    string = {"type": "string", "minLength": 1, "pattern": r"\S"}
    coding = {"type": "object", "properties": {"system": only(CANCEL_REASON_SYSTEM), "code": ref("CancelReason")}}
    reason = {
        "type": "object",
        "properties": {"coding": listed(coding, maxItems=1), "text": {**string, "maxLength": 200}},
    }
    identifier = {
        "type": "object",
        "properties": {"system": only(NHS_NUMBER_SYSTEM), "value": {"type": "string", "pattern": "^[0-9]{10}$"}},
        "required": ["system", "value"],
    }
    shared = (
        _parameter("comment", "valueString", {**string, "maxLength": 500}),
        _parameter("patient", "valueIdentifier", identifier),
        _parameter("birthDate", "valueDate", {"type": "string", "format": "date"}),
    )
    cancel = (_parameter("reason", "valueCodeableConcept", reason), *shared)
    link = {"type": "string", "format": "uri", "pattern": "^https://", "maxLength": 500}
    change = (
        _parameter("start", "valueInstant", INSTANT),
        _parameter("end", "valueInstant", INSTANT),
        _parameter("location", "valueString", {**string, "maxLength": 200}),
        _parameter("managementUrl", "valueUrl", link),
        *shared,
    )
    return {
        "CancelReason": {"type": "string", "enum": sorted(CANCEL_REASONS)},
        "CancelParameters": {
            "description": "reason is required. Each parameter at most once.",
            **_parameters(cancel),
        },
        "ChangeParameters": {
            "description": "At least one of start, end, comment, location, managementUrl. Each at most once.",
            **_parameters(change),
        },
        "JsonPatch": _json_patch(),
    }


def _parameters(kinds: Sequence[Schema]) -> Schema:
    given = listed({"oneOf": list(kinds)}, maxItems=len(kinds))
    members = {"resourceType": only("Parameters"), "id": ID, "meta": {"type": "object"}, "parameter": given}
    return exact(members, "id", "meta")


def _json_patch() -> Schema:
    pointer = {"type": "string", "pattern": "^/"}
    step = {
        "type": "object",
        "properties": {
            "op": one_of(["add", "remove", "replace", "move", "copy", "test"]),
            "path": pointer,
            "from": pointer,
            "value": {},
        },
        "required": ["op", "path"],
        "additionalProperties": False,
    }
    return {"description": "RFC 6902.", **listed(step)}


def _documents() -> Mapping[str, Schema]:
    capabilities = {
        "resourceType": only("CapabilityStatement"),
        "status": only("active"),
        "date": TEXT,
        "kind": only("instance"),
        "software": exact({"name": TEXT, "version": TEXT}),
        "implementation": exact({"description": TEXT, "url": URL}),
        "fhirVersion": only("4.0.1"),
        "format": listed(TEXT),
        "patchFormat": listed(TEXT),
        "rest": listed({"type": "object"}, maxItems=1),
    }
    smart = {
        "issuer": URL,
        "jwks_uri": URL,
        "token_endpoint": URL,
        **{
            name: listed(TEXT)
            for name in (
                "grant_types_supported",
                "token_endpoint_auth_methods_supported",
                "token_endpoint_auth_signing_alg_values_supported",
                "scopes_supported",
                "capabilities",
            )
        },
    }
    token = {"access_token": TEXT, "token_type": only("bearer"), "expires_in": {"type": "integer"}, "scope": TEXT}
    return {
        "CapabilityStatement": exact(capabilities),
        "SmartConfiguration": exact(smart),
        "Token": exact(token),
        "KeySet": exact({"keys": {"type": "array", "items": {"type": "object", "required": ["kty", "kid", "alg"]}}}),
        "Ping": exact({"name": only("pkb-gateway"), "version": TEXT, "commit": TEXT}),
    }
