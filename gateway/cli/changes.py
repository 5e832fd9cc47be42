"""`changes`: what was changed through the gateway, to be put right in the hospital's own system."""

import csv
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import click

from gateway.app.grants import read_policy
from gateway.cli import tables
from gateway.cli.completion import customer_ids
from gateway.configuration.problems import ConfigurationRefused
from gateway.configuration.settings import Settings
from gateway.domain.changes import Changes, Made
from gateway.storage.journal_records import LINE_BYTES
from gateway.storage.verification import Unreadable, audit_files

COLUMNS: Final = (
    "time", "operation", "appointment", "partner", "outcome", "final", "reason", "start_before", "start_after",
    "end_before", "end_after", "changed", "version_before", "version_after", "task", "request_id",
)  # fmt: skip
_SHOWN: Final = ("time", "operation", "appointment", "partner", "outcome", "reason", "start_before", "start_after")
_EVENTS: Final = (b'"intent"', b'"outcome"')


@click.command("changes")
@click.option("--customer", required=True, metavar="ID", shell_complete=customer_ids, help="Whose appointments.")
@click.option("--since", required=True, metavar="DATE", help="From then on; in the customer's zone without an offset.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV with a row for each, in place of a table.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array, in place of a table.")
@tables.config_option
def changes_command(customer: str, since: str, config: Path, *, as_csv: bool, as_json: bool) -> None:
    """List what was changed and cancelled through the gateway, out of the audit stream.

    Texts are told as their length and keyed hash, as the audit has them.
    """
    if as_csv and as_json:
        raise click.ClickException("either --csv or --json")
    settings = tables.settings_without_secrets(config)
    zone = _zone(settings, customer)
    found = Changes(customer, tables.read_time(since, zone))
    _gather(found, settings.audit.directory)
    rows = [_row(made, zone) for made in found.made()]
    if as_json:
        tables.echo_json(
            [{**row, "change": made.intent["change"]} for made, row in zip(found.made(), rows, strict=True)]
        )
    elif as_csv:
        _write_csv(rows)
    elif rows:
        tables.show(_SHOWN, [[_text(row[name]) for name in _SHOWN] for row in rows])
    else:
        click.echo("nothing was changed")
    doubtful = found.in_doubt()
    if doubtful:
        ids = ", ".join(sorted({str(made.intent["appointment"]) for made in doubtful}))
        click.echo(f"note: of {len(doubtful)} more nobody knows whether they happened: {ids} (tasks list)", err=True)


def _zone(settings: Settings, customer: str) -> ZoneInfo:
    """Find the customer's zone, as far as the grants file can be read; it may be gone from there."""
    try:
        policy = read_policy(settings)
    except ConfigurationRefused as refused:
        click.echo(f"note: the grants file has mistakes ({refused.problems[0]}); times are in London's zone", err=True)
        return ZoneInfo("Europe/London")
    known = policy.customers.get(customer)
    if known is None:
        click.echo(f"note: the grants file knows no customer {customer!a}; times are in London's zone", err=True)
        return ZoneInfo("Europe/London")
    return known.time_zone


def _gather(found: Changes, folder: Path) -> None:
    left_out = 0
    try:
        for path in audit_files([folder]):
            with path.open("rb") as file:
                while line := file.readline(LINE_BYTES):
                    # Most records are of reads; to look for a word is much faster than to read them.
                    if any(event in line for event in _EVENTS):
                        left_out += not _taken(found, line)
    except (Unreadable, OSError) as error:
        raise click.ClickException(f"the audit stream cannot be read: {error}") from error
    if left_out:
        click.echo(f"note: {left_out} lines are no records and were left out (audit verify)", err=True)


def _taken(found: Changes, line: bytes) -> bool:
    try:
        found.take(json.loads(line))
    except (ValueError, KeyError, TypeError):
        return False
    return True


def _row(made: Made, zone: ZoneInfo) -> dict[str, Any]:
    intent, outcome = made.intent, made.outcome
    change: Mapping[str, Any] = intent["change"] or {}
    upstream: Mapping[str, Any] = outcome["upstream"] or {}
    return {
        "time": intent["time"],
        "operation": intent["operation"],
        "appointment": intent["appointment"],
        "partner": intent["partner"],
        "customer": intent["customer"],
        "outcome": outcome["outcome"],
        "final": outcome["final"],
        "reason": intent["reason"],
        "start_before": _local(change.get("start", {}).get("before") or _start(intent), zone),
        "start_after": _local(change.get("start", {}).get("after"), zone),
        "end_before": _local(change.get("end", {}).get("before"), zone),
        "end_after": _local(change.get("end", {}).get("after"), zone),
        "changed": _changed(change),
        "version_before": upstream.get("version_before"),
        "version_after": upstream.get("version_after"),
        "task": intent["task"],
        "request_id": intent["request_id"],
    }


def _start(intent: Mapping[str, Any]) -> str | None:
    start: str | None = (intent["facts"] or {}).get("start")
    return start


def _local(text: str | None, zone: ZoneInfo) -> str | None:
    return None if text is None else tables.read_time(text, zone).astimezone(zone).isoformat()


def _changed(change: Mapping[str, Any]) -> str:
    """Name what was changed; of a text its length and the beginning of its keyed hash, by which two can be compared."""
    told = []
    for name in change:
        after = change[name]["after"]
        told.append(f"{name} ({after['length']} characters, {after['hmac']})" if isinstance(after, dict) else name)
    return ", ".join(told)


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _write_csv(rows: list[dict[str, Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([tables.csv_cell(row[name]) for name in COLUMNS])
