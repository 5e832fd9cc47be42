"""The SOAP 1.1 envelope around PKB's HL7 messages. No I/O.

PKB documents the request; the answer is read as its framework (JAX-WS) usually writes it, and as nothing else.
"""

from typing import Final
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

LARGEST_ANSWER: Final = 64 * 1024
"""Bytes; an acknowledgement has two lines."""
HEADERS: Final = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '""'}

_SOAP: Final = "http://schemas.xmlsoap.org/soap/envelope/"
_PKB: Final = "http://wsssl.hl7api.patientsknowbest.com/"
_HEAD: Final = (
    f'<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="{_SOAP}" xmlns:wss="{_PKB}">'
    "<soapenv:Header/><soapenv:Body><wss:acceptMessage><arg0>"
)
_TAIL: Final = "</arg0></wss:acceptMessage></soapenv:Body></soapenv:Envelope>"
# A literal CR would reach PKB as LF: XML readers rewrite the ends of lines (XML 1.0 §2.11).
_ENDS_OF_LINES: Final = {"\r": "&#13;"}


class UnreadableAnswer(ValueError):
    """The answer is not the envelope expected. The reason repeats nothing of it."""


def wrap(message: str) -> bytes:
    """Put a message into a call of `acceptMessage`; CDATA would end at the first `]]>` of a text."""
    return f"{_HEAD}{escape(message, _ENDS_OF_LINES)}{_TAIL}".encode()


def unwrap(answer: bytes) -> str:
    """Give the text that `acceptMessage` returned. Raises UnreadableAnswer, for a SOAP Fault too."""
    if len(answer) > LARGEST_ANSWER:
        raise UnreadableAnswer("the answer is too large")
    try:
        envelope = fromstring(answer, forbid_dtd=True)
    except (ParseError, DefusedXmlException, LookupError, ValueError) as error:
        raise UnreadableAnswer("the answer is not plain XML") from error
    if envelope.tag != f"{{{_SOAP}}}Envelope":
        raise UnreadableAnswer("the answer is no SOAP envelope")
    bodies = envelope.findall(f"{{{_SOAP}}}Body")
    response = _only(bodies[0], "acceptMessageResponse") if len(bodies) == 1 else None
    returned = _only(response, "return") if response is not None else None
    if returned is None or len(returned) or not returned.text:
        raise UnreadableAnswer("the envelope holds no acknowledgement")
    return returned.text


def _only(parent: Element, name: str) -> Element | None:
    """Give the only child, if it has this name in whatever namespace: PKB does not document which."""
    children = list(parent)
    return children[0] if len(children) == 1 and children[0].tag.rpartition("}")[2] == name else None
