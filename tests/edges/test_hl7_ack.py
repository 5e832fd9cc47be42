from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.codes import Code
from gateway.flow.ports import Acknowledged, Doubt, NotSent, Turned
from gateway.pkb.hl7_ack import Ack, judge, judge_fault, read_ack
from gateway.pkb.http import Broken, HttpFault, NotConnected, Unreadable
from tests.edges.test_soap import answered, body

HEAD = "MSH|^~\\&|HL7API|PKB|GW|acme|20260302102001+0000||ACK^R01|PKB-20260302102001+0000|P|2.4"
ID = "c-0004"


def ack(*segments: str, head: str = HEAD, end: str = "&#13;") -> bytes:
    text = "".join(f"{segment}{end}" for segment in (head.replace("&", "&amp;"), *segments))
    return answered(f"<return>{text}</return>")


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"], ids=["cr", "lf", "crlf"])
@pytest.mark.parametrize("head", [HEAD, HEAD.replace("\\&", "\\&;")], ids=["usual", "artefact-of-pkbs-samples"])
def test_an_acknowledgement_is_read_as_pkb_documents_it(head: str, end: str) -> None:
    assert read_ack(f"{head}{end}MSA|AR|c-0004|Parsing or validation error: x^y{end}") == Ack("AR", "c-0004")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MSA|AA|c-0004",
        HEAD,
        f"{HEAD}\rMSA|AA",
        f"{HEAD}\rMSA|AA|c-0004\rMSA|AR|c-0004",
        f"{HEAD}\rMSA2|AA|c-0004",
        f"{HEAD.replace('ACK', 'SIU')}\rMSA|AA|c-0004",
        f"{HEAD.replace('|ACK^R01|', '||')}\rMSA|AA|c-0004",
        "MSH|^~\\&|HL7API\rMSA|AA|c-0004",
        f"{HEAD.replace('|', '#')}\rMSA#AA#c-0004",
        f"x{HEAD}\rMSA|AA|c-0004",
    ],
    ids=[
        "nothing",
        "no-header",
        "no-msa",
        "no-control-id",
        "two-answers",
        "other-segment",
        "no-ack",
        "no-type",
        "short-header",
        "other-separator",
        "leading-text",
    ],
)
def test_anything_else_is_no_acknowledgement(text: str) -> None:
    assert read_ack(text) is None


OTHER = "the acknowledgement is about another message"
NEITHER = "the acknowledgement says neither yes nor no"


@pytest.mark.parametrize(
    ("status", "content", "meaning"),
    [
        pytest.param(200, ack(f"MSA|AA|{ID}"), Acknowledged("AA", ID), id="aa"),
        pytest.param(200, ack(f"MSA|AA|{ID}|all well|"), Acknowledged("AA", ID), id="aa-with-text"),
        pytest.param(200, ack(f"MSA|AR|{ID}|No"), Turned(Code.UPSTREAM_REFUSED, "AR", ID), id="ar"),
        pytest.param(200, ack(f"MSA|AE|{ID}|Unexpected"), Doubt(NEITHER, "AE", ID), id="ae"),
        pytest.param(200, ack(f"MSA|CA|{ID}"), Doubt(NEITHER, "CA", ID), id="enhanced-accept"),
        pytest.param(200, ack(f"MSA|aa|{ID}"), Doubt(NEITHER, 200, ID), id="small-letters"),
        pytest.param(200, ack(f"MSA|AA |{ID}"), Doubt(NEITHER, 200, ID), id="space"),
        pytest.param(200, ack(f"MSA||{ID}"), Doubt(NEITHER, 200, ID), id="no-code"),
        pytest.param(200, ack("MSA|AA|c-0005"), Doubt(OTHER, "AA", ID), id="aa-of-another"),
        pytest.param(200, ack("MSA|AR|c-0005"), Doubt(OTHER, "AR", ID), id="ar-of-another"),
        pytest.param(200, ack("MSA|AR|"), Doubt(OTHER, "AR", ID), id="ar-of-nothing"),
        pytest.param(200, ack(f"MSA|AA|{ID}0"), Doubt(OTHER, "AA", ID), id="longer-id"),
        pytest.param(200, ack(f"MSA|AA|{ID.upper()}"), Doubt(OTHER, "AA", ID), id="capital-id"),
        pytest.param(200, ack(), Doubt("the acknowledgement cannot be read", 200, ID), id="no-msa"),
        pytest.param(
            200, body("<s:Fault/>"), Doubt("the envelope holds no acknowledgement", 200, ID), id="fault-with-200"
        ),
        pytest.param(200, b"<html>", Doubt("the answer is not plain XML", 200, ID), id="html"),
        *(
            pytest.param(status, b"", Turned(Code.UPSTREAM_REFUSED, status, ID), id=str(status))
            for status in (400, 401, 403, 404, 405, 409, 410, 412, 413, 415, 422, 429, 451, 499)
        ),
        *(
            pytest.param(status, b"", Doubt(f"answered {status}", status, ID), id=str(status))
            for status in (100, 201, 202, 204, 206, 301, 302, 307, 399, 408, 500, 502, 503, 504, 599)
        ),
    ],
)
def test_every_answer_has_one_meaning(status: int, content: bytes, meaning: Any) -> None:
    assert judge(status, content, ID) == meaning


@pytest.mark.parametrize("status", [201, 401, 500])
def test_an_acknowledgement_counts_only_with_status_200(status: int) -> None:
    assert not isinstance(judge(status, ack(f"MSA|AA|{ID}"), ID), Acknowledged)


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        (NotConnected("no route"), NotSent("no route")),
        (NotConnected("no connection in time", late=True), NotSent("no connection in time")),
        (Broken("dropped"), Doubt("dropped", None, ID)),
        (Broken("no answer in time", late=True), Doubt("no answer in time", None, ID)),
        (Unreadable("the answer is too large", status=200), Doubt("the answer is too large", 200, ID)),
    ],
    ids=["no-route", "no-connection-in-time", "dropped", "late", "too-large"],
)
def test_only_without_a_connection_is_it_certain_that_nothing_left(fault: HttpFault, meaning: Any) -> None:
    assert judge_fault(fault, ID) == meaning


@given(st.integers(100, 599), st.binary(max_size=300))
def test_noise_is_never_taken_for_a_yes(status: int, noise: bytes) -> None:
    assert isinstance(judge(status, noise, ID), Turned if 400 <= status <= 499 and status != 408 else Doubt)


@given(st.text("MSHAPERC|^~\\\r\n-04c ", max_size=60), st.text("AERC|c-04\r\n ", max_size=30))
def test_a_yes_names_our_message(head: str, answer: str) -> None:
    text = f"MSH|{head}\rMSA|{answer}".replace("&", "&amp;").replace("\r", "&#13;")

    meaning = judge(200, answered(f"<return>{text}</return>"), ID)

    if isinstance(meaning, Acknowledged | Turned):
        assert ID in answer


@given(st.text(max_size=80))
def test_nothing_of_what_pkb_wrote_is_repeated(noise: str) -> None:
    found = read_ack(f"{HEAD}\rMSA|{noise}|{ID}")
    meaning = judge(200, ack(f"MSA|secret{len(noise)}|{ID}|secret"), ID)

    assert found is None or isinstance(found, Ack)
    assert "secret" not in repr(meaning)
