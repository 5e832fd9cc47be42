"""`grants replay`: what another grants file would have made of the requests on record."""

import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, TypedDict

import click
import msgspec

from gateway.cli import tables
from gateway.cli.grants import grants, read_policy
from gateway.cli.progress import progress
from gateway.domain.grant import Policy
from gateway.domain.replay import REQUESTS, Again, Replayed, replay
from gateway.storage.audit_lines import Advance
from gateway.storage.journal_records import LINE_BYTES
from gateway.storage.stretches import processes_for
from gateway.storage.verification import Unreadable, audit_files

_STEP: Final = 4 * 1024 * 1024
"""Bytes that one process decides at a time: a step of the progress bar."""


@dataclass(slots=True)
class Tally:
    """How many requests came out how."""

    found: Counter[Again] = field(default_factory=Counter)
    unreadable: int = 0
    """Lines that are no whole record, such as the last one of a process that was killed."""

    @property
    def requests(self) -> int:
        """All of them."""
        return self.found.total()

    def add(self, other: "Tally") -> None:
        """Count what somebody else has counted."""
        self.found += other.found
        self.unreadable += other.unreadable


Flip = dict[str, Any]
"""A decision that would flip: what was asked, `before`, `after`."""


class _Told(TypedDict):
    """What of a record a decision needs; the rest of the line is passed over unread."""

    event: Any
    time: Any
    partner: Any
    customer: Any
    operation: Any
    appointment: Any
    decision: Any
    code: Any
    checks: Any
    facts: Any
    reason: Any
    now: Any


_read: Final = msgspec.json.Decoder(_Told).decode


@dataclass(frozen=True, slots=True)
class _Part:
    """The lines of a file that begin between two offsets."""

    path: Path
    begin: int
    end: int


def replay_files(
    files: Sequence[Path],
    policy: Policy,
    flipped: Callable[[Flip], None],
    advance: Advance = lambda _: None,
    processes: int | None = None,
) -> Tally:
    """Decide every request in these files again; the flips are told in the order of the files.

    `advance` hears how many bytes are done. `processes`: how many share the work; by default as many as are worth it.
    """
    tally, parts = Tally(), list(_parts(files))
    several = processes_for(files) if processes is None else processes
    with _deciding(policy, several) as decided:
        for part, (counted, flips) in zip(parts, decided(parts), strict=True):
            tally.add(counted)
            for each in flips:
                flipped(each)
            advance(part.end - part.begin)
    return tally


@contextmanager
def _deciding(policy: Policy, processes: int) -> Iterator[Callable[[list[_Part]], Iterator[tuple[Tally, list[Flip]]]]]:
    if processes == 1:
        yield lambda parts: (_decided(part, policy) for part in parts)
        return
    # Forked, a process has the policy already, however large it is.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, context, _Worker.begin, (policy,)) as pool:
        yield lambda parts: pool.map(_Worker.decided, parts)


class _Worker:
    """What a process of the pool has at hand."""

    policy: ClassVar[Policy]

    @classmethod
    def begin(cls, policy: Policy) -> None:
        cls.policy = policy

    @classmethod
    def decided(cls, part: _Part) -> tuple[Tally, list[Flip]]:
        return _decided(part, cls.policy)


def _parts(files: Sequence[Path]) -> Iterator[_Part]:
    for path in files:
        size = path.stat().st_size
        for begin in range(0, size, _STEP):
            yield _Part(path, begin, min(begin + _STEP, size))


def _decided(part: _Part, policy: Policy) -> tuple[Tally, list[Flip]]:
    tally, flips = Tally(), list[Flip]()
    for line in _lines(part):
        try:
            record = _request(line)
            if record["event"] not in REQUESTS or record["partner"] is None or record["customer"] is None:
                continue
            replayed = replay(record, policy)
        except (ValueError, KeyError, TypeError):
            tally.unreadable += 1
            continue
        tally.found[replayed.again] += 1
        if replayed.again is Again.FLIPPED:
            flips.append(_flip(json.loads(line), replayed))
    return tally, flips


