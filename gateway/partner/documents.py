"""Documents about the API itself; they need no token and are the same for every customer, known or not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from gateway.domain.codes import Code
from gateway.partner.answers import Answers, Resource, plain_json, resource
from gateway.partner.docs_page import docs_page
from gateway.partner.headers import Media
from gateway.partner.keys import ALGORITHMS
from gateway.partner.openapi import openapi_bytes
from gateway.partner.search import IDENTIFIER, PATIENT
from gateway.partner.signing_ring import SigningRing
from gateway.partner.table import Name, paths
from gateway.partner.token_endpoint import PATH as TOKEN_PATH

_OAUTH_URIS: Final = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
"""Where SMART App Launch 1 told the token address. Clients such as fhirclient still look nowhere else."""
_BASE: Final = "/{customer}/fhir/"
_INTERACTIONS: Final[Mapping[str, str]] = {
    "GET Appointment": "search-type",
    "GET Appointment/{id}": "read",
    "PUT Appointment/{id}": "update",
    "PATCH Appointment/{id}": "patch",
    "GET Task/{id}": "read",
}
"""Routes that are interactions of FHIR's RESTful API, in the words of the code system restful-interaction."""
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
            case Name.OPENAPI:
                return web.Response(body=self._openapi(), headers={"Content-Type": "application/json; charset=utf-8"})
            case Name.DOCS:
                page = docs_page(self._openapi())
                named = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": page.policy}
                return web.Response(body=page.body, headers={**named, "Referrer-Policy": "no-referrer"})
        return self.answers.error(Code.NOT_FOUND)

    def _openapi(self) -> bytes:
        """The OpenAPI document of this deployment."""
        return openapi_bytes(self.answers.public_url, self.answers.codes_system, self.version)

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
                            "interaction": _interactions("Appointment"),
                            "versioning": "versioned-update",
                            "updateCreate": False,
                            "searchParam": [
                                {"name": name, "type": kind, "documentation": told}
                                for name, (kind, told) in _SEARCH.items()
                            ],
                            "operation": _operations(self.answers.public_url),
                        },
                        {"type": "Task", "interaction": _interactions("Task")},
                    ],
                }
            ],
        }


def _interactions(kind: str) -> list[Resource]:
    """List what the table of routes lets a partner do with a type, in FHIR's words."""
    found = (f"{method} {path.removeprefix(_BASE)}" for path, routes in paths() for method in routes)
    return [
        {"code": _INTERACTIONS[each]}
        for each in found
        if each in _INTERACTIONS and each.split()[1].split("/")[0] == kind
    ]


def _operations(public_url: str) -> list[Resource]:
    """List the operations of the table of routes.

    `definition` is a canonical URL, a name: no OperationDefinition is served. The OpenAPI document defines them.
    """
    names = [path.rpartition("/$")[2] for path, _ in paths() if "/$" in path]
    return [
        {
            "name": name,
            "definition": f"{public_url}/OperationDefinition/Appointment-{name}",
            "documentation": f"Defined at {public_url}/openapi.json",
        }
        for name in names
    ]
