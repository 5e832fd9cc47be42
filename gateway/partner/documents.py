"""Documents about the API itself; they need no token and are the same for every customer, known or not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from gateway.domain.codes import Code
from gateway.partner.answers import Answers, Resource, plain_json, resource
from gateway.partner.headers import Media
from gateway.partner.keys import ALGORITHMS
from gateway.partner.search import IDENTIFIER, PATIENT
from gateway.partner.signing_ring import SigningRing
from gateway.partner.table import Name
from gateway.partner.token_endpoint import PATH as TOKEN_PATH

_OAUTH_URIS: Final = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
"""Where SMART App Launch 1 told the token address. Clients such as fhirclient still look nowhere else."""
_OPERATIONS: Final = ("cancel", "change", "actions")
_SEARCH: Final = {
    PATIENT: ("token", "One of this and identifier is required: a business identifier of the patient, system|value."),
    IDENTIFIER: ("token", "A business identifier of the appointment, system|value."),
    "date": ("date", "The start. May be repeated; eq, gt, lt, ge, le. Without offset: the customer's zone."),
    "status": ("token", "One status, or several with commas between."),
}


@dataclass(frozen=True, slots=True)
class Documents:
    """Renders the documents of one deployment. `released` is the date of this version, `commit` its source."""

    answers: Answers
    keys: SigningRing
    version: str
    commit: str
    released: str

    def answer(self, name: Name, customer: str | None) -> web.Response:
        """Answer the routes that are open to everybody."""
        match name:
            case Name.PING:
                return plain_json({"name": "pkb-gateway", "version": self.version, "commit": self.commit})
            case Name.JWKS:
                return plain_json(self.keys.public_jwks())
            case Name.SMART_CONFIGURATION:
                return plain_json(self._smart_configuration())
            case Name.METADATA:
                return resource(200, self._capability_statement(f"{self.answers.public_url}/{customer}/fhir"), {})
        return self.answers.error(Code.NOT_FOUND)

    def _smart_configuration(self) -> Mapping[str, object]:
        """SMART App Launch 2, Backend Services: the members its discovery page asks for."""
        here = self.answers.public_url
        return {
            "issuer": here,
            "jwks_uri": f"{here}/.well-known/jwks.json",
            "token_endpoint": f"{here}{TOKEN_PATH}",
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": sorted(ALGORITHMS),
            "scopes_supported": [f"system/Appointment.{letters}" for letters in ("r", "s", "u", "rs", "ru", "rus")],
            "capabilities": ["client-confidential-asymmetric", "permission-v2"],
        }

    def _capability_statement(self, base: str) -> Resource:
        """FHIR R4 CapabilityStatement of kind `instance`."""
        definition = f"{self.answers.public_url}/OperationDefinition"
        return {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": self.released,
            "kind": "instance",
            "software": {"name": "PKB Partner Appointment Gateway", "version": self.version},
            "implementation": {"description": "Appointments of one customer, for its partners", "url": base},
            "fhirVersion": "4.0.1",
            "format": ["application/fhir+json", "json"],
            "patchFormat": list(Media.JSON_PATCH.value),
            "rest": [
                {
                    "mode": "server",
                    "security": {
                        "extension": [
                            {
                                "url": _OAUTH_URIS,
                                "extension": [{"url": "token", "valueUri": f"{self.answers.public_url}{TOKEN_PATH}"}],
                            }
                        ],
                        "cors": False,
                        "service": [
                            {
                                "coding": [
                                    {
                                        "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                                        "code": "SMART-on-FHIR",
                                    }
                                ]
                            }
                        ],
                    },
                    "resource": [
                        {
                            "type": "Appointment",
                            "interaction": [{"code": code} for code in ("read", "update", "patch", "search-type")],
                            "versioning": "versioned-update",
                            "updateCreate": False,
                            "searchParam": [
                                {"name": name, "type": kind, "documentation": told}
                                for name, (kind, told) in _SEARCH.items()
                            ],
                            "operation": [
                                {"name": name, "definition": f"{definition}/Appointment-{name}"} for name in _OPERATIONS
                            ],
                        },
                        {"type": "Task", "interaction": [{"code": "read"}]},
                    ],
                }
            ],
        }
