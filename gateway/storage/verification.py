"""Reads audit files back: all chains of a folder, what they say of each other, and whether they hold."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.domain.chain import Record, What, checkpoint_message, open_line
from gateway.domain.chain_check import Bad, Line, Link, Named, Sound, Stretch, follow, joined
from gateway.domain.removal import Removals, upheld
from gateway.storage.audit_lines import Advance
from gateway.storage.fast_lines import open_fast
from gateway.storage.journal_files import SEGMENT_NAME, SUFFIX
from gateway.storage.journal_records import LINE_BYTES
from gateway.storage.signatures import from_base64url, signature_check
from gateway.storage.stretches import Part, follow_apart, join, processes_for

Pause = Callable[[float], None]
_PAUSES: Final = (0.05, 0.2, 0.5)
"""Seconds to wait for the rest of a line that a living journal may be writing just now."""


class Unreadable(Exception):
    """A file given to the verification is not what it should be; the message names it."""


@dataclass(frozen=True, slots=True)
class Report:
    """What became of every chain, in the order of their ids."""

    chains: tuple[Sound | Bad, ...]

    @property
    def bad(self) -> tuple[Bad, ...]:
        """The first bad record of every bad chain."""
        return tuple(each for each in self.chains if isinstance(each, Bad))


@dataclass(frozen=True, slots=True)
class _Segment:
    path: Path
    chain: str
    order: int
    """Among the files of its chain."""
    begin: Link = Link()  # noqa: RUF009 - a frozen value
    """Where its first record says that it begins, if that holds."""


@dataclass(frozen=True, slots=True)
class _Sayings:
    """What start records and checkpoints say of other chains and of torn tails."""

    named: dict[str, list[Named]]
    torn: dict[tuple[str, int], int]


def audit_files(paths: Iterable[Path]) -> list[Path]:
    """Find the audit files among files and folders. Raises Unreadable for a path that is not there."""
    found: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise Unreadable(f"{path}: no such file or folder")
        found.update(dict.fromkeys(sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]))
    return list(found)


def verify(
    paths: Iterable[Path],
    *,
    keys: Mapping[str, Ed25519PublicKey] | None = None,
    checkpoints: Mapping[str, Sequence[Named]] | None = None,
    pause: Pause | None = None,
    processes: int | None = None,
    advance: Advance = lambda _: None,
) -> Report:
    """Verify every chain in these files, in constant memory. Raises Unreadable.

    `checkpoints`: what is known from elsewhere to be in a chain. `pause` sleeps; without it a line that is
    being written while we read counts as torn. `processes`: how many may share the work; by default as many as
    there are processors, once that is worth it. `advance` hears how many bytes are done.
    """
    files = audit_files(paths)
    segments, sayings = _survey(files)
    for chain, named in (checkpoints or {}).items():
        sayings.named.setdefault(chain, []).extend(named)
    several = processes_for(files) if processes is None else processes
    reading = _Reading(segments, sayings, keys, pause, advance)
    known = reading.apart(several) if several > 1 else {}
    found = {chain: known.get(chain) or reading.in_order(chain) for chain in segments}
    good = {chain: stretches for chain, stretches in found.items() if not isinstance(stretches, Bad)}
    removals, unfounded = upheld(good, signed=keys is not None)
    chains: list[Sound | Bad] = []
    for chain in sorted(segments.keys() | sayings.named.keys() | removals.of.keys()):
        named = sayings.named.get(chain, [])
        if chain not in segments:
            chains.append(removals.whole(chain, named))
            continue
        stretches = found[chain]
        if chain in unfounded or not (isinstance(stretches, list) or _may_begin_there(reading, chain, removals)):
            stretches = reading.in_order(chain, Link())
        chains.append(stretches if isinstance(stretches, Bad) else joined(chain, stretches, named))
    return Report(tuple(chains))


def _may_begin_there(reading: "_Reading", chain: str, removals: Removals) -> bool:
    begin = reading.segments[chain][0].begin
    return begin == Link() or removals.covers(chain, begin.seq - 1, begin.prev)


@dataclass(frozen=True, slots=True)
class _Reading:
    """All that is known before the first chain is followed."""

    segments: Mapping[str, Sequence[_Segment]]
    sayings: _Sayings
    keys: Mapping[str, Ed25519PublicKey] | None
    pause: Pause | None
    advance: Advance

    def apart(self, processes: int) -> dict[str, list[Stretch]]:
        """Give the stretches of the chains that are without fault; the others are still to be read in order."""
        raw = None if self.keys is None else {kid: key.public_bytes_raw() for kid, key in self.keys.items()}
        parts = [
            Part(chain, segment.path, tuple(self.sayings.named.get(chain, ())), self.sayings.torn, raw)
            for chain, several in self.segments.items()
            for segment in several
        ]
        found: dict[str, list[Stretch | None]] = {}
        for part, stretch in zip(parts, follow_apart(parts, processes, self.advance), strict=True):
            found.setdefault(part.chain, []).append(stretch)
        return {chain: good for chain, stretches in found.items() if (good := join(stretches)) is not None}

    def in_order(self, chain: str, begin: Link | None = None) -> list[Stretch] | Bad:
        """Follow a chain from its first file on; without `begin` it may begin anywhere."""
        several = self.segments[chain]
        stretch = follow(
            chain,
            _lines(several, self.sayings.torn, self.pause, self.advance),
            begin or several[0].begin,
            named=self.sayings.named.get(chain, []),
            torn=self.sayings.torn,
            signature_holds=None if self.keys is None else signature_check(self.keys),
            opened=open_fast,
        )
        return stretch if isinstance(stretch, Bad) else [stretch]


def read_keys(path: Path) -> dict[str, Ed25519PublicKey]:
    """Read the Ed25519 public keys of a JWKS file (RFC 8037) by their kid. Raises Unreadable."""
    try:
        found = json.loads(path.read_bytes())["keys"]
        keys = {
            key["kid"]: Ed25519PublicKey.from_public_bytes(from_base64url(key["x"]))
            for key in found
            if key.get("kty") == "OKP" and key.get("crv") == "Ed25519"
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"{path}: not a readable JWKS") from error
    if not keys:
        raise Unreadable(f"{path}: no Ed25519 key in it")
    return keys


def read_checkpoints(path: Path, keys: Mapping[str, Ed25519PublicKey] | None = None) -> dict[str, list[Named]]:
    """Read checkpoint records kept aside, one a line: `chain`, `seq`, `prev`, perhaps `hash`. Raises Unreadable.

    With `keys` every one of them must be signed: a checkpoint is worth no more than the place it was kept.
    """
    found: dict[str, list[Named]] = {}
    try:
        for record in _json_values(path.read_bytes().decode()):
            chain, named = _checkpoint(record, path.name, keys)
            found.setdefault(chain, []).append(named)
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable(f"{path}: {error}") from error
    if not found:
        raise Unreadable(f"{path}: no checkpoint in it")
    return found


def _json_values(text: str) -> list[Any]:
    """Read one JSON value, however it is laid out, or one a line."""
    try:
        return [json.loads(text)]
    except ValueError:
        *whole, rest = text.split("\n")
        found = [json.loads(line) for line in whole if line.strip()]
        # Half a line at the end: whoever wrote the file had no time for it.
        with contextlib.suppress(ValueError):
            found += [json.loads(rest)] if rest.strip() or not found else []
        return found


def _checkpoint(record: Any, name: str, keys: Mapping[str, Ed25519PublicKey] | None) -> tuple[str, Named]:
    match record:
        case {"chain": str(chain), "seq": int(seq), "prev": str(prev)} if seq > 0:
            pass
        case _:
            raise ValueError("not a checkpoint: chain, seq and prev are needed")
    if keys is not None:
        message = checkpoint_message(chain, seq, prev)
        if not signature_check(keys)(str(record.get("kid")), message, str(record.get("signature"))):
            raise ValueError(f"none of the keys signed its checkpoint {seq}")
    digest = record.get("hash")
    return chain, Named(seq, f"the checkpoint in {name}", digest if isinstance(digest, str) else None, prev)


def _survey(files: Sequence[Path]) -> tuple[dict[str, list[_Segment]], _Sayings]:
    segments: dict[str, list[_Segment]] = {}
    sayings = _Sayings({}, {})
    for path in files:
        try:
            with path.open("rb") as file:
                first = open_line(file.readline(LINE_BYTES))
                if file.tell() == 0:
                    continue
                segment = _placed(path, first, file)
        except OSError as error:
            raise Unreadable(f"{path}: {error.strerror}") from error
        segments.setdefault(segment.chain, []).append(segment)
        # A start record that does not hold is found where it stands; what it says counts for nothing.
        if isinstance(first, dict) and first.get("event") == "start":
            _listen(first, path, sayings)
    for several in segments.values():
        several.sort(key=lambda segment: (segment.order, segment.path.name))
    return segments, sayings


def _placed(path: Path, first: Record | What, rest: BinaryIO) -> _Segment:
    """Tell chain and place by the journal's way of naming files, else by the first record that holds."""
    begin = Link()
    match first:
        case {"seq": int(seq), "prev": str(prev)} if seq > 0:
            begin = Link(seq, prev)
    if named := SEGMENT_NAME.fullmatch(path.name):
        return _Segment(path, named["chain"], int(named["number"]), begin)
    record = first
    while isinstance(record, What) and (line := rest.readline(LINE_BYTES)):
        record = open_line(line)
    match record:
        case {"chain": str(chain), "seq": int(seq)}:
            return _Segment(path, chain, seq, begin)
    return _Segment(path, path.name.removesuffix(SUFFIX), 0)


