"""FHIR STU3 towards the box, R4 towards everybody else.

What PKB gets back is always its own STU3 document with a few values replaced, never one converted twice.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.domain.strict_json import Object, Value
from gateway.pkb.appointment_reading import ACTOR_TYPE, is_location, marks
from gateway.pkb.appointment_writing import NotExpressible
from gateway.pkb.dialect import Dialect

CANCELATION_REASON: Final = "http://hl7.org/fhir/4.0/StructureDefinition/extension-Appointment.cancelationReason"
"""Where STU3 keeps what only R4 has: FHIR's rule for an element of another version (R4, versions, "extensions")."""

_RENAMED: Final[Mapping[str, str]] = MappingProxyType(
    {"reason": "reasonCode", "indication": "reasonReference", "incomingReferral": "basedOn"}
)
_IDENTIFYING: Final = frozenset({"type", "reference", "identifier"})


def as_r4(document: Object) -> Object:
    """Tell an STU3 Appointment in R4 (FHIR R4, Appointment, "R3 diff"). Raises UpstreamFault.

    Everything without another form in R4 stays as written, unknown elements too, and in its place.
    """
    new: Object = {}
    for name, value in document.items():
        match name, value:
            case "serviceCategory", dict():
                new[name] = [value]
            case "participant", list():
                new[name] = [_participant(each, document) for each in value]
            case _:
                renamed = _RENAMED.get(name, name)
                # Boxes check little: an element of R4 may be there already, and must not get lost.
                new[name if renamed in document else renamed] = value
    reasons, others = _extensions(document.get("extension"))
    reason = reasons[0].get("valueCodeableConcept") if len(reasons) == 1 else None
    if isinstance(reason, dict):
        new["cancelationReason"] = reason
        _set_extensions(new, others)
    return new


def _participant(participant: Value, document: Object) -> Value:
    """Say of a place that only PKB's extension marks that it is one; whoever else is named keeps the last word."""
    actor = participant.get("actor") if isinstance(participant, dict) else None
    if not isinstance(participant, dict) or not isinstance(actor, dict):
        return participant
    if not _IDENTIFYING.isdisjoint(actor) or not is_location(actor, document):
        return participant
    return participant | {"actor": actor | {"type": "Location"}}


def _put_reason(new: Object, reason: Object) -> None:
    _, others = _writable_extensions(new)
    _set_extensions(new, [*others, {"url": CANCELATION_REASON, "valueCodeableConcept": reason}])


def _drop_reason(new: Object, _: Object) -> None:
    """Keep no reason; least of all an old one, which would pass for the reason of this cancel."""
    reasons, others = _writable_extensions(new)
    if reasons:
        _set_extensions(new, others)


def _place(old: Object, display: str) -> Object:
    """Name a place. STU3 references have no type, so PKB's extension says what it is, as written where there is one."""
    held: list[Value] = [each for each in _objects(old.get("extension")) if marks(each, "Location")]
    return {"extension": held or [{"url": ACTOR_TYPE, "valueCode": "Location"}], "display": display}


def _extensions(held: Value) -> tuple[list[Object], list[Value]]:
    """Tell the reasons of a cancel from all other extensions."""
    reasons = [each for each in _objects(held) if _is_reason(each)]
    return reasons, [each for each in held if not _is_reason(each)] if isinstance(held, list) else []


def _is_reason(extension: Value) -> bool:
    return isinstance(extension, dict) and extension.get("url") == CANCELATION_REASON


def _writable_extensions(document: Object) -> tuple[list[Object], list[Value]]:
    held = document.get("extension", [])
    if not isinstance(held, list):
        raise NotExpressible("extension is no array")
    return _extensions(held)


def _set_extensions(new: Object, extensions: list[Value]) -> None:
    if extensions:
        new["extension"] = extensions
    else:
        # FHIR has no empty arrays.
        new.pop("extension", None)


def _objects(held: Value) -> list[Object]:
    return [each for each in held if isinstance(each, dict)] if isinstance(held, list) else []


STU3: Final = Dialect(as_r4, _put_reason, _place)
STU3_WITHOUT_REASON: Final = Dialect(as_r4, _drop_reason, _place, reason_shown=False)
"""For boxes whose owner wants no extension that is not PKB's; why an appointment was cancelled is told nowhere."""
