"""`audit`: check the audit stream, follow it, and give it to others."""

import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.audit_filter import Wanted, filter_options
from gateway.cli.export import export_command
from gateway.cli.progress import progress
from gateway.cli.tables import echo_json
from gateway.configuration.problems import ConfigurationRefused
from gateway.configuration.settings_file import load_settings
from gateway.configuration.settings_words import INSECURE_FLAGS
from gateway.domain.chain_check import EXPLANATION, Bad, Sound
from gateway.storage.following import follow, last_lines
from gateway.storage.verification import Report, Unreadable, audit_files, read_checkpoints, read_keys, verify

_EXISTING = click.Path(path_type=Path)
_FILE = click.Path(path_type=Path, dir_okay=False)
_CONFIG: Final = Path("config/gateway.toml")


@click.group("audit")
def audit() -> None:
    """Check, follow and export the audit stream."""


@audit.command("verify")
@click.argument("paths", nargs=-1, required=True, type=_EXISTING, metavar="PATH...")
@click.option("--keys", type=_FILE, help="JWKS with the public keys that sign checkpoints.")
@click.option("--checkpoint", type=_FILE, help="The last checkpoint record, kept elsewhere.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of lines.")
def verify_command(paths: tuple[Path, ...], keys: Path | None, checkpoint: Path | None, *, as_json: bool) -> None:
    """Check every hash chain in files and folders; exit 1 and name the first bad record if one is bad."""
    try:
        known = None if keys is None else read_keys(keys)
        kept = None if checkpoint is None else read_checkpoints(checkpoint, known)
        with progress("checking", audit_files(paths)) as advance:
            report = verify(paths, keys=known, checkpoints=kept, pause=time.sleep, advance=advance)
    except Unreadable as error:
        raise click.ClickException(str(error)) from error
    if not report.chains:
        raise click.ClickException("no audit records (*.jsonl) there")
    if as_json:
        echo_json(_as_json(report, signatures=known is not None))
        sys.exit(1 if report.bad else 0)
    for chain in report.chains:
        click.echo(_sentence(chain, signatures=known is not None))
    click.echo("signatures: " + ("checked" if known is not None else "unchecked (give --keys)"))
    if report.bad:
        click.echo(f"BAD: {len(report.bad)} of {len(report.chains)} chains")
        sys.exit(1)
    click.echo(f"good: {len(report.chains)} chains, {sum(chain.records for chain in report.chains)} records")


def _as_json(report: Report, *, signatures: bool) -> dict[str, Any]:
    chains: list[dict[str, Any]] = []
    for chain in report.chains:
        told: dict[str, Any] = {"chain": chain.chain, "good": isinstance(chain, Sound), "records": chain.records}
        match chain:
            case Sound():
                told |= {
                    "head": chain.head,
                    "checkpoint": chain.checkpoint,
                    "torn": chain.torn,
                    "removed": chain.removed,
                }
            case Bad():
                place = {"file": chain.file or None, "line": chain.line if chain.file else None, "seq": chain.seq}
                found = {"what": chain.what.value, "explanation": EXPLANATION[chain.what], "found": chain.found or None}
                told |= {**place, **found}
        chains.append(told)
    return {
        "good": not report.bad,
        "signatures": "checked" if signatures else "unchecked",
        "records": sum(chain.records for chain in report.chains),
        "chains": chains,
    }


def _sentence(chain: Sound | Bad, *, signatures: bool) -> str:
    match chain:
        case Sound():
            words = f"chain {chain.chain}: good, {chain.records} records"
            if chain.checkpoint is not None:
                words += f", {'signed' if signatures else 'checkpoint'} up to seq {chain.checkpoint}"
            elif signatures:
                words += ", never signed"
            if chain.removed:
                words += f", 1 to {chain.removed} removed after their time"
            return words + (f", a torn tail of {chain.torn} bytes that a later start names" if chain.torn else "")
        case Bad():
            place = f"{chain.file}:{chain.line}: " if chain.file else ""
            found = f" [{chain.found}]" if chain.found else ""
            return (
                f"{place}chain {chain.chain} seq {chain.seq}: {chain.what}: {EXPLANATION[chain.what]}{found}"
                f" ({chain.records} good records before it)"
            )


@audit.command("tail")
@click.argument("path", required=False, type=_EXISTING)
@click.option("--config", type=_FILE, default=_CONFIG, show_default=True, help="Settings that name the folder.")
@click.option("--lines", "count", default=10, show_default=True, type=click.IntRange(0), help="Records to begin with.")
@click.option("--follow/--no-follow", "endless", default=True, help="Wait for more.")
@filter_options
def tail(path: Path | None, config: Path, count: int, wanted: Wanted, *, endless: bool) -> None:
    """Print the last records of a file or folder, then new ones as they are written."""
    try:
        path = path or load_settings(config, allowed=frozenset(INSECURE_FLAGS), secrets=False).audit.directory
        lines, ends = last_lines(path, count, wanted.takes_line)
        for line in lines:
            click.echo(line, nl=False)
        for line in follow(path, ends, time.sleep) if endless else ():
            if wanted.takes_line(line):
                click.echo(line, nl=False)
    except (ConfigurationRefused, Unreadable) as error:
        raise click.ClickException(str(error)) from error


audit.add_command(export_command)
