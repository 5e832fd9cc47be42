"""Verifies the files of long chains side by side, in processes of their own.

What holds in every file and joins from file to file holds as a whole. Anything else is left to be read in order: only
that can tell which record is the first bad one.
"""

import multiprocessing
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.domain.chain import open_line
from gateway.domain.chain_check import Link, Named, Stretch, follow
from gateway.storage.audit_lines import Advance
from gateway.storage.fast_lines import open_fast
from gateway.storage.journal_records import LINE_BYTES
from gateway.storage.signatures import signature_check

_MUCH: Final = 64 * 1024 * 1024
"""Bytes that one process reads as fast as several can be started."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a chain, with all that must be known to verify it alone."""

    chain: str
    path: Path
    named: tuple[Named, ...]
    torn: Mapping[tuple[str, int], int]
    keys: Mapping[str, bytes] | None
    """Ed25519 public keys, raw, by their kid."""


def processes_for(paths: Sequence[Path]) -> int:
    """Say how many processes are worth it for these files."""
    if sum(path.stat().st_size for path in paths) < _MUCH:
        return 1
    # A process with several threads must not fork.
    return 1 if threading.active_count() > 1 else len(os.sched_getaffinity(0))


def follow_apart(parts: Sequence[Part], processes: int, advance: Advance = lambda _: None) -> list[Stretch | None]:
    """Follow every file for itself; None for one that is not without fault, or that nobody could follow.

    `advance` hears of the bytes of each file that is done.
    """
    context = multiprocessing.get_context("fork")
    found: list[Stretch | None] = []
    try:
        with ProcessPoolExecutor(processes, mp_context=context) as pool:
            for part, stretch in zip(parts, pool.map(_stretch, parts), strict=True):
                found.append(stretch)
                advance(part.path.stat().st_size if stretch else 0)
        return found
    except BrokenProcessPool:
        return [None] * len(parts)


def join(stretches: Sequence[Stretch | None]) -> list[Stretch] | None:
    """Give the stretches if each begins where the one before ended, the first wherever it does."""
    good = [each for each in stretches if each is not None]
    joins = len(good) == len(stretches) and all(before.end == each.begin for before, each in pairwise(good))
    # Half a line may be left by a dead writer at the end of its last file only.
    return good if joins and not any(each.torn for each in good[:-1]) else None


def _stretch(part: Part) -> Stretch | None:
    known = part.keys
    keys = None if known is None else {kid: Ed25519PublicKey.from_public_bytes(raw) for kid, raw in known.items()}
    try:
        with part.path.open("rb") as file:
            match open_line(file.readline(LINE_BYTES)):
                case {"seq": int(seq), "prev": str(prev)}:
                    file.seek(0)
                case _:
                    return None
            lines = enumerate(iter(lambda: file.readline(LINE_BYTES), b""), 1)
            found = follow(
                part.chain,
                ((part.path.name, number, line) for number, line in lines),
                Link(seq, prev),
                named=part.named,
                torn=part.torn,
                signature_holds=None if keys is None else signature_check(keys),
                opened=open_fast,
            )
    except OSError:
        return None
    return found if isinstance(found, Stretch) else None
