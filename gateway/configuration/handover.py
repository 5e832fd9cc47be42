"""How a process that reads a large grants file hands over what it found: in pieces, each of them small.

The pieces hold text and numbers and are read by their types: whatever is written into the pipe, nothing of it is run.
Grants of one file have most of their values in common. Each value goes over once and is one object afterwards, which
is why thousands of grants take little memory, and little time to take in and to let go of.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from itertools import chain
from pathlib import Path
from types import GenericAlias
from typing import IO, Annotated, Any, Final, get_type_hints
from zoneinfo import ZoneInfo

import msgspec

from gateway.configuration.grants import Grants, IssuerClient, Registration
from gateway.configuration.problems import Problem
from gateway.domain.grant import Customer, Grant, Partner, Route

PIECE: Final = 250
"""Entries handed over at once; of grants with long lists, fewer."""
LIST_ENTRIES: Final = 2_000
"""Entries of the lists of all grants handed over at once; a grant is never divided."""
LONGEST: Final = 64 * 1024 * 1024
"""Bytes of one piece. The largest file is half as long."""

Position = Annotated[int, msgspec.Meta(ge=0)]


class Nonsense(Exception):
    """What came through the pipe is none of these pieces."""


class Order(msgspec.Struct, frozen=True):
    """What to read. Of the environment it has the names: True where a variable is not blank."""

    path: Path
    routes: dict[str, Route] | None
    issuers: frozenset[str] | None
    secrets: bool
    key_files: bool
    environ: dict[str, bool]
    patience: int


class KeyFile(msgspec.Struct, frozen=True, tag=True):
    """A question: is this file any good?"""

    path: Path


class KeyFileRead(msgspec.Struct, frozen=True):
    """Its answer: why it cannot be read, or what is wrong with it."""

    unreadable: bool = False
    reason: str | None = None
    wrong: str | None = None


class Wrong(msgspec.Struct, frozen=True, tag=True):
    """Some of what is wrong with the file."""

    problems: list[Problem]


class Partners(msgspec.Struct, frozen=True, tag=True):
    """Some partners."""

    entries: list[Partner]


class Customers(msgspec.Struct, frozen=True, tag=True):
    """Some customers."""

    entries: list[Customer]


class Proof(msgspec.Struct, frozen=True):
    """A registration with the references to its secrets in the place of the secrets."""

    partner: str
    key_files: tuple[Path, ...]
    key_urls: tuple[str, ...]
    clients: tuple[IssuerClient, ...]
    hl7: tuple[str, str] | None


class Proofs(msgspec.Struct, frozen=True, tag=True):
    """Some registrations."""

    entries: list[Proof]


class Stretch(msgspec.Struct, frozen=True, tag=True):
    """Some grants: the values that no earlier one had, by field, and for each grant where its values stand."""

    values: dict[str, msgspec.Raw]
    ids: list[str]
    rows: list[list[Position]]


class Done(msgspec.Struct, frozen=True, tag=True):
    """All has been said."""

    digest: str
    key_digests: list[tuple[Path, str]]


class Fault(msgspec.Struct, frozen=True, tag=True):
    """The reading itself failed, with an error of this type."""

    name: str


Piece = KeyFile | Wrong | Partners | Customers | Proofs | Stretch | Done | Fault


def _told(value: object) -> object:
    if isinstance(value, Path):
        return os.fsencode(value)
    assert isinstance(value, ZoneInfo), "nothing else is made of other than text and numbers"
    return value.key


def _made(type_: type, value: Any) -> object:
    if type_ is ZoneInfo:
        return ZoneInfo(value)
    assert issubclass(type_, Path), "the two that are told by something else"
    return Path(os.fsdecode(value))


SHARED: Final = tuple(each.name for each in fields(Grant) if each.name != "id")
_HINTS: Final = get_type_hints(Grant)
_VALUES: Final[dict[str, Callable[[msgspec.Raw], list[Any]]]] = {
    name: msgspec.msgpack.Decoder(GenericAlias(list, (_HINTS[name],))).decode for name in SHARED
}
_encode: Final = msgspec.msgpack.Encoder(enc_hook=_told).encode
_piece: Final[Callable[[bytes], Piece]] = msgspec.msgpack.Decoder(Piece, dec_hook=_made).decode
_order: Final = msgspec.msgpack.Decoder(Order, dec_hook=_made).decode
_answer: Final = msgspec.msgpack.Decoder(KeyFileRead).decode


def send(pipe: IO[bytes], message: msgspec.Struct) -> None:
    """Write one message. Raises OSError where nobody reads."""
    body = _encode(message)
    pipe.write(len(body).to_bytes(4, "big") + body)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Piece:
    """Wait for a piece. Raises EOFError and Nonsense."""
    body = _body(pipe)
    try:
        return _piece(body)
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError) as error:
        raise Nonsense from error


def receive_order(pipe: IO[bytes]) -> Order:
    """Wait for what to read."""
    return _order(_body(pipe))


def receive_answer(pipe: IO[bytes]) -> KeyFileRead:
    """Wait for what became of a key file."""
    return _answer(_body(pipe))


def _body(pipe: IO[bytes]) -> bytes:
    head = pipe.read(4)
    length = int.from_bytes(head, "big")
    if length > LONGEST:
        raise Nonsense
    body = pipe.read(length)
    if len(head) < 4 or len(body) < length:
        raise EOFError
    return body


def pieces(grants: Grants) -> Iterator[Piece]:
    """Cut everything but keys and secrets into pieces."""
    policy = grants.policy
    partners, customers = list(policy.partners.values()), list(policy.customers.values())
    proofs = [_proof(each) for each in grants.registrations.values()]
    yield from (Partners(partners[at : at + PIECE]) for at in range(0, len(partners), PIECE))
    yield from (Customers(customers[at : at + PIECE]) for at in range(0, len(customers), PIECE))
    yield from (Proofs(proofs[at : at + PIECE]) for at in range(0, len(proofs), PIECE))
    known: dict[str, dict[Any, int]] = {name: {} for name in SHARED}
    yield from (_stretch(each, known) for each in _stretches(policy.grants))
    yield Done(policy.digest, list(grants.key_digests.items()))


def _proof(each: Registration) -> Proof:
    hl7 = None if each.hl7 is None else (each.hl7.username.reference, each.hl7.password.reference)
    return Proof(each.partner, each.key_files, each.key_urls, each.clients, hl7)


def _stretches(grants: Iterable[Grant]) -> Iterator[list[Grant]]:
    stretch: list[Grant] = []
    entries = 0
    for grant in grants:
        own = sum(map(len, (grant.specialties or (), grant.cancel_reasons or (), grant.privacy_labels)))
        if stretch and (len(stretch) == PIECE or entries + own > LIST_ENTRIES):
            yield stretch
            stretch, entries = [], 0
        stretch.append(grant)
        entries += own
    if stretch:
        yield stretch


def _stretch(grants: list[Grant], known: dict[str, dict[Any, int]]) -> Stretch:
    before = {name: len(values) for name, values in known.items()}
    rows = [[known[name].setdefault(getattr(grant, name), len(known[name])) for name in SHARED] for grant in grants]
    new = {name: list(values)[before[name] :] for name, values in known.items() if len(values) > before[name]}
    return Stretch(
        {name: msgspec.Raw(_encode(values)) for name, values in new.items()}, [grant.id for grant in grants], rows
    )


class Assembled:
    """What has come over so far."""

    def __init__(self) -> None:
        self.partners: dict[str, Partner] = {}
        self.customers: dict[str, Customer] = {}
        self.proofs: list[Proof] = []
        self.grants: list[Grant] = []
        self.problems: list[Problem] = []
        self._known: dict[str, list[Any]] = {name: [] for name in SHARED}

    def take(self, piece: Piece) -> None:
        """Add a piece. Raises Nonsense."""
        match piece:
            case Partners(entries):
                self.partners.update((each.id, each) for each in entries)
            case Customers(entries):
                self.customers.update((each.id, each) for each in entries)
            case Proofs(entries):
                self.proofs += entries
            case Wrong(problems):
                self.problems += problems
            case Stretch():
                self._stretch(piece)
            case _:
                raise Nonsense

    def _stretch(self, stretch: Stretch) -> None:
        try:
            for name, values in stretch.values.items():
                self._known[name] += _VALUES[name](values)
            columns = [self._known[name] for name in SHARED]
            for id_, row in zip(stretch.ids, stretch.rows, strict=True):
                own = [column[at] for column, at in zip(columns, row, strict=True)]
                self.grants.append(Grant(id_, *own))
        except (msgspec.MsgspecError, ValueError, LookupError) as error:
            raise Nonsense from error


def _problems(problems: tuple[Problem, ...]) -> Iterator[Piece]:
    yield from (Wrong(list(problems[at : at + PIECE])) for at in range(0, len(problems), PIECE))


def refusal(problems: tuple[Problem, ...]) -> Iterator[Piece]:
    """Cut what is wrong into pieces."""
    return chain(_problems(problems), [Done("", [])])