def _request(line: bytes) -> Mapping[str, Any]:
    try:
        return _read(line)
    except (msgspec.MsgspecError, RecursionError):
        record: dict[str, Any] = json.loads(line.decode())
        return record


def _lines(part: _Part) -> Iterator[bytes]:
    with part.path.open("rb") as file:
        at = part.begin
        if at:
            # The line under way there belongs to the part before.
            file.seek(at - 1)
            at += len(file.readline(LINE_BYTES)) - 1
        while at < part.end and (line := file.readline(LINE_BYTES)):
            at += len(line)
            yield line


@grants.command("replay")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="AUDIT...")
@click.option("--against", required=True, type=tables.FILE, help="The other grants file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of lines.")
def replay_command(paths: tuple[Path, ...], against: Path, *, as_json: bool) -> None:
    """Decide the requests in audit files and folders again under another grants file: which ones would flip?

    A record without facts is decided as far as the gate and counted as undecided when it gets beyond.
    """
    policy = read_policy(against)
    try:
        files = audit_files(paths)
    except (Unreadable, OSError) as error:
        raise click.ClickException(str(error)) from error
    if not files:
        raise click.ClickException("no audit records (*.jsonl) there")
    told = _JsonFlips() if as_json else _WordFlips()
    began = time.monotonic()
    try:
        with progress("deciding again", files) as advance:
            tally = replay_files(files, policy, told.flipped, advance)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    told.end(tally, time.monotonic() - began)


def _flip(record: Mapping[str, Any], replayed: Replayed) -> Flip:
    names = ("time", "now", "chain", "seq", "request_id", "partner", "customer", "operation", "appointment")
    return {
        **{name: record.get(name) for name in names},
        "before": {name: record.get(name) for name in ("decision", "code", "grant")},
        "after": {
            "decision": "permit" if replayed.code is None else "refuse",
            "code": replayed.code,
            "grant": replayed.grant,
        },
    }


class _WordFlips:
    def flipped(self, flip: Flip) -> None:
        was, becomes = (
            "permitted" if each["decision"] == "permit" else f"refused ({each['code']})"
            for each in (flip["before"], flip["after"])
        )
        what = f"{flip['operation'] or 'write'} {flip['appointment'] or ''}".strip()
        line = f"{flip['now'] or flip['time']} {flip['partner']} {what} at {flip['customer']}"
        click.echo(f"{line}: was {was}, would be {becomes} [{flip['chain']} {flip['seq']}]")

    def end(self, tally: Tally, seconds: float) -> None:
        found = tally.found
        click.echo(
            f"{tally.requests} requests: {found[Again.FLIPPED]} would flip,"
            f" {found[Again.OTHER_CODE]} refused for another reason, {found[Again.UNDECIDED]} undecided,"
            f" {found[Again.SAME]} as before"
        )
        click.echo(f"{seconds:.1f} s, {tally.requests / max(seconds, 1e-9):.0f} decisions/s", err=True)
        if tally.unreadable:
            click.echo(f"note: {tally.unreadable} lines are no records and were left out", err=True)


class _JsonFlips:
    """Writes one object as it goes, however many flips there are."""

    def __init__(self) -> None:
        self._started = False

    def flipped(self, flip: Flip) -> None:
        click.echo(("," if self._started else '{"flips": [') + "\n" + json.dumps(flip), nl=False)
        self._started = True

    def end(self, tally: Tally, seconds: float) -> None:
        rest = {
            "requests": tally.requests,
            "flipped": tally.found[Again.FLIPPED],
            "other_code": tally.found[Again.OTHER_CODE],
            "undecided": tally.found[Again.UNDECIDED],
            "same": tally.found[Again.SAME],
            "unreadable": tally.unreadable,
            "seconds": round(seconds, 3),
            "decisions_per_second": round(tally.requests / max(seconds, 1e-9)),
        }
        click.echo(("\n" if self._started else '{"flips": [') + "], " + json.dumps(rest)[1:])
