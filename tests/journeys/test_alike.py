"""What is not there and what is hidden get the same answer, byte for byte but for what names the request."""

import asyncio
import re
from collections.abc import Sequence

import pytest

from tests.journeys.alike import Asked, Question, questions
from tests.journeys.partner import Client

# Each of these says which request or when, and nothing of what was asked for.
OWN = (rb"X-Request-Id: [^\r]*", rb"Date: [^\r]*", rb"RateLimit: [^\r]*")


async def answer(client: Client, asked: Asked) -> bytes:
    """The bytes of an answer, without what differs between any two answers."""
    sent = {"Host": "gateway", "Authorization": f"Bearer {client.place.token(asked.partner)}", **asked.headers}
    sent |= {"Connection": "close"} | ({"Content-Length": str(len(asked.body))} if asked.body else {})
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    told = await client.raw(f"{asked.method} {asked.path} HTTP/1.1\r\n{head}\r\n".encode() + asked.body)
    for own in OWN:
        told, count = re.subn(own, b"", told)
        assert count <= 1
    return told


@pytest.fixture
async def every(client: Client) -> Sequence[Question]:
    return await questions(client, 1)


async def test_what_is_hidden_is_answered_as_what_is_missing(client: Client, every: Sequence[Question]) -> None:
    for question in every:
        missing = await answer(client, question.missing[0])
        assert f'"code":"{question.code}"'.encode() in missing, question.name
        # Whatever id was asked for, it does not come back.
        assert b"a-" not in missing.partition(b"\r\n\r\n")[2].replace(b"pkb-gateway", b"")
        for why, asked in question.hidden.items():
            assert await answer(client, asked[0]) == missing, f"{question.name}: {why}"


async def test_the_audit_knows_the_difference(client: Client, every: Sequence[Question]) -> None:
    (cancel,) = [question for question in every if question.name == "$cancel"]
    failed = {}
    for why, asked in cancel.hidden.items():
        reply = await client.ask("POST", asked[0].path, data=asked[0].body)
        (record,) = await client.audit_of(reply.request_id, "refused")
        failed[why] = [rule for rule, passed in record["checks"] if not passed]
    assert failed == {
        "another customer's": ["owned-by-customer", "patient-matches"],
        "label outside": ["labels-granted", "patient-matches"],
        "another patient's": ["patient-matches"],
    }


async def test_many_writes_to_one_id_wait_as_long_for_what_is_missing(
    client: Client, every: Sequence[Question]
) -> None:
    """They wait for each other's turn, so that what one turn takes can be seen in the last of them."""
    (cancel,) = [question for question in every if question.name == "$cancel"]
    await client.fault("delay", 100, on="read")

    async def last(asked: Asked) -> float:
        sent = (client.ask("POST", asked.path, data=asked.body) for _ in range(8))
        return max(reply.seconds for reply in await asyncio.gather(*sent))

    missing, hidden = await last(cancel.missing[0]), await last(cancel.hidden["another customer's"][0])
    # Eight turns of two reads each; of one read they would take half of that.
    assert missing > 1.5
    assert hidden > 1.5
