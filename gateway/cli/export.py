"""`audit export`: the audit stream for other systems and for the people whom it is about."""

import csv
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

import click

from gateway.app.pseudonyms import pseudonym_keys_alone
from gateway.cli import tables
from gateway.cli.audit_filter import Wanted, filter_options
from gateway.cli.progress import progress
from gateway.configuration.secret import Reading, read_secret
from gateway.domain.chain import Record, What, open_line
from gateway.domain.pseudonym import Pseudonyms, known_as, read_nhs_number
from gateway.storage.audit_events import audit_event
from gateway.storage.audit_lines import Advance, audit_lines
from gateway.storage.verification import Unreadable, audit_files

COLUMNS: Final = (
    "time", "event", "partner", "customer", "operation", "appointment", "decision", "code", "outcome", "final",
    "recovered", "reason", "start", "changed", "grant", "task", "operator", "client", "patient", "request_id",
    "correlation_id", "chain", "seq",
)  # fmt: skip
_LONGEST_ANSWER: Final = 200
_FEW: Final = 3
_ID: Final = r"ID=FILE, such as k1=old.key"


class _Names(click.ParamType[tuple[str, Path]]):
    name = "ID=FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        if isinstance(value, tuple):
            return value
        id_, sign, file = str(value).partition("=")
        if not (sign and file and id_.startswith("k") and id_[1:].isdigit()):
            self.fail(f"expected {_ID}", param, ctx)
        return id_, Path(file)


@dataclass(slots=True)
class _Left:
    """Lines that could not be exported."""

    torn: int = 0
    bad: list[str] = field(default_factory=list)
    """The places of the first few."""
    count: int = 0


@click.command("export")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--format", "form", required=True, type=click.Choice(["fhir", "csv"]), help="AuditEvents, or a table.")
@filter_options
@click.option("--patient", is_flag=True, help="One patient's records; the NHS number is read from standard input.")
@click.option("--config", type=tables.FILE, help="With --patient: settings that name the pseudonym keys.")
@click.option("--pseudonym-key", "keys", type=_Names(), multiple=True, help="With --patient: a key's id and file.")
@click.option("--site", default="pkb-gateway", show_default=True, help="The gateway's name in AuditEvents.")
def export_command(
    paths: tuple[Path, ...],
    form: str,
    wanted: Wanted,
    config: Path | None,
    keys: tuple[tuple[str, Path], ...],
    site: str,
    *,
    patient: bool,
) -> None:
    """Write audit records to standard output: FHIR R4 AuditEvents (IHE BALP), one a line, or CSV.

    Lines that are no whole record, or do not match their hash, are left out and counted; of other than a half line at
    the end of a file the status is 1.
    """
    if patient:
        wanted = dataclasses.replace(wanted, patients=_names_of_patient(_keys(config, keys)))
    elif config is not None or keys:
        raise click.UsageError("--config and --pseudonym-key are for --patient")
    write = _fhir(sys.stdout, site) if form == "fhir" else _csv(sys.stdout)
    left = _Left()
    try:
        files = audit_files(paths)
        if not files:
            raise click.ClickException("no audit records (*.jsonl) there")
        with progress("exporting", files) as advance:
            for record in _records(files, wanted, left, advance):
                write(record)
    except Unreadable as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename or 'standard output'}: {error.strerror}") from error
    _tell(left)


def _records(files: Sequence[Path], wanted: Wanted, left: _Left, advance: Advance) -> Iterator[Record]:
    for path, number, line in audit_lines(files, advance):
        if not wanted.may_be(line):
            continue
        record = open_line(line)
        if record is What.TORN:
            left.torn += 1
        elif isinstance(record, What):
            left.count += 1
            left.bad += [f"{path.name}:{number}"] if len(left.bad) < _FEW else []
        elif wanted.takes(record):
            yield record


def _tell(left: _Left) -> None:
    if left.torn:
        click.echo(f"note: {left.torn} half lines were left out", err=True)
    if left.count:
        first = ", ".join(left.bad)
        click.echo(
            f"{left.count} lines are no records or were edited, and were left out: {first} (audit verify)", err=True
        )
        raise click.exceptions.Exit(1)


def _keys(config: Path | None, named: Sequence[tuple[str, Path]]) -> list[Pseudonyms]:
    if config is None and not named:
        raise click.UsageError("--patient needs the pseudonym keys: give --config or --pseudonym-key")
    try:
        here = Reading(Path.cwd())
        found = [Pseudonyms(id_, read_secret(f"file:{file}", here).reveal().encode()) for id_, file in named]
        if config is not None:
            audit = tables.settings_without_secrets(config).audit
            found += pseudonym_keys_alone(audit, Reading(config.absolute().parent))
    except ValueError as error:
        raise click.ClickException(f"a pseudonym key cannot be used: {error}") from error
    return found


def _names_of_patient(keys: Sequence[Pseudonyms]) -> frozenset[str]:
    if sys.stdin.isatty():
        answer = click.prompt("NHS number", hide_input=True, err=True)
    else:
        answer = sys.stdin.readline(_LONGEST_ANSWER)
    try:
        return known_as(keys, read_nhs_number(answer))
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _fhir(out: TextIO, site: str) -> Callable[[Record], None]:
    def write(record: Record) -> None:
        out.write(json.dumps(audit_event(record, site), ensure_ascii=False, separators=(",", ":")) + "\n")

    return write


def _csv(out: TextIO) -> Callable[[Record], None]:
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)

    def write(record: Record) -> None:
        change: Mapping[str, Any] = record["change"] or {}
        row = {**record, "start": (record["facts"] or {}).get("start"), "changed": " ".join(change)}
        writer.writerow([tables.csv_cell(row[name]) for name in COLUMNS])

    return write
