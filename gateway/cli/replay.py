"""`grants replay`: what another grants file would have made of the requests on record."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import click

from gateway.cli import tables
from gateway.cli.grants import read_policy
from gateway.cli.progress import progress
from gateway.domain.grant import Policy
from gateway.domain.replay import REQUESTS, Again, Replayed, replay
from gateway.storage.audit_lines import Advance, audit_lines
from gateway.storage.verification import Unreadable, audit_files


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


class Flipped(Protocol):
    """Hears of every decision that would flip."""

    def __call__(self, record: Mapping[str, Any], replayed: Replayed) -> None:
        """Take one."""
        ...


def replay_files(files: list[Path], policy: Policy, flipped: Flipped, advance: Advance = lambda _: None) -> Tally:
    """Decide every request in these files again, line by line. `advance` hears how many bytes are done."""
    tally = Tally()
    for _, _, line in audit_lines(files, advance):
        try:
            record = json.loads(line.decode())
            if record["event"] not in REQUESTS or record["partner"] is None or record["customer"] is None:
                continue
            replayed = replay(record, policy)
        except (ValueError, KeyError, TypeError):
            tally.unreadable += 1
            continue
        tally.found[replayed.again] += 1
        if replayed.again is Again.FLIPPED:
            flipped(record, replayed)
    return tally


@click.command("replay")
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


def _flip(record: Mapping[str, Any], replayed: Replayed) -> dict[str, Any]:
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
    def flipped(self, record: Mapping[str, Any], replayed: Replayed) -> None:
        was = "permitted" if record["decision"] == "permit" else f"refused ({record['code']})"
        becomes = "permitted" if replayed.code is None else f"refused ({replayed.code})"
        what = f"{record['operation'] or 'write'} {record['appointment'] or ''}".strip()
        place = f"{record.get('chain')} {record.get('seq')}"
        line = f"{record['now'] or record['time']} {record['partner']} {what} at {record['customer']}"
        click.echo(f"{line}: was {was}, would be {becomes} [{place}]")

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

    def flipped(self, record: Mapping[str, Any], replayed: Replayed) -> None:
        click.echo(("," if self._started else '{"flips": [') + "\n" + json.dumps(_flip(record, replayed)), nl=False)
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
