"""Audit records as FHIR R4 AuditEvents, after the Basic Audit Log Patterns of IHE (BALP 1.1).

A profile is named only where an event has all that it asks for. Nothing is added that the record does not say; what no
element of AuditEvent holds stands as `detail` of one entity.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from gateway.domain.chain import Record
from gateway.domain.codes import CATALOGUE, Code
from gateway.storage.audit_details import details
from gateway.storage.journal_records import stamp

Json = dict[str, Any]
Coding = Mapping[str, str]

BALP: Final = "https://profiles.ihe.net/ITI/BALP"
OWN: Final = "https://pkb-gateway.example/audit"
"""Where the ids of this gateway's own things are at home: `/partner`, `/customer`, `/appointment` and so on."""

_DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_LIFECYCLE: Final = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
_TERMS: Final = "http://terminology.hl7.org/CodeSystem"
_TYPES: Final = "http://hl7.org/fhir/resource-types"


def _coding(system: str, code: str, display: str) -> Coding:
    return {"system": system, "code": code, "display": display}


def _dicom(code: int, display: str) -> Coding:
    return _coding(_DCM, str(code), display)


REST: Final = _coding(f"{_TERMS}/audit-event-type", "rest", "RESTful Operation")
SECURITY_ALERT: Final = _dicom(110113, "Security Alert")
USER_AUTHENTICATION: Final = _dicom(110114, "User Authentication")
APPLICATION_ACTIVITY: Final = _dicom(110100, "Application Activity")
_SOURCE, _DESTINATION = _dicom(110153, "Source Role ID"), _dicom(110152, "Destination Role ID")
_APPLICATION: Final = _dicom(110150, "Application")
_PERSON: Final = _coding(f"{_TERMS}/audit-entity-type", "1", "Person")
_SYSTEM_OBJECT: Final = _coding(f"{_TERMS}/audit-entity-type", "2", "System Object")
_OTHER: Final = _coding(f"{_TERMS}/audit-entity-type", "4", "Other")
_REQUEST: Final = {"system": f"{BALP}/CodeSystem/BasicAuditEntityType", "code": "XrequestId"}
_QUERY: Final = _coding(f"{_TERMS}/object-role", "24", "Query")
_CONSENT_DECISION: Final = _coding(
    f"{BALP}/CodeSystem/AuthZsubType", "AuthZ-Consent", "Authorization Decision using Roles and Consent"
)
_RECIPIENT: Final = _coding(f"{_TERMS}/v3-ParticipationType", "IRCP", "information recipient")
_PROVIDER: Final = _coding(f"{_TERMS}/v3-RoleClass", "PROV", "healthcare provider")
_AUTHORISER: Final = _coding(f"{_TERMS}/extra-security-role-type", "authserver", "authorization server")
_TOKEN_SERVICE: Final = {"system": f"{BALP}/CodeSystem/UserAgentTypes", "code": "AuthzOauthService"}
_HUMAN: Final = _coding(f"{_TERMS}/extra-security-role-type", "humanuser", "human user")
_WORSE: Final = frozenset({Code.AUDIT_UNAVAILABLE, Code.STATE_UNAVAILABLE})
_PROXY: Final = _coding(f"{_TERMS}/security-source-type", "4", "Application Server")

_SERVER_ERROR: Final = 500

Action = Literal["C", "R", "U", "D", "E"]


@dataclass(slots=True)
class _Shape:
    """What differs from event to event."""

    type: Coding
    subtype: list[Coding]
    action: Action
    agents: list[Json]
    entities: list[Json]
    profile: str | None = None
    """Name of the BALP profile that the event fits."""
    outcome: str | None = None
    """None: told by the record's code."""


@dataclass(frozen=True, slots=True)
class _Told:
    """A record and the name of the gateway that wrote it, with the agents and entities that can be made of them."""

    record: Record
    site: str

    @property
    def gateway(self) -> Json:
        """The gateway's name."""
        return _thing("gateway", self.site, "Device")

    @property
    def patient(self) -> list[Json]:
        """The patient by the pseudonym, where PKB was read."""
        pseudonym = self.record["patient"]
        role = _coding(f"{_TERMS}/object-role", "1", "Patient")
        return [_entity(_PERSON, _thing("patient", pseudonym, "Patient"), role=role)] if pseudonym else []

    @property
    def asked(self) -> bool:
        """Whether a known partner asked from a known address."""
        return bool(self.record["partner"] and self.record["client"])

    def client(self, type_: Coding, *, requestor: bool = True) -> Json:
        """The partner as the program that connected."""
        record = self.record
        partner, address, token = record["partner"], record["client"], (record["token"] or {}).get("jti")
        who = _thing("partner", partner, "Device") if partner else {"display": "unknown caller"}
        agent = _agent(type_, who, requestor=requestor)
        # FHIR's uri knows no blanks; the id of a foreign token may be anything.
        if token and not any(map(str.isspace, token)):
            agent["policy"] = [token]
        return agent | ({"network": {"address": address, "type": "2"}} if address else {})

    def server(self, type_: Coding, *, network: bool = True) -> Json:
        """The gateway."""
        agent = _agent(type_, self.gateway, requestor=False)
        return agent | ({"network": {"address": self.site, "type": "1"}} if network else {})

    def on_behalf(self) -> list[Json]:
        """The customer, where one was named."""
        customer = self.record["customer"]
        return [_agent(_PROVIDER, _thing("customer", customer, "Organization"), requestor=False)] if customer else []

    def person(self) -> Json:
        """The operator."""
        name = self.record["operator"] or "unknown"
        return {**_agent(_HUMAN, {"display": name}, requestor=True), "name": name}

    def request(self) -> list[Json]:
        """The request, with all that no other element holds; for what nobody asked the record itself."""
        number, found = self.record["request_id"], details(self.record)
        if number is None:
            return [_entity(_OTHER, _thing("chain", self.record["chain"]), detail=found)]
        return [_entity(_REQUEST, {"identifier": {"value": number}}, detail=found)]

    def data(self) -> list[Json]:
        """What was asked for: the appointment, else a Task."""
        role = _coding(f"{_TERMS}/object-role", "4", "Domain Resource")
        for kind in ("appointment", "task"):
            if self.record[kind]:
                return [_entity(_SYSTEM_OBJECT, _thing(kind, self.record[kind], kind.capitalize()), role=role)]
        return []


