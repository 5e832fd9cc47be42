"""What PKB's HL7 acknowledgements mean. No I/O.

`AA` says received, not done: a message may wait in a review queue. `AE` is an error of PKB's own at any point of its
work. Whatever is not clearly about our message proves nothing.
"""

import re
from dataclasses import dataclass
from typing import Final

from gateway.domain.codes import Code
from gateway.flow.ports import Acknowledged, Doubt, NotSent, Turned
from gateway.pkb.http import HttpFault, NotConnected
from gateway.pkb.soap import UnreadableAnswer, unwrap

_ENDS_OF_SEGMENTS: Final = re.compile(r"\r\n|\r|\n")
_MARKS: Final = frozenset({"AA", "AR", "AE", "CA", "CR", "CE"})
"""Table 0008 of HL7 v2; of a word that is not in it nothing is repeated."""


@dataclass(frozen=True, slots=True)
class Ack:
    """One acknowledgement."""

    code: str
    """MSA-1 as sent."""
    about: str
    """MSA-2: the control id of the message that is answered."""


def read_ack(text: str) -> Ack | None:
    """Read an `ACK`, whatever the header says of its delimiters, as PKB's samples do; None for anything else."""
    lines = [line for line in _ENDS_OF_SEGMENTS.split(text.strip()) if line]
    if not lines or not lines[0].startswith("MSH|"):
        return None
    # MSH-1 is the separator itself, so that field n of MSH is the n-th part.
    header = lines[0].split("|")
    kind = header[8] if len(header) > 8 else ""
    answers = [line.split("|") for line in lines[1:] if line.split("|")[0] == "MSA"]
    if kind.split("^")[0] != "ACK" or len(answers) != 1 or len(answers[0]) < 3:
        return None
    return Ack(answers[0][1], answers[0][2])


def judge(status: int, body: bytes, control_id: str) -> Acknowledged | Turned | Doubt:
    """Say what an answer over HTTP means for the message sent under `control_id`. Only a clear no is a no."""
    if 400 <= status <= 499 and status != 408:
        # Turned away at the door, bad credentials included: a 404 here is about the address, not the appointment.
        return Turned(Code.UPSTREAM_REFUSED, status, control_id)
    if status != 200:
        return Doubt(f"answered {status}", status, control_id)
    try:
        ack = read_ack(unwrap(body))
    except UnreadableAnswer as error:
        return Doubt(str(error), status, control_id)
    if ack is None:
        return Doubt("the acknowledgement cannot be read", status, control_id)
    return _judge_ack(ack, control_id)


def judge_fault(fault: HttpFault, control_id: str) -> NotSent | Doubt:
    """Say what it means that no whole answer came: only without a connection is it certain that nothing left."""
    if isinstance(fault, NotConnected):
        return NotSent(fault.reason)
    return Doubt(fault.reason, fault.status, control_id)


def _judge_ack(ack: Ack, control_id: str) -> Acknowledged | Turned | Doubt:
    told = ack.code if ack.code in _MARKS else 200
    if ack.about != control_id:
        return Doubt("the acknowledgement is about another message", told, control_id)
    match ack.code:
        case "AA":
            return Acknowledged(ack.code, control_id)
        case "AR":
            return Turned(Code.UPSTREAM_REFUSED, ack.code, control_id)
        case _:
            return Doubt("the acknowledgement says neither yes nor no", told, control_id)
