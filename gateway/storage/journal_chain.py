"""One chain on disk: records in, durable lines out. Blocking; one thread at a time."""

import base64
import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.domain.chain import FIRST_PREV, NotCanonical, Record, Sealed, checkpoint_message
from gateway.storage.fast_lines import seal_fast
from gateway.storage.journal_files import Head, Put, Segment, Sync, prepare, segment_name, survey
from gateway.storage.journal_records import LINE_BYTES, RECORD_BYTES, placed, stamp

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Signer:
    """The key that signs checkpoints. `kid` names its public half in the JWKS given to auditors."""

    kid: str
    key: Ed25519PrivateKey

    def sign(self, message: bytes) -> str:
        """Sign with Ed25519; base64url without padding."""
        return base64.urlsafe_b64encode(self.key.sign(message)).rstrip(b"=").decode()


def _free_bytes(directory: Path) -> int:
    return shutil.disk_usage(directory).free


def _new_id() -> str:
    return secrets.token_hex(4)


@dataclass(frozen=True, slots=True)
class Platform:
    """What the journal asks of the machine."""

    put: Put = os.write
    sync: Sync = os.fdatasync
    free_bytes: Callable[[Path], int] = _free_bytes
    new_id: Callable[[], str] = _new_id


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """Where the chain is kept, when it goes on in a new file, when it is signed."""

    directory: Path
    segment_bytes: int = 64 * 1024 * 1024
    checkpoint_records: int = 1000
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Draft:
    """A record on its way into the chain, and when it was handed in."""

    record: Record
    time: str


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of a batch: for each draft its seq, or why the chain cannot hold it; and the durable lines."""

    results: tuple[int | ValueError, ...]
    lines: tuple[bytes, ...]


class ChainWriter:
    """Appends to one chain, file after file. Methods raise OSError and may simply be called again later."""

    def __init__(self, settings: ChainSettings, clock: Clock, signer: Signer | None, platform: Platform) -> None:
        self._settings = settings
        self._clock = clock
        self._signer = signer
        self._platform = platform
        self._segment: Segment | None = None
        self._number = 0
        self._day = clock().astimezone(UTC).date()
        self._wounded = False
        self._head = Head("", 0, FIRST_PREV)
        self._former: Head | None = None
        self._signed_seq = 0
        self._signed_at = clock()

    @property
    def head(self) -> Head:
        """The last durable record; seq 0 before the first."""
        return self._head

    @property
    def checkpoint_due(self) -> bool:
        """Whether the last checkpoint is too old or too far back. One that follows nothing new is never due."""
        return self._signer is not None and self._due_after(self._head)

    def begin(self) -> Committed:
        """Start a chain: its first record names the last hash of every chain in the folder, and torn tails."""
        prepare(self._settings.directory)
        self._release()
        heads, torn = survey(self._settings.directory)
        if self._head.seq:
            self._former = self._head
        # The own chain so far, when its file was removed: it must be missed.
        if self._former is not None and self._former.chain not in {head.chain for head in heads}:
            heads.append(self._former)
        now = self._clock()
        self._head = Head(f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{self._platform.new_id()}", 0, FIRST_PREV)
        self._number, self._signed_seq, self._wounded = 0, 0, False
        record: Record = {
            "event": "start",
            "chains": [{"chain": head.chain, "seq": head.seq, "hash": head.hash} for head in heads],
            "torn": [{"file": each.file, "offset": each.offset, "length": each.length} for each in torn],
        }
        try:
            return self._append([Draft(record, stamp(now))], sign=True, limit=LINE_BYTES)
        except OSError:
            self._discard()
            raise

    def commit(self, drafts: Sequence[Draft]) -> Committed:
        """Make a batch durable, in order. A draft that the chain cannot hold takes no number."""
        started = self._recover()
        done = self._append(drafts, sign=False)
        return Committed(done.results, (*started, *done.lines))

    def sign(self) -> Committed:
        """Write a checkpoint; nothing without a key."""
        return Committed((), (*self._recover(), *self._append([], sign=True).lines))

    def end(self) -> Committed:
        """Write the last record and its checkpoint, and let go of the file."""
        started = self._recover()
        done = self._append([Draft({"event": "stop"}, stamp(self._clock()))], sign=True)
        self._release()
        return Committed(done.results, (*started, *done.lines))

    def abandon(self) -> None:
        """Let go of the file without a last record."""
        self._release()

    def _append(self, drafts: Sequence[Draft], *, sign: bool, limit: int = RECORD_BYTES) -> Committed:
        head, results, lines = self._head, list[int | ValueError](), list[bytes]()
        for draft in drafts:
            try:
                sealed = _sealed(draft, head, limit)
            except NotCanonical as error:
                results.append(error)
                continue
            head = Head(head.chain, head.seq + 1, sealed.hash)
            results.append(head.seq)
            lines.append(sealed.line)
        signed = None
        if self._signer is not None and (sign or self._due_after(head)):
            sealed = _sealed(self._checkpoint(self._signer, head), head, limit)
            head = signed = Head(head.chain, head.seq + 1, sealed.hash)
            lines.append(sealed.line)
        if lines:
            self._write(b"".join(lines))
        self._head = head
        if signed is not None:
            self._signed_seq, self._signed_at = signed.seq, self._clock()
        return Committed(tuple(results), tuple(lines))

    def _due_after(self, head: Head) -> bool:
        if head.seq <= self._signed_seq:
            return False
        age = (self._clock() - self._signed_at).total_seconds()
        many = head.seq - self._signed_seq >= self._settings.checkpoint_records
        # After a clock was set back, an age below zero would put the next signature off until it has caught up.
        return many or not 0 <= age < self._settings.checkpoint_seconds

    def _checkpoint(self, signer: Signer, head: Head) -> Draft:
        message = checkpoint_message(head.chain, head.seq + 1, head.hash)
        record: Record = {"event": "checkpoint", "signature": signer.sign(message), "kid": signer.kid}
        return Draft(record, stamp(self._clock()))

    def _write(self, data: bytes) -> None:
        segment = self._segment_for_today()
        self._wounded = True
        segment.append(data)
        self._wounded = False

    def _segment_for_today(self) -> Segment:
        day = self._clock().astimezone(UTC).date()
        segment = self._segment
        if segment is not None and segment.durable < self._settings.segment_bytes and day == self._day:
            return segment
        name = segment_name(self._head.chain, self._number + 1)
        fresh = Segment(self._settings.directory, name, put=self._platform.put, sync=self._platform.sync)
        self._release()
        self._segment, self._number, self._day = fresh, self._number + 1, day
        return fresh

    def _recover(self) -> tuple[bytes, ...]:
        """After a fault: take half-written lines away; where the file itself is gone, go on in a new chain."""
        if self._segment is None or self._segment.gone():
            return self.begin().lines
        if self._wounded:
            self._segment.heal()
            self._wounded = False
        return ()

    def _discard(self) -> None:
        """Remove the file of a chain that never began."""
        if self._segment is not None:
            with contextlib.suppress(OSError):
                self._segment.path.unlink()
        self._release()

    def _release(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None


def _sealed(draft: Draft, head: Head, limit: int) -> Sealed:
    sealed = seal_fast(placed(draft.record, head.chain, head.seq + 1, draft.time), head.hash)
    if len(sealed.line) > limit:
        raise NotCanonical("a record too long for the audit stream")
    return sealed
