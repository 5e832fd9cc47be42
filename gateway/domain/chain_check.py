"""Follows audit chains over their files, to their end or to the first bad record."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from gateway.domain.chain import FIRST_PREV, FIRST_SEQ, Record, What, checkpoint_message, open_line

Line: TypeAlias = tuple[str, int, bytes]
"""File, line number from 1, and the bytes up to and including the newline."""

EXPLANATION: Mapping[What, str] = {
    What.EDITED: "what it says does not match its hash, or it is not spelled as the journal writes",
    What.REMOVED: "the record that belongs here is gone",
    What.INSERTED: "this record does not belong here",
    What.REORDERED: "the record that belongs here comes later",
    What.UNLINKED: "it does not name the hash of the record before it: one of the two was replaced",
    What.REPLACED: "it is not the record that was named elsewhere",
    What.TORN: "the line is incomplete and no later start record names it",
    What.CUT_TAIL: "the chain ends before a record that was named elsewhere",
    What.MISSING_CHAIN: "a chain that was named elsewhere is not here",
    What.BAD_SIGNATURE: "none of the given keys made the checkpoint's signature",
}


@dataclass(frozen=True, slots=True)
class Named:
    """A record that is spoken of elsewhere: by a later start record, or by a checkpoint kept aside."""

    seq: int
    by: str
    hash: str | None = None
    prev: str | None = None

    def fits(self, record: Record) -> bool:
        """Whether `record`, which stands at this seq, is the one spoken of."""
        return self.hash in (None, record["hash"]) and self.prev in (None, record["prev"])


@dataclass(frozen=True, slots=True)
class Removed:
    """Records that were removed after their time, as a record says: those of a chain from `first` to `last`."""

    chain: str
    first: int
    last: int
    hash: str
    """Of the last of them."""
    ends: bool
    """Whether the chain ended there."""
    seq: int
    """Of the record that says so, in its own chain."""


@dataclass(frozen=True, slots=True)
class Sound:
    """A chain without fault."""

    chain: str
    records: int
    head: str
    """Hash of the last record."""
    checkpoint: int | None = None
    """Seq of the last checkpoint record."""
    torn: int = 0
    """Bytes of a torn tail that a later start record names."""
    removed: int = 0
    """Seq of the last record that was removed at its beginning, after its time; 0 for none."""


@dataclass(frozen=True, slots=True)
class Bad:
    """The first bad record of a chain: what belongs at `seq`, and the place that gave it away."""

    chain: str
    seq: int
    what: What
    file: str
    line: int
    found: str = ""
    """What stands there instead, where it is another record."""
    begin: int = FIRST_SEQ
    """Seq of the first record that is there."""

    @property
    def records(self) -> int:
        """How many records before it are good."""
        return self.seq - self.begin


Opener: TypeAlias = Callable[[bytes], Record | What]
"""What opens a line as `open_line` does."""
SignatureCheck: TypeAlias = Callable[[str, bytes, str], bool]
"""Whether the key with this kid made, over these bytes, this signature."""


@dataclass(frozen=True, slots=True)
class Link:
    """Between two records of a chain: the seq that comes next, and the hash that it must name."""

    seq: int = FIRST_SEQ
    prev: str = FIRST_PREV


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some records of a chain, one after the other, without fault."""

    begin: Link
    end: Link
    checkpoint: int | None
    torn: int
    """As in Sound."""
    file: str
    line: int
    """Where it ends."""
    removed: tuple[Removed, ...] = ()
    """What its records say was removed, here or elsewhere."""


def joined(chain: str, stretches: Sequence[Stretch], named: Sequence[Named] = ()) -> Sound | Bad:
    """Say of stretches that follow one another what they are together. What was before them counts as removed."""
    begin, last = stretches[0].begin, stretches[-1]
    missed = max(named, key=lambda each: each.seq, default=None)
    if missed is not None and missed.seq >= last.end.seq:
        by = next(each.by for each in named if each.seq == missed.seq)
        return Bad(chain, last.end.seq, What.CUT_TAIL, last.file, last.line, by, begin.seq)
    for each in named:
        if each.seq == begin.seq - 1 and each.hash not in (None, begin.prev):
            return Bad(chain, each.seq, What.REPLACED, "", 0, each.by, each.seq)
    checkpoint = max((each.checkpoint for each in stretches if each.checkpoint), default=None)
    records, removed = last.end.seq - begin.seq, begin.seq - FIRST_SEQ
    return Sound(chain, records, last.end.prev, checkpoint, last.torn, removed)


