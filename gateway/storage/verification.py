"""Reads audit files back: all chains of a folder, what they say of each other, and whether they hold."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.domain.chain import (
    Bad,
    Line,
    Named,
    Record,
    Sound,
    Stretch,
    What,
    checkpoint_message,
    joined,
    open_line,
    verify_chain,
)
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
) -> Report:
    """Verify every chain in these files, in constant memory. Raises Unreadable.

    `checkpoints`: what is known from elsewhere to be in a chain. `pause` sleeps; without it a line that is
    being written while we read counts as torn. `processes`: how many may share the work; by default as many as
    there are processors, once that is worth it.
    """
    files = audit_files(paths)
    segments, sayings = _survey(files)
    for chain, named in (checkpoints or {}).items():
        sayings.named.setdefault(chain, []).extend(named)
    several = processes_for(files) if processes is None else processes
    known = _in_several(segments, sayings, keys, several) if several > 1 else {}
    chains: list[Sound | Bad] = []
    for chain in sorted(segments.keys() | sayings.named.keys()):
        named = sayings.named.get(chain, [])
        if chain not in segments:
            chains.append(Bad(chain, 1, What.MISSING_CHAIN, "", 0, named[0].by))
            continue
        if chain in known:
            chains.append(joined(chain, known[chain], named))
            continue
        lines = _lines(segments[chain], sayings.torn, pause)
        holds = None if keys is None else signature_check(keys)
        chains.append(verify_chain(chain, lines, named=named, torn=sayings.torn, signature_holds=holds))
    return Report(tuple(chains))


def _in_several(
    segments: Mapping[str, Sequence[_Segment]],
    sayings: _Sayings,
    keys: Mapping[str, Ed25519PublicKey] | None,
    processes: int,
) -> dict[str, list[Stretch]]:
    """Give the stretches of the chains that are without fault; the others are still to be read in order."""
    raw = None if keys is None else {kid: key.public_bytes_raw() for kid, key in keys.items()}
    parts = [
        Part(chain, segment.path, tuple(sayings.named.get(chain, ())), sayings.torn, raw)
        for chain, several in segments.items()
        for segment in several
    ]
    found: dict[str, list[Stretch | None]] = {}
    for part, stretch in zip(parts, follow_apart(parts, processes), strict=True):
        found.setdefault(part.chain, []).append(stretch)
    return {chain: good for chain, stretches in found.items() if (good := join(stretches)) is not None}


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
        return [json.loads(line) for line in text.split("\n") if line.strip()]


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
    if named := SEGMENT_NAME.fullmatch(path.name):
        return _Segment(path, named["chain"], int(named["number"]))
    record = first
    while isinstance(record, What) and (line := rest.readline(LINE_BYTES)):
        record = open_line(line)
    match record:
        case {"chain": str(chain), "seq": int(seq)}:
            return _Segment(path, chain, seq)
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


def _lines(segments: Sequence[_Segment], torn: Mapping[tuple[str, int], int], pause: Pause | None) -> Iterator[Line]:
    for segment in segments:
        name, number, offset = segment.path.name, 0, 0
        with segment.path.open("rb") as file:
            while line := file.readline(LINE_BYTES):
                number += 1
                if not line.endswith(b"\n") and pause is not None and (name, offset) not in torn:
                    line += _rest_of_line(file, LINE_BYTES - len(line), pause)
                yield name, number, line
                offset += len(line)


def _rest_of_line(file: BinaryIO, size: int, pause: Pause) -> bytes:
    rest = b""
    for seconds in _PAUSES:
        pause(seconds)
        rest += file.readline(size - len(rest))
        if rest.endswith(b"\n"):
            break
    return rest
