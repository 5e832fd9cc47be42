"""The demonstration's resources in FHIR STU3, where it differs from R4.

A Reference has no `type` in STU3: what an actor is, an extension says. There is no `cancelationReason`; `reason` is
what R4 calls `reasonCode`, and `serviceCategory` is single.
"""

from typing import Any, Final

from gateway.simulator.resources import PKB
from gateway.simulator.store import Resource

ACTOR_TYPE: Final = f"{PKB}/structuredefinition/appointment-actor-type"


def appointment(r4: Resource) -> Resource:
    """An R4 appointment of the demonstration, as a box of the older version holds it."""
    resource = {name: value for name, value in r4.items() if name != "cancelationReason"}
    resource["serviceCategory"] = {"coding": [{"system": "urn:pas:service-category", "code": "outpatients"}]}
    resource["reason"] = [{"text": "Follow-up after treatment"}]
    resource["participant"] = [{**person, "actor": _actor(person["actor"])} for person in r4["participant"]]
    return resource


def _actor(actor: Resource) -> dict[str, Any]:
    kind = actor.get("type")
    plain = {name: value for name, value in actor.items() if name != "type"}
    return plain if kind is None else {**plain, "extension": [{"url": ACTOR_TYPE, "valueString": kind}]}