def _listen(record: Record, path: Path, sayings: _Sayings) -> None:
    by = f"the start record of chain {record.get('chain')!a} ({path.name}:1)"
    for each in record.get("chains") or ():
        match each:
            case {"chain": str(chain), "seq": int(seq), "hash": str(digest)}:
                named = sayings.named.setdefault(chain, [])
                if not any((seq, digest) == (other.seq, other.hash) for other in named):
                    named.append(Named(seq, by, digest))
    for each in record.get("torn") or ():
        match each:
            case {"file": str(file), "offset": int(offset), "length": int(length)}:
                sayings.torn[file, offset] = length


def _lines(
    segments: Sequence[_Segment],
    torn: Mapping[tuple[str, int], int],
    pause: Pause | None,
    advance: Advance,
) -> Iterator[Line]:
    for segment in segments:
        name, number, offset = segment.path.name, 0, 0
        with segment.path.open("rb") as file:
            while line := file.readline(LINE_BYTES):
                number += 1
                if not line.endswith(b"\n") and pause is not None and (name, offset) not in torn:
                    line += _rest_of_line(file, LINE_BYTES - len(line), pause)
                yield name, number, line
                offset += len(line)
        advance(offset)


def _rest_of_line(file: BinaryIO, size: int, pause: Pause) -> bytes:
    rest = b""
    for seconds in _PAUSES:
        pause(seconds)
        rest += file.readline(size - len(rest))
        if rest.endswith(b"\n"):
            break
    return rest
