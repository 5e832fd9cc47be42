"""What a safe answer looks like, whatever was sent."""

from collections.abc import Sequence
from typing import Final

from gateway.selftest.sending import Answer, Heard
from gateway.selftest.vectors import CLOSED, Vector

MARK: Final = "q7attack7q"
"""The word that vectors put where attackers put theirs: no answer, log or record may repeat it."""
LARGEST: Final = 4_096
"""Bytes that a refusal needs at most."""
_HAD: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def complaints(vector: Vector, heard: Heard) -> Sequence[str]:
    """What is wrong with what came back; nothing where all is as it must be."""
    found = [*_about_connection(vector, heard)]
    if not heard.answers:
        return [*found, *([] if CLOSED in vector.expect else ["no answer came"])]
    first = heard.answers[0]
    if not any(_fits(first, each) for each in vector.expect):
        found.append(f"answered {first.status} {first.code}".rstrip())
    for answer in heard.answers:
        found += _about(answer)
    if MARK.encode() in heard.raw:
        found.append("the answer repeats what was sent")
    return found


def _fits(answer: Answer, expected: str) -> bool:
    status, _, code = expected.partition(" ")
    return str(answer.status) == status and (not code or answer.code == code)


def _about_connection(vector: Vector, heard: Heard) -> list[str]:
    found = []
    if len(heard.answers) > vector.answers:
        found.append(f"{len(heard.answers)} answers came")
    if heard.torn:
        found.append("the answer is not whole")
    if not heard.closed and (vector.closes or vector.slow or not heard.answers):
        found.append("the connection stayed open")
    return found


def _about(answer: Answer) -> list[str]:
    found = [f"{name} is not {value}" for name, value in _HAD.items() if answer.header(name) != value]
    if answer.header("X-Request-Id") is None:
        found.append("the answer has no X-Request-Id")
    found += [f"the answer has {name}" for name in ("Server", "Set-Cookie", "X-Powered-By") if answer.header(name)]
    if answer.status >= 400:
        if len(answer.body) > LARGEST:
            found.append("the refusal is longer than it need be")
        if answer.code == "":
            found.append("the refusal has no code")
    return found