def audit_event(record: Record, site: str) -> Json:
    """Tell a whole record as an AuditEvent. `site`: by which name the gateway goes. Raises KeyError, TypeError."""
    told = _Told(record, site)
    shape = _SHAPES.get(record["event"], _other)(told)
    name, place = record["event"], f"{record['chain']}:{record['seq']}:{record['hash']}"
    meta: Json = {"source": f"urn:pkb-gateway:{place}", "tag": [{"system": f"{OWN}/event", "code": name}]}
    if shape.profile is not None:
        meta["profile"] = [f"{BALP}/StructureDefinition/IHE.BasicAudit.{shape.profile}"]
        if shape.profile.startswith("IHE."):
            meta["profile"] = [f"{BALP}/StructureDefinition/{shape.profile}"]
    described = record["code"] or record["outcome"]
    return {
        "resourceType": "AuditEvent",
        "id": f"{record['chain']}.{record['seq']}",
        "meta": meta,
        "type": shape.type,
        **({"subtype": shape.subtype} if shape.subtype else {}),
        "action": shape.action,
        **_period(record),
        "recorded": record["time"],
        "outcome": shape.outcome or _outcome(record["code"]),
        **({"outcomeDesc": described} if described else {}),
        "agent": shape.agents,
        "source": {"site": site, "observer": told.gateway, "type": [_PROXY]},
        "entity": shape.entities,
    }


def _thing(kind: str, value: str, type_: str | None = None) -> Json:
    what: Json = {"identifier": {"system": f"{OWN}/{kind}", "value": value}}
    return {"type": type_, **what} if type_ else what


def _agent(type_: Coding, who: Json, *, requestor: bool) -> Json:
    return {"type": {"coding": [type_]}, "who": who, "requestor": requestor}


def _entity(type_: Coding, what: Json | None, role: Coding | None = None, **more: Any) -> Json:
    entity: Json = {"what": what} if what else {}
    entity["type"] = type_
    if role is not None:
        entity["role"] = role
    return entity | {name: value for name, value in more.items() if value}


def _outcome(code: str | None) -> str:
    """0 success, 4 refused, 8 failed, 12 the gateway could not work at all."""
    if code is None:
        return "0"
    try:
        known = Code(code)
    except ValueError:
        return "4"
    if known in _WORSE:
        return "12"
    return "8" if CATALOGUE[known].status >= _SERVER_ERROR else "4"


def _period(record: Record) -> Json:
    took = record["duration_ms"]
    if took is None:
        return {}
    began = datetime.fromisoformat(record["time"]) - timedelta(milliseconds=took)
    return {"period": {"start": stamp(began), "end": record["time"]}}


def _interaction(name: str) -> Coding:
    return _coding("http://hl7.org/fhir/restful-interaction", name, name)


def _for_patient(told: _Told, profile: str) -> str:
    return f"Patient{profile}" if told.patient else profile


def _rest(told: _Told, interaction: str, action: Action) -> _Shape:
    """A REST interaction, however it ended. What is read flows from the gateway, what is written to it."""
    reads = action == "R"
    agents = [
        told.client(_DESTINATION if reads else _SOURCE),
        told.server(_SOURCE if reads else _DESTINATION),
        *told.on_behalf(),
    ]
    return _Shape(REST, [_interaction(interaction)], action, agents, [*told.data(), *told.patient, *told.request()])


def _read(told: _Told) -> _Shape:
    shape = _rest(told, "read", "R")
    if told.asked and told.data():
        shape.profile = _for_patient(told, "Read")
    return shape


