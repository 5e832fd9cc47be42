"""What IHE's Basic Audit Log Patterns ask of an AuditEvent, as far as their profiles say it in slices and counts.

Written from the profiles, not from the code that is to follow them.
"""

from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
HL7 = "http://terminology.hl7.org/CodeSystem/"
ENTITY = f"{HL7}audit-entity-type"
SOURCE, DESTINATION, APPLICATION = (DCM, "110153"), (DCM, "110152"), (DCM, "110150")


def code_of(coding: Json) -> tuple[str, str]:
    return coding["system"], coding["code"]


def agents(event: Json, type_: tuple[str, str]) -> list[Json]:
    return [each for each in event["agent"] if code_of(each["type"]["coding"][0]) == type_]


def entities(event: Json, type_: tuple[str, str]) -> list[Json]:
    return [each for each in event["entity"] if code_of(each["type"]) == type_]


def connected(event: Json, type_: tuple[str, str]) -> None:
    [agent] = agents(event, type_)
    assert agent["who"]
    assert agent["network"]["address"]
    assert "media" not in agent


def subtypes(event: Json) -> set[tuple[str, str]]:
    return {code_of(each) for each in event["subtype"]}


def is_rest(event: Json, action: str, words: set[str], client: tuple[str, str], server: tuple[str, str]) -> None:
    assert code_of(event["type"]) == (f"{HL7}audit-event-type", "rest")
    assert (event["action"], event["outcome"]) == (action, "0")
    assert subtypes(event) & {("http://hl7.org/fhir/restful-interaction", word) for word in words}
    connected(event, client)
    connected(event, server)
    for entity in entities(event, ("https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "XrequestId")):
        assert entity["what"]["identifier"]["value"]


def has_data(event: Json) -> None:
    [entity] = entities(event, (ENTITY, "2"))
    assert code_of(entity["role"]) == (f"{HL7}object-role", "4")
    assert entity["what"]["identifier"]["value"]


def has_patient(event: Json) -> None:
    [entity] = entities(event, (ENTITY, "1"))
    assert code_of(entity["role"]) == (f"{HL7}object-role", "1")
    assert entity["what"]["type"] == "Patient"


def read(event: Json) -> None:
    is_rest(event, "R", {"read", "vread"}, DESTINATION, SOURCE)
    has_data(event)


def update(event: Json) -> None:
    is_rest(event, "U", {"update", "patch"}, SOURCE, DESTINATION)
    has_data(event)


def query(event: Json) -> None:
    is_rest(event, "E", {"search", "search-type"}, SOURCE, DESTINATION)
    [entity] = entities(event, (ENTITY, "2"))
    assert code_of(entity["role"]) == (f"{HL7}object-role", "24")
    assert entity["query"]
    assert not entity.keys() & {"what", "lifecycle", "detail"}


def authorisation(event: Json) -> None:
    assert code_of(event["type"]) == (DCM, "110113")
    assert subtypes(event) == {("https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType", "AuthZ-Consent")}
    assert event["action"] == "E"
    connected(event, APPLICATION)
    [user] = agents(event, (f"{HL7}v3-ParticipationType", "IRCP"))
    assert (user["requestor"], "network" in user) == (True, False)
    [organisation] = agents(event, (f"{HL7}v3-RoleClass", "PROV"))
    [server] = agents(event, (f"{HL7}extra-security-role-type", "authserver"))
    for agent in (organisation, server):
        assert (agent["requestor"], "network" in agent) == (False, False)
    assert server["who"] == event["source"]["observer"]
    has_patient(event)
    consents = entities(event, ("http://hl7.org/fhir/resource-types", "Consent"))
    assert [bool(each["what"]) for each in consents] == [True]
    assert len(event["entity"]) == len(consents) + 1


def token(event: Json) -> None:
    assert code_of(event["type"]) == (DCM, "110114")
    assert subtypes(event) == {("urn:ihe:event-type-code", "ITI-71")}
    assert (event["action"], event["outcome"], len(event["agent"])) == ("E", "0", 2)
    connected(event, APPLICATION)
    connected(event, ("https://profiles.ihe.net/ITI/BALP/CodeSystem/UserAgentTypes", "AuthzOauthService"))
    [entity] = event["entity"]
    assert (code_of(entity["type"]), code_of(entity["role"])) == ((ENTITY, "2"), (f"{HL7}object-role", "24"))
    assert (bool(entity["query"]), "what" in entity) == (True, False)


def with_patient(pattern: Callable[[Json], None]) -> Callable[[Json], None]:
    def both(event: Json) -> None:
        pattern(event)
        has_patient(event)

    return both


PATTERNS: dict[str, Callable[[Json], None]] = {
    "IHE.BasicAudit.Read": read,
    "IHE.BasicAudit.PatientRead": with_patient(read),
    "IHE.BasicAudit.Update": update,
    "IHE.BasicAudit.PatientUpdate": with_patient(update),
    "IHE.BasicAudit.Query": query,
    "IHE.BasicAudit.PatientQuery": with_patient(query),
    "IHE.BasicAudit.AuthZconsent": authorisation,
    "IHE.IUA.71": token,
}


def assert_fits(event: Json) -> str | None:
    """Hold an event against the profile that it names; gives the profile's name."""
    if "profile" not in event["meta"]:
        return None
    [profile] = event["meta"]["profile"]
    name: str = profile.removeprefix(BALP)
    PATTERNS[name](event)
    return name