def follow(
    chain: str,
    lines: Iterable[Line],
    begin: Link,
    *,
    named: Sequence[Named] = (),
    torn: Mapping[tuple[str, int], int] | None = None,
    signature_holds: SignatureCheck | None = None,
    opened: Opener = open_line,
) -> Stretch | Bad:
    """Follow a chain from some link on, in constant memory, to its end or to its first bad record.

    `lines` come file by file, oldest first. `named`: what is said elsewhere to be in it; what is beyond the end
    counts as there. `torn`: the torn tails that start records name, (file, byte offset) to length. Without
    `signature_holds` signatures are not looked at.
    """
    expected, removed = _expectations(named), list[Removed]()
    seq, prev, checkpoint, torn_bytes = begin.seq, begin.prev, None, 0
    file, number, offset = "", 0, 0
    rest = iter(lines)
    for name, number, data in rest:
        file, offset = name, offset if name == file else 0
        record = opened(data)
        fault = record if isinstance(record, What) else _misplaced(record, chain, seq, prev)
        # Most records are neither spoken of nor signed, and there are a million of them.
        if isinstance(record, dict) and fault is None and (seq in expected or record["event"] == "checkpoint"):
            fault = _unproven(record, expected.get(seq, ()), signature_holds)
        if fault is not None:
            after = _look_on(rest, file, seq, prev)
            torn_bytes = len(data) + after.length
            if not after.other_files and torn and torn.get((file, offset)) == torn_bytes:
                break
            fault = What.REORDERED if fault is What.REMOVED and after.turns_up else fault
            return Bad(chain, seq, fault, file, number, _described(record), begin.seq)
        assert not isinstance(record, What)
        match record["event"]:
            case "checkpoint":
                checkpoint = seq
            case "segments-removed":
                removed += removals(record)
        seq, prev, offset = seq + 1, record["hash"], offset + len(data)
    else:
        torn_bytes = 0
    return Stretch(begin, Link(seq, prev), checkpoint, torn_bytes, file, number, tuple(removed))


def removals(record: Record) -> Iterator[Removed]:
    """Give what a `segments-removed` record says; of what it does not say in full, nothing."""
    stated = record.get("removed")
    for each in stated if isinstance(stated, list) else ():
        match each:
            case {"chain": str(chain), "first": int(first), "last": int(last), "hash": str(digest), "ends": bool(ends)}:
                yield Removed(chain, first, last, digest, ends, record["seq"])


def _expectations(named: Sequence[Named]) -> dict[int, list[Named]]:
    expected: dict[int, list[Named]] = {}
    for each in named:
        expected.setdefault(each.seq, []).append(each)
    return expected


def _misplaced(record: Record, chain: str, seq: int, prev: str) -> What | None:
    found = record.get("seq")
    if record.get("chain") != chain or type(found) is not int or not isinstance(record.get("event"), str):
        return What.INSERTED
    if found != seq:
        return What.REMOVED if found > seq else What.INSERTED
    return None if record.get("prev") == prev else What.UNLINKED


def _unproven(record: Record, expected: Sequence[Named], holds: SignatureCheck | None) -> What | None:
    if not all(each.fits(record) for each in expected):
        return What.REPLACED
    if holds is None or record["event"] != "checkpoint":
        return None
    message = checkpoint_message(record["chain"], record["seq"], record["prev"])
    signed = holds(str(record.get("kid")), message, str(record.get("signature")))
    return None if signed else What.BAD_SIGNATURE


@dataclass(frozen=True, slots=True)
class _After:
    """What follows the first fault."""

    length: int
    other_files: bool
    turns_up: bool
    """Whether the record that was expected at the fault comes later."""


def _look_on(rest: Iterator[Line], file: str, seq: int, prev: str) -> _After:
    length, other_files, turns_up = 0, False, False
    for name, _, data in rest:
        if name == file:
            length += len(data)
        else:
            other_files = True
        if not turns_up:
            record = open_line(data)
            turns_up = isinstance(record, dict) and (record.get("seq"), record.get("prev")) == (seq, prev)
    return _After(length, other_files, turns_up)


def _described(record: Record | What) -> str:
    if isinstance(record, What):
        return ""
    return f"chain {record.get('chain')!a} seq {record.get('seq')!a}"
