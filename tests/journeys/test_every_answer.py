"""Every status and code that the OpenAPI document names for an operation is one that the operation gives."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.journeys import contract
from tests.journeys.every_answer import OAUTH, WAYS, Asked
from tests.journeys.grants import grant_table, partner_table, with_added
from tests.journeys.partner import Client
from tests.journeys.processes import Place, gateway_process

STRICT = 'change = { fields = ["start", "end"], within = "7d" }'
OPERATIONS = {operation["operationId"]: (path, method, operation) for path, method, operation in contract.operations()}


@pytest.fixture(scope="module")
def prepared(place: Place) -> Place:
    partners = partner_table("early") + partner_table("hasty", rate="1/h") + partner_table("strict")
    partners += partner_table("checked")
    grants = grant_table("early", days=(10, 20)) + grant_table("hasty") + grant_table("strict", STRICT)
    grants += grant_table("checked", 'patient = "required"')
    text = place.grants.read_text(encoding="utf-8")
    alias = 'hl7_alias = "bradford"'
    assert text.count(alias) == 1
    # PUT and PATCH cannot say who the patient is.
    text = text.replace(alias, f'{alias}\npatient = "optional"')

    async def prepare() -> None:
        async with Client(place) as client:
            await client.regrant(with_added(text, partners, grants))

    asyncio.run(prepare())
    return place


@pytest.fixture(scope="module")
def failing(prepared: Place) -> Iterator[Place]:
    with gateway_process(prepared, "failing", module="tests.journeys.failing_gateway") as running:
        yield running


def documented(operation: Any) -> Iterator[tuple[int, str]]:
    """The statuses and codes that the document names."""
    for status, answer in operation["responses"].items():
        if int(status) < 300:
            yield int(status), ""
            continue
        for media, shape in answer["content"].items():
            words = shape["schema"]["allOf"][1]["properties"]
            if media == "application/json":
                errors = words["error"]["enum"]
            else:
                details = words["issue"]["items"]["properties"]["details"]["properties"]
                errors = details["coding"]["items"]["properties"]["code"]["enum"]
            for error in errors:
                yield int(status), error


@pytest.mark.parametrize("name", OPERATIONS)
async def test_an_operation_gives_every_answer_that_the_document_names(
    name: str, prepared: Place, failing: Place, client: Client
) -> None:
    path, method, operation = OPERATIONS[name]
    asked = Asked(name, method, path, client, client.at(failing))
    others = []
    for status, code in documented(operation):
        way = WAYS.get(code or str(status)) or OAUTH.get((status, code))
        if way is None:
            others.append((status, code, "nobody knows how to get it"))
            continue
        reply = await way(asked)
        if reply.status != status or (code and code not in {reply.code, reply.body.get("error")}):
            others.append((status, code, f"{reply.status} {reply.raw[:300]!r}"))
    assert others == []
