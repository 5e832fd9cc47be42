"""The SOAP 1.1 envelope of PKB's HL7 connection: `acceptMessage` in, `acceptMessageResponse` or a Fault out."""

from typing import Final
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

ENVELOPE: Final = "http://schemas.xmlsoap.org/soap/envelope/"
PKB: Final = "http://wsssl.hl7api.patientsknowbest.com/"
_ESCAPED: Final = {"\r": "&#13;", '"': "&quot;"}


class BadEnvelope(ValueError):
    """Not a call of acceptMessage; the message says why."""


def read(body: bytes) -> str:
    """The message inside the envelope. Raises `BadEnvelope`."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadEnvelope("the body is not UTF-8") from error
    if "<!DOCTYPE" in text:
        raise BadEnvelope("document types are not accepted")
    try:
        root = ET.fromstring(text)  # noqa: S314 - without a document type there are no entities to expand
    except ET.ParseError as error:
        raise BadEnvelope("the body is not XML") from error
    if root.tag != f"{{{ENVELOPE}}}Envelope":
        raise BadEnvelope("the body is no SOAP 1.1 envelope")
    calls = root.findall(f"{{{ENVELOPE}}}Body/{{{PKB}}}acceptMessage")
    arguments = calls[0].findall("arg0") if len(calls) == 1 else []
    if len(arguments) != 1 or len(arguments[0]):
        raise BadEnvelope("the envelope does not call acceptMessage with one arg0")
    return arguments[0].text or ""


def response(message: str) -> bytes:
    """The envelope around an acknowledgement. CR is written as a reference, or XML would turn it into LF."""
    call = f'<ns2:acceptMessageResponse xmlns:ns2="{PKB}"><return>{_text(message)}</return></ns2:acceptMessageResponse>'
    return _envelope(call)


def fault(reason: str) -> bytes:
    """A SOAP Fault that blames the caller."""
    return _envelope(
        f"<soap:Fault><faultcode>soap:Client</faultcode><faultstring>{_text(reason)}</faultstring></soap:Fault>"
    )


def _text(text: str) -> str:
    return escape(text, _ESCAPED)


def _envelope(content: str) -> bytes:
    return f'<soap:Envelope xmlns:soap="{ENVELOPE}"><soap:Body>{content}</soap:Body></soap:Envelope>'.encode()
