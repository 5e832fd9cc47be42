import time
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.hl7_limits import is_printable
from gateway.pkb.soap import LARGEST_ANSWER, UnreadableAnswer, unwrap, wrap

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
PKB = "http://wsssl.hl7api.patientsknowbest.com/"


def body(content: str) -> bytes:
    return f'<s:Envelope xmlns:s="{SOAP}"><s:Body>{content}</s:Body></s:Envelope>'.encode()


def answered(content: str) -> bytes:
    return body(f'<ns2:acceptMessageResponse xmlns:ns2="{PKB}">{content}</ns2:acceptMessageResponse>')


def called(envelope: bytes) -> str:
    root = ET.fromstring(envelope)
    assert root.tag == f"{{{SOAP}}}Envelope"
    assert [child.tag for child in root] == [f"{{{SOAP}}}Header", f"{{{SOAP}}}Body"]
    (call,) = root[1]
    assert call.tag == f"{{{PKB}}}acceptMessage"
    (argument,) = call
    assert (argument.tag, len(argument), argument.attrib) == ("arg0", 0, {})
    return argument.text or ""


def test_the_envelope_is_pkbs_byte_for_byte() -> None:
    assert wrap("MSH|^~\\&|GW\rPID|||]]> <b>&amp;\r") == (
        b'<?xml version="1.0" encoding="UTF-8"?>'
        b'<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
        b'xmlns:wss="http://wsssl.hl7api.patientsknowbest.com/">'
        b"<soapenv:Header/><soapenv:Body><wss:acceptMessage><arg0>"
        b"MSH|^~\\&amp;|GW&#13;PID|||]]&gt; &lt;b&gt;&amp;amp;&#13;"
        b"</arg0></wss:acceptMessage></soapenv:Body></soapenv:Envelope>"
    )


@given(st.lists(st.text().filter(lambda text: is_printable(text)) | st.just("]]></arg0><arg0>&lt;<![CDATA[")))  # noqa: PLW0108 - a type guard otherwise
def test_every_message_arrives_as_it_was_sent(segments: list[str]) -> None:
    message = "\r".join(segments)

    assert called(wrap(message)) == message


@pytest.mark.parametrize(
    "answer",
    [
        answered("<return>MSH|1&#13;MSA|AA|1</return>"),
        answered("<return><![CDATA[MSH|1]]>&#13;<![CDATA[MSA|AA|1]]></return>"),
        answered("<r:return xmlns:r='urn:x'>MSH|1&#13;MSA|AA|1</r:return>"),
        body("<acceptMessageResponse><return>MSH|1&#13;MSA|AA|1</return></acceptMessageResponse>"),
        b'<?xml version="1.0" encoding="UTF-8"?>\n' + answered(" <!-- x --> <return>MSH|1&#13;MSA|AA|1</return> "),
        ('<?xml version="1.0" encoding="UTF-16"?>' + answered("<return>MSH|1&#13;MSA|AA|1</return>").decode()).encode(
            "utf-16"
        ),
        answered("<return>MSH|1&#13;MSA|AA|1</return>").replace(b"<s:Body>", b"<s:Header><x/></s:Header><s:Body>"),
    ],
    ids=["jax-ws", "cdata", "other-namespace", "no-namespace", "declaration", "utf-16", "header"],
)
def test_what_pkb_returned_is_found(answer: bytes) -> None:
    assert unwrap(answer) == "MSH|1\rMSA|AA|1"


BILLION = (
    '<!DOCTYPE a [<!ENTITY l "lol">'
    + "".join(f'<!ENTITY l{n} "{("&l" + str(n - 1 or "") + ";") * 10}">' for n in range(1, 9))
    + "]>"
)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html><body>Sign in",
        b"<html><body>Sign in</body></html>",
        b"MSH|^~\\&|x\rMSA|AA|1",
        b'{"resourceType": "OperationOutcome"}',
        body(""),
        body("<s:Fault><faultcode>s:Server</faultcode><faultstring>MSA|AA|1</faultstring></s:Fault>"),
        answered(""),
        answered("<return/>"),
        answered("<return>a<b/>c</return>"),
        answered("<return>a</return><return>b</return>"),
        answered("<other>a</other>"),
        body("<acceptMessage><return>a</return></acceptMessage>"),
        answered("<return>a</return>").replace(b"</s:Envelope>", b"<s:Body/></s:Envelope>"),
        answered("<return>a</return>").replace(SOAP.encode(), b"http://www.w3.org/2003/05/soap-envelope"),
        answered("<return>a</return>").replace(b"<s:Body>", b"").replace(b"</s:Body>", b""),
        answered("<return>a</return>") + b"<more/>",
        answered("<return>a&nbsp;</return>"),
        answered("<return>a\0</return>"),
        answered("<return>a&#0;</return>"),
        answered("<return>\xff</return>").replace("\xff".encode(), b"\xff"),
        b'<?xml version="1.0" encoding="klingon"?>' + answered("<return>a</return>"),
        b'<?xml version="1.0" encoding="base64"?>' + answered("<return>a</return>"),
        b"<!DOCTYPE a>" + answered("<return>a</return>"),
        BILLION.encode() + answered("<return>&l8;</return>"),
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + answered("<return>&x;</return>"),
        b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/x.dtd">' + answered("<return>a</return>"),
        answered(f"<return>{'a' * LARGEST_ANSWER}</return>"),
        answered("<a>" * 5000),
        answered("<a>" * 5000 + "</a>" * 5000),
    ],
    ids=[
        "nothing",
        "cut-html",
        "html",
        "bare-hl7",
        "json",
        "empty-body",
        "fault",
        "empty-response",
        "empty-return",
        "markup-in-return",
        "two-returns",
        "other-name",
        "other-call",
        "two-bodies",
        "soap-1.2",
        "no-body",
        "trailing",
        "entity",
        "nul",
        "nul-reference",
        "not-utf-8",
        "unknown-encoding",
        "encoding-that-is-none",
        "doctype",
        "billion-laughs",
        "external-entity",
        "external-dtd",
        "too-large",
        "deep-and-cut",
        "deep",
    ],
)
def test_anything_else_is_unreadable(answer: bytes) -> None:
    began = time.monotonic()

    with pytest.raises(UnreadableAnswer) as caught:
        unwrap(answer)

    assert time.monotonic() - began < 2.0
    assert "lol" not in str(caught.value)
    assert "passwd" not in str(caught.value)


@given(st.binary(max_size=400) | st.text("<>/&;![]sEnvelopBdyCDAT", max_size=200).map(str.encode))
def test_no_answer_breaks_the_reader(noise: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        unwrap(noise)


@given(st.data())
def test_no_damage_breaks_the_reader(data: st.DataObject) -> None:
    whole = answered("<return>MSH|1&#13;MSA|AA|1</return>")
    place = data.draw(st.integers(0, len(whole)))
    damaged = whole[:place] + data.draw(st.binary(max_size=4)) + whole[place + data.draw(st.integers(0, 4)) :]

    try:
        found = unwrap(damaged)
    except UnreadableAnswer:
        return
    assert found
