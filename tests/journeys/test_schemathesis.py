"""Requests that schemathesis makes of the OpenAPI document, good and bad ones, to a gateway in front of the sandbox."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from yarl import URL

from tests.journeys import contract
from tests.journeys.processes import Place, gateway_process

EXAMPLES = 25
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SCHEMA = schemathesis.openapi.from_dict(contract.document())
READ: list[Any] = list(SCHEMA.get_all_operations())
OPERATIONS = {each.ok().label: each.ok() for each in READ}
LIMITS = settings(
    max_examples=EXAMPLES,
    database=None,
    derandomize=True,
    # What fails is told as it was sent; to look for the shortest would send hundreds more.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def gateway(place: Place) -> Iterator[Place]:
    with gateway_process(place, "examined", '[limits]\nnot_found_step = "0s"') as running:
        yield running


def send(case: Case[Any], gateway: Place, session: requests.Session) -> Any:
    token = {"Authorization": f"Bearer {gateway.token('swiftbook')}"} if case.operation.security else {}
    answer = case.call(base_url=gateway.gateway_url, session=session, headers=token, allow_redirects=False)
    assert answer.status_code < 500, answer.content
    return answer


def hold(answer: Any) -> None:
    sent = answer.request
    path = URL(sent.url, encoded=True).raw_path_qs
    headers = {name: ", ".join(values) for name, values in answer.headers.items()}
    contract.hold(sent.method, path, answer.status_code, headers, answer.content)


@pytest.mark.parametrize("label", OPERATIONS)
def test_what_the_document_allows_is_answered_as_it_says(label: str, gateway: Place) -> None:
    booked = [each["id"] for each in gateway.told["appointments"] if each["customer"] == "airedale"]
    strategy = OPERATIONS[label].as_strategy(generation_mode=GenerationMode.POSITIVE)

    @LIMITS
    @given(case=strategy, id_=st.sampled_from(booked))
    def examine(case: Case[Any], id_: str) -> None:
        known = {"customer": "airedale", "id": id_}
        case.path_parameters = {name: known[name] for name in case.path_parameters or {}}
        answer = send(case, gateway, session)
        case.validate_response(answer, checks=CHECKS)
        hold(answer)

    with requests.Session() as session:
        examine()


@pytest.mark.parametrize("label", OPERATIONS)
def test_what_the_document_forbids_is_answered_as_it_says(label: str, gateway: Place) -> None:
    strategy = OPERATIONS[label].as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @LIMITS
    @given(case=strategy)
    def examine(case: Case[Any]) -> None:
        hold(send(case, gateway, session))

    with requests.Session() as session:
        examine()
