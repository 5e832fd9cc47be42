"""Examples for the OpenAPI document: nobody's data, with an NHS number that is set aside for tests."""

from collections.abc import Mapping
from typing import Final

from gateway.domain.appointment import CANCEL_REASON_SYSTEM, NHS_NUMBER_SYSTEM
from gateway.domain.codes import CATALOGUE, Code

_APPOINTMENT: Final = {
    "resourceType": "Appointment",
    "id": "a1",
    "meta": {"versionId": "3"},
    "status": "booked",
    "description": "Outpatient appointment",
    "start": "2030-05-14T09:30:00+01:00",
    "end": "2030-05-14T10:00:00+01:00",
    "comment": "Please bring your letter.",
    "participant": [{"actor": {"reference": "Patient/p1"}, "status": "accepted"}],
}
_WHO: Final = [
    {"name": "patient", "valueIdentifier": {"system": NHS_NUMBER_SYSTEM, "value": "9000000009"}},
    {"name": "birthDate", "valueDate": "1971-02-03"},
]
_REASON: Final = {
    "name": "reason",
    "valueCodeableConcept": {"coding": [{"system": CANCEL_REASON_SYSTEM, "code": "pat"}]},
}
_START: Final = {"name": "start", "valueInstant": "2030-05-16T09:30:00+01:00"}
_END: Final = {"name": "end", "valueInstant": "2030-05-16T10:00:00+01:00"}

_HERE: Final = "https://gateway.example/airedale/fhir"


def refusal(codes_system: str, code: Code) -> Mapping[str, object]:
    """An OperationOutcome as it is sent for a code."""
    entry = CATALOGUE[code]
    issue = {
        "severity": "error",
        "code": entry.issue,
        "details": {"coding": [{"system": codes_system, "code": code.value}]},
        "diagnostics": entry.advice,
    }
    return {"resourceType": "OperationOutcome", "issue": [issue]}


EXAMPLES: Final[Mapping[str, Mapping[str, object]]] = {
    "CancelParameters": {
        "cancel": {"value": {"resourceType": "Parameters", "parameter": [_REASON]}},
        "with the patient proven": {"value": {"resourceType": "Parameters", "parameter": [_REASON, *_WHO]}},
    },
    "ChangeParameters": {
        "move": {"value": {"resourceType": "Parameters", "parameter": [_START, _END]}},
    },
    "Appointment": {"booked": {"value": _APPOINTMENT}},
    "Offers": {
        "only a cancel": {
            "value": {
                "resourceType": "Parameters",
                "parameter": [
                    {"name": "read", "part": [{"name": "allowed", "valueBoolean": True}]},
                    {
                        "name": "change",
                        "part": [
                            {"name": "allowed", "valueBoolean": False},
                            {"name": "code", "valueCode": "operation-not-granted"},
                        ],
                    },
                    {
                        "name": "cancel",
                        "part": [
                            {"name": "allowed", "valueBoolean": True},
                            {"name": "until", "valueInstant": "2030-05-12T08:30:00Z"},
                            {"name": "reasons", "valueCode": "pat"},
                        ],
                    },
                ],
            }
        },
    },
    "Bundle": {
        "one hit": {
            "value": {
                "resourceType": "Bundle",
                "type": "searchset",
                "link": [{"relation": "self", "url": f"{_HERE}/Appointment?_cursor=AAAA"}],
                "entry": [
                    {
                        "fullUrl": f"{_HERE}/Appointment/a1",
                        "resource": _APPOINTMENT,
                        "search": {"mode": "match"},
                    }
                ],
            }
        },
    },
    "Notice": {
        "accepted": {
            "value": {
                "resourceType": "OperationOutcome",
                "issue": [
                    {
                        "severity": "information",
                        "code": "informational",
                        "diagnostics": "PKB accepted the message. Follow the Task at Content-Location until it ends.",
                    }
                ],
            }
        },
    },
    "Token": {
        "token": {
            "value": {
                "access_token": "eyJ0eXAiOiJhdCtqd3QifQ.e30.AA",
                "token_type": "bearer",
                "expires_in": 300,
                "scope": "system/Appointment.rus",
            }
        },
    },
    "Ping": {"ping": {"value": {"name": "pkb-gateway", "version": "1.0.0", "commit": "unknown"}}},
    "JsonPatch": {
        "cancel": {
            "value": [
                {"op": "replace", "path": "/status", "value": "cancelled"},
                {
                    "op": "add",
                    "path": "/cancelationReason",
                    "value": {"coding": [{"system": CANCEL_REASON_SYSTEM, "code": "pat"}]},
                },
            ]
        },
    },
    "search-form": {
        "by patient": {"value": {"patient.identifier": f"{NHS_NUMBER_SYSTEM}|9000000009", "date": ["ge2030-01-01"]}},
    },
}
