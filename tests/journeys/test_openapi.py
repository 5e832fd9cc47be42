"""The documents that a gateway serves to everybody, over real sockets."""

import json
import re

import pytest

from gateway import __version__
from gateway.partner.openapi import openapi_bytes
from tests.journeys import contract
from tests.journeys.partner import Client


async def test_the_document_that_is_served_is_the_one_that_answers_are_held_against(client: Client) -> None:
    reply = await client.ask("GET", "/openapi.json", token="")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert reply.raw == openapi_bytes(client.place.gateway_url, contract.CODES, __version__)
    assert reply.body == {**contract.document(), **{name: reply.body[name] for name in ("servers", "components")}}


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
async def test_the_documents_are_the_same_for_everybody_and_take_nothing(path: str, client: Client) -> None:
    open_, known = await client.ask("GET", path, token=""), await client.ask("GET", path)
    assert open_.raw == known.raw
    assert (await client.ask("GET", f"{path}?x=1")).code == "invalid-parameter"
    other = await client.ask("POST", path)
    assert (other.code, other.headers["Allow"]) == ("method-not-allowed", "GET")


async def test_the_page_is_served_under_a_policy_without_exceptions(client: Client) -> None:
    reply = await client.ask("GET", "/docs", token="")
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = reply.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


async def test_what_the_capability_statement_promises_is_in_the_document(client: Client) -> None:
    statement = (await client.ask("GET", "/airedale/fhir/metadata", token="")).body
    [rest] = statement["rest"]
    words = {"read": "get", "update": "put", "patch": "patch"}
    for resource in rest["resource"]:
        base = f"/{{customer}}/fhir/{resource['type']}"
        for interaction in resource["interaction"]:
            path, method = (base, "get") if interaction["code"] == "search-type" else (f"{base}/{{id}}", "")
            assert (method or words[interaction["code"]]) in contract.document()["paths"][path]
        for operation in resource.get("operation", ()):
            assert f"{base}/{{id}}/${operation['name']}" in contract.document()["paths"]
    named = {each["name"] for each in rest["resource"][0]["operation"]}
    assert named == {path.rpartition("/$")[2] for path in contract.document()["paths"] if "/$" in path}


async def test_where_tokens_are_to_be_had_is_told_alike_everywhere(client: Client) -> None:
    smart = (await client.ask("GET", "/airedale/fhir/.well-known/smart-configuration", token="")).body
    served = (await client.ask("GET", "/openapi.json", token="")).body
    flow = served["components"]["securitySchemes"]["partner"]["flows"]["clientCredentials"]
    assert smart["token_endpoint"] == flow["tokenUrl"] == client.place.told["partners"]["swiftbook"]["token_url"]
    letters = {scope.rpartition(".")[2] for scope in flow["scopes"]}
    assert letters == set("".join(scope.rpartition(".")[2] for scope in smart["scopes_supported"]))


@pytest.mark.parametrize("path", sorted(contract.document()["paths"]))
async def test_every_other_method_of_a_path_is_answered_with_the_ones_there_are(path: str, client: Client) -> None:
    concrete = re.sub(r"\{customer\}", "airedale", path).replace("{id}", "x")
    there = {method.upper() for method in contract.document()["paths"][path]} - {"PARAMETERS"}
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"} - there:
        reply = await client.ask(method, concrete)
        assert reply.status == 405
        assert reply.headers["Allow"] == ", ".join(sorted(there))


def test_the_document_is_small_enough_to_be_read_at_once() -> None:
    assert len(json.dumps(contract.document())) < 400_000
