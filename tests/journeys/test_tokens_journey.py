"""Partners' tokens, end to end: the verb, the endpoint, and an assertion that is good once."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway.cli.token import make_assertion
from gateway.partner.token_endpoint import ASSERTION_TYPE, CLIENT_CREDENTIALS
from tests.journeys import contract
from tests.journeys.partner import Client, until
from tests.journeys.processes import Sandbox

ALGORITHMS = {"swiftbook": "ES384", "cardiolink": "RS384", "viewonly": "ES256", "newcomer": "EdDSA"}


def assertion(client: Client, partner: str, jti: str = "", **other: Any) -> str:
    entry = client.place.told["partners"][partner]
    key = Path(entry["private_key_file"]).read_text(encoding="ascii")
    return make_assertion(
        other.get("client_id", entry["client_id"]),
        key,
        other.get("kid", entry["kid"]),
        entry["alg"],
        other.get("token_url", entry["token_url"]),
        now=other.get("now", time.time()),
        jti=jti or str(uuid.uuid4()),
    )


@dataclass(frozen=True)
class Got:
    """An answer of the token endpoint."""

    status: int
    body: Any
    headers: Any


async def post(client: Client, proof: str, query: str = "", **form: str) -> Got:
    fields = {"grant_type": CLIENT_CREDENTIALS, "client_assertion_type": ASSERTION_TYPE, "client_assertion": proof}
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    data = urlencode({**fields, **form}).encode()
    url = f"{client.place.gateway_url}/oauth2/token{query}"
    async with client.session.post(url, data=data, headers=headers) as response:
        contract.hold("POST", "/oauth2/token", response.status, response.headers, await response.read())
        return Got(response.status, await response.json(), response.headers.copy())


async def test_a_token_request_with_a_query_is_refused_and_its_assertion_stays_good(client: Client) -> None:
    proof = assertion(client, "swiftbook")
    refused = await post(client, proof, query="?client_id=swiftbook")
    assert (refused.status, refused.body["error"]) == (400, "invalid_request")
    assert (await post(client, proof)).status == 200


@pytest.mark.parametrize("partner", ALGORITHMS)
async def test_a_partner_gets_a_token_for_an_assertion_of_its_own_algorithm(partner: str, client: Client) -> None:
    assert client.place.told["partners"][partner]["alg"] == ALGORITHMS[partner]
    got = await post(client, assertion(client, partner))
    assert (got.status, got.body["token_type"], got.body["expires_in"]) == (200, "bearer", 300)
    assert got.body["scope"] == "system/Appointment.rus"
    assert got.headers["Cache-Control"] == "no-store"
    reply = await client.read(client.demo("changeable")["id"], token=got.body["access_token"])
    assert reply.code == {"swiftbook": "", "viewonly": ""}.get(partner, "no-grant")


async def test_a_token_of_less_scope_is_good_for_less(client: Client) -> None:
    got = await post(client, assertion(client, "swiftbook"), scope="system/Appointment.r system/Patient.r")
    assert got.body["scope"] == "system/Appointment.r"
    token, id_ = got.body["access_token"], await client.fresh()
    assert (await client.read(id_, token=token)).status == 200
    assert (await client.cancel(id_, token=token)).code == "scope-insufficient"
    writing = (await post(client, assertion(client, "swiftbook"), scope="system/Appointment.u")).body["access_token"]
    cancelled = await client.cancel(id_, token=writing)
    assert (cancelled.status, cancelled.raw) == (200, b"")


async def test_an_assertion_is_good_once_and_never_again_not_even_after_a_restart(
    sandbox: Sandbox, client: Client
) -> None:
    proof, used = assertion(client, "swiftbook"), str(uuid.uuid4())
    assert (await post(client, proof)).status == 200
    assert (await post(client, assertion(client, "swiftbook", used))).status == 200
    await assert_refused(client, proof)
    await assert_refused(client, assertion(client, "swiftbook", used))
    # Another partner may use the same jti: it is its own.
    assert (await post(client, assertion(client, "viewonly", used))).status == 200

    pid = sandbox.gateway_pid
    os.kill(pid, signal.SIGTERM)

    async def restarted() -> bool:
        with contextlib.suppress(OSError, IndexError):
            return (await client.ask("GET", "/_ping", token="")).status == 200 and sandbox.gateway_pid != pid
        return False

    await until(restarted, bool, 30)
    await assert_refused(client, proof)
    await assert_refused(client, assertion(client, "swiftbook", used))
    assert (await post(client, assertion(client, "swiftbook"))).status == 200


async def test_of_many_uses_at_the_same_time_one_is_good(client: Client) -> None:
    proof = assertion(client, "swiftbook")
    got = await asyncio.gather(*(post(client, proof) for _ in range(8)))
    assert sorted(each.status for each in got) == [200, *[401] * 7]


async def assert_refused(client: Client, proof: str) -> None:
    got = await post(client, proof)
    assert (got.status, got.body["error"]) == (401, "invalid_client")
    assert "WWW-Authenticate" in got.headers


BROKEN: dict[str, dict[str, Any]] = {
    "for another address": {"token_url": "https://elsewhere.example/oauth2/token"},
    "too old": {"now": time.time() - 1000},
    "from tomorrow": {"now": time.time() + 86_400},
    "unknown key": {"kid": "nobody"},
    "another's name": {"client_id": "viewonly"},
    "nobody's name": {"client_id": "nobody"},
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_an_assertion_with_anything_wrong_is_an_invalid_client(fault: str, client: Client) -> None:
    await assert_refused(client, assertion(client, "swiftbook", **BROKEN[fault]))


async def test_the_other_errors_are_told_as_oauth_does(client: Client) -> None:
    suspended = await post(client, assertion(client, "suspended"))
    assert (suspended.status, suspended.body["error"]) == (400, "unauthorized_client")
    scope = await post(client, assertion(client, "swiftbook"), scope="system/Patient.r")
    assert (scope.status, scope.body["error"]) == (400, "invalid_scope")
    kind = await post(client, assertion(client, "swiftbook"), grant_type="password")
    assert (kind.status, kind.body["error"]) == (400, "unsupported_grant_type")
    none = await post(client, assertion(client, "swiftbook"), grant_type="")
    assert (none.status, none.body["error"]) == (400, "invalid_request")


async def test_an_access_token_is_no_assertion_and_an_assertion_no_access_token(client: Client) -> None:
    await assert_refused(client, client.place.told["partners"]["swiftbook"]["access_token"])
    assert (await client.read("x", token=assertion(client, "swiftbook"))).code == "token-invalid"


async def test_every_token_and_every_refusal_is_on_record(client: Client) -> None:
    before = len(client.place.records())
    await post(client, assertion(client, "swiftbook"))
    await post(client, "no.assertion.atall")

    async def new() -> list[Any]:
        return [each for each in client.place.records()[before:] if each["event"] != "checkpoint"]

    issued, refused = await until(new, lambda records: len(records) >= 2)
    assert (issued["event"], issued["partner"], issued["decision"]) == ("token-issued", "swiftbook", "permit")
    assert set(issued["token"]) == {"iss", "jti", "kid"}
    assert (refused["event"], refused["code"]) == ("authentication-refused", "invalid_client")


@pytest.mark.parametrize("partner", ["swiftbook", "cardiolink", "newcomer"])
async def test_the_verb_prints_an_assertion_and_a_token_that_work(partner: str, client: Client) -> None:
    told = client.place.directory / "sandbox.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "token", "--sandbox", str(told), "--partner", partner),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    proof, token = re.findall(r"^[\w-]+\.[\w-]+\.[\w-]+$", out.decode(), re.MULTILINE)
    assert (await client.read("none", token=token)).code == ("not-found" if partner == "swiftbook" else "no-grant")
    assert (await post(client, proof)).status == 200


async def test_the_documents_tell_where_and_how_to_get_a_token(client: Client) -> None:
    smart = (await client.ask("GET", "/airedale/fhir/.well-known/smart-configuration", token="")).body
    assert smart["token_endpoint"] == f"{client.place.gateway_url}/oauth2/token"
    assert "private_key_jwt" in smart["token_endpoint_auth_methods_supported"]
    assert set(ALGORITHMS.values()) <= set(smart["token_endpoint_auth_signing_alg_values_supported"])
    keys = (await client.ask("GET", "/.well-known/jwks.json", token="")).body["keys"]
    assert keys
    assert all("d" not in key for key in keys)
    for path in ("metadata", ".well-known/smart-configuration"):
        known = (await client.ask("GET", f"/airedale/fhir/{path}", token="")).raw
        unknown = (await client.ask("GET", f"/nobody/fhir/{path}", token="")).raw
        assert known.replace(b"airedale", b"nobody") == unknown
