"""What one version of FHIR says otherwise than another, as far as reads and writes of an appointment meet it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.domain.strict_json import Object


@dataclass(frozen=True, slots=True)
class Dialect:
    """A version of FHIR as a box speaks it."""

    as_r4: Callable[[Object], Object]
    """An Appointment in R4, which rules judge and partners see. What is given stays as it is. Raises UpstreamFault."""
    put_reason: Callable[[Object, Object], None]
    """Put the reason of a cancel, a CodeableConcept, where this version keeps it. Raises NotExpressible."""
    place: Callable[[Object, str], Object]
    """A place that is only a name, instead of the actor that it was."""
    reason_shown: bool = True
    """Whether a cancel's reason that was written can be read again."""


def _as_it_is(document: Object) -> Object:
    return document


def _put_reason(new: Object, reason: Object) -> None:
    new["cancelationReason"] = reason


def _place(_: Object, display: str) -> Object:
    return {"type": "Location", "display": display}


R4: Final = Dialect(_as_it_is, _put_reason, _place)