def _search(told: _Told) -> _Shape:
    shape = _rest(told, "search", "E")
    # What was asked for holds an NHS number and is never recorded.
    path = f"/{told.record['customer']}/fhir/Appointment".encode()
    query = _entity(_SYSTEM_OBJECT, None, _QUERY, query=base64.b64encode(path).decode())
    shape.entities = [query, *told.patient, *told.request()]
    if told.asked:
        shape.profile = _for_patient(told, "Query")
    return shape


def _written(told: _Told) -> _Shape:
    shape = _rest(told, "update", "U")
    if told.record["outcome"] == "applied" and told.asked and told.data():
        shape.profile = _for_patient(told, "Update")
    return shape


def _decision(told: _Told) -> _Shape:
    """A permit or a refusal by the rules: the grant stands where the pattern has a consent."""
    record, partner = told.record, told.record["partner"]
    agents = [
        told.client(_APPLICATION, requestor=not partner),
        *([_agent(_RECIPIENT, _thing("partner", partner, "Organization"), requestor=True)] if partner else []),
        *told.on_behalf(),
        told.server(_AUTHORISER, network=False),
    ]
    grant = _entity(
        _coding(_TYPES, "Consent", "Consent"), _thing("grant", record["grant"]) if record["grant"] else None
    )
    shape = _Shape(SECURITY_ALERT, [_CONSENT_DECISION], "E", agents, [])
    if record["grant"] and told.patient and told.asked and record["customer"]:
        # This pattern has no room for further entities.
        shape.profile = "AuthZconsent"
        asked = [("request_id", record["request_id"]), ("appointment", record["appointment"])]
        more = [{"type": name, "valueString": value} for name, value in asked if value]
        shape.entities = [*told.patient, {**grant, "detail": [*more, *details(record)]}]
        return shape
    shape.entities = [*told.data(), *told.patient, *([grant] if record["grant"] else []), *told.request()]
    return shape


def _refused(told: _Told) -> _Shape:
    if told.record["checks"]:
        return _decision(told)
    match told.record["operation"]:
        case "change" | "cancel":
            return _rest(told, "update", "U")
        case _:
            return _rest(told, "read", "R")


def _token_issued(told: _Told) -> _Shape:
    asked = base64.b64encode(b"grant_type=client_credentials").decode()
    number = told.record["request_id"]
    found = [*([{"type": "request_id", "valueString": number}] if number else []), *details(told.record)]
    request = _entity(_SYSTEM_OBJECT, None, _QUERY, query=asked, detail=found)
    subtype = _coding("urn:ihe:event-type-code", "ITI-71", "Get Access Token")
    agents = [told.client(_APPLICATION), told.server(_TOKEN_SERVICE)]
    return _Shape(USER_AUTHENTICATION, [subtype], "E", agents, [request], "IHE.IUA.71" if told.asked else None)


def _stranger(told: _Told) -> _Shape:
    agents = [told.client(_APPLICATION), told.server(_AUTHORISER)]
    return _Shape(USER_AUTHENTICATION, [_dicom(110122, "Login")], "E", agents, told.request(), outcome="4")


def _by_person(shape: Callable[[_Told], _Shape]) -> Callable[[_Told], _Shape]:
    """An operator did it; the partner is the one concerned, and is among the details."""

    def of(told: _Told) -> _Shape:
        made = shape(told)
        made.agents = [told.person(), told.server(_APPLICATION), *told.on_behalf()]
        made.profile = None
        return made

    return of


def _blocked(told: _Told) -> _Shape:
    subtype = _dicom(110137, "User Security Attributes Changed")
    return _Shape(SECURITY_ALERT, [subtype], "E", [], told.request(), outcome="0")


def _own(type_: Coding, subtype: Coding | None, action: Action) -> Callable[[_Told], _Shape]:
    """What the gateway did by itself."""

    def of(told: _Told) -> _Shape:
        agents = [{**told.server(_APPLICATION), "requestor": True}]
        return _Shape(type_, [subtype] if subtype else [], action, agents, told.request())

    return of


_other: Final = _own(APPLICATION_ACTIVITY, None, "E")
_CONFIGURED: Final = _own(SECURITY_ALERT, _dicom(110129, "Security Configuration"), "E")
_SHAPES: Final[Mapping[str, Callable[[_Told], _Shape]]] = {
    "read": _read,
    "replayed": _read,
    "search": _search,
    "intent": _decision,
    "outcome": _written,
    "refused": _refused,
    "token-issued": _token_issued,
    "authentication-refused": _stranger,
    "suppressed": _stranger,
    "task-resolved": _by_person(_written),
    "explained": _by_person(_read),
    "blocked": _by_person(_blocked),
    "grants-loaded": _CONFIGURED,
    "grants-refused": _CONFIGURED,
    "start": _own(APPLICATION_ACTIVITY, _dicom(110120, "Application Start"), "E"),
    "stop": _own(APPLICATION_ACTIVITY, _dicom(110121, "Application Stop"), "E"),
    "checkpoint": _own(_coding(_LIFECYCLE, "attest", "Attest Record Lifecycle Event"), None, "E"),
    "segments-removed": _own(_coding(_LIFECYCLE, "destroy", "Destroy/Delete Record Lifecycle Event"), None, "D"),
}
