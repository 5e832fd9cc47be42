"""`tasks`: writes whose outcome is not known yet, for a person to see and to end."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, cast, get_args

import click

from gateway.app.keys import read_audit_key
from gateway.app.visiting import Visit
from gateway.cli import tables
from gateway.configuration.problems import ConfigurationRefused
from gateway.configuration.secret import Reading, read_secret
from gateway.configuration.settings import Settings
from gateway.configuration.settings_file import load_settings
from gateway.configuration.settings_words import INSECURE_FLAGS, state_url
from gateway.flow.ports import JournalUnavailable, StateUnavailable
from gateway.flow.store import Filed
from gateway.flow.tasks import outline
from gateway.storage.journal_chain import Signer
from gateway.storage.resolution import NotResolved, Resolution, Word
from gateway.storage.sqlite import SCHEME, path_of

COLUMNS: Final = ("id", "partner", "customer", "appointment", "operation", "status", "outcome", "age", "requested")


@click.group("tasks")
def tasks() -> None:
    """See writes whose outcome is not known yet, and end them."""


@tasks.command("list")
@tables.config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON array in place of a table.")
@click.option("--all", "ended", is_flag=True, help="Those that have ended, too, as far as they are kept.")
def list_command(config: Path, *, as_json: bool, ended: bool) -> None:
    """List the writes that are still open, the oldest first."""
    settings = _settings(config)
    try:
        kept = asyncio.run(_visit(settings, _state(settings, config), None).writes(ended=ended))
    except StateUnavailable as error:
        raise click.ClickException(str(error)) from error
    now = datetime.now(UTC)
    rows = [_row(each, now) for each in kept]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo("no open tasks" if not ended else "no tasks")
        return
    shown = [{**row, "age": _span(cast("int", row["age_seconds"]))} for row in rows]
    tables.show(COLUMNS, [tuple(str(row[name]) for name in COLUMNS) for row in shown])


@tasks.command("resolve")
@click.argument("task", metavar="ID")
@click.option("--outcome", required=True, metavar="applied|rejected", help="What PKB shows.")
@click.option("--by", "by", required=True, metavar="NAME", help="Who says so; goes on record.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of a sentence.")
@tables.config_option
def resolve_command(task: str, outcome: str, by: str, config: Path, *, as_json: bool) -> None:
    """End an open write as somebody saw it in PKB: applied, or rejected (not applied, not attempted).

    The running gateway lets go of the appointment within seconds.
    """
    if outcome not in get_args(Word):
        raise click.ClickException(f"--outcome: {' or '.join(get_args(Word))}")
    name = tables.read_name(by)
    settings = _settings(config)
    visit = _visit(settings, _state(settings, config), _signer(settings, config))
    wish = Resolution(task, cast("Word", outcome), name, datetime.now(UTC))
    try:
        ended = asyncio.run(visit.resolve(wish))
    except NotResolved as error:
        raise click.ClickException(str(error)) from error
    except (JournalUnavailable, StateUnavailable, OSError) as error:
        raise click.ClickException(f"cannot resolve: {error}") from error
    if as_json:
        told = {"id": ended.id, "partner": ended.partner, "customer": ended.customer, "appointment": ended.appointment}
        tables.echo_json({**told, "outcome": ended.outcome, "by": name})
        return
    click.echo(f"Task {ended.id} of {ended.partner} at {ended.customer} has ended: {ended.outcome}, said {name}")


def _visit(settings: Settings, state: str, signer: Signer | None) -> Visit:
    return Visit(state, settings.state.keep, settings.audit.directory, settings.audit.reserve, signer)


def _settings(config: Path) -> Settings:
    """Read the settings without their secrets: neither PKB's passwords nor the pseudonym key are needed here."""
    try:
        return load_settings(config, allowed=frozenset(INSECURE_FLAGS), secrets=False)
    except ConfigurationRefused as refused:
        for problem in refused.problems:
            click.echo(str(problem), err=True)
        sys.exit(1)


def _state(settings: Settings, config: Path) -> str:
    """Give the address of the request store; a file of it must be there and ours."""
    try:
        url = state_url(settings.state.url.reference, Reading(config.resolve().parent)).reveal()
    except ValueError as error:
        raise click.ClickException(f"state.url: {error}") from error
    if not url.startswith(SCHEME):
        return url
    file = path_of(url)
    if not file.is_file():
        raise click.ClickException(f"there is no state file {file}; has the gateway run with these settings?")
    # Files of another owner in its folders would stop the gateway's next start.
    if file.stat().st_uid != os.geteuid():
        raise click.ClickException(f"{file} belongs to another user; run this as the user that runs the gateway")
    return url


def _signer(settings: Settings, config: Path) -> Signer | None:
    """Read the key for checkpoints; without it the records are chained but not signed."""
    reference = settings.audit.signing_key
    if reference is None:
        return None
    try:
        return read_audit_key(read_secret(reference.reference, Reading(config.resolve().parent)).reveal())
    except ValueError as error:
        click.echo(f"note: this chain of the audit stream is not signed: {error}", err=True)
        return None


def _row(filed: Filed, now: datetime) -> dict[str, object]:
    requested = filed.task.requested
    return {
        **outline(filed.task),
        "age_seconds": round((now - requested).total_seconds()),
        "requested": requested.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "phase": filed.phase.value,
    }


def _span(seconds: int) -> str:
    """Write an age in its two largest units."""
    whole = timedelta(seconds=max(0, seconds))
    hours, rest = divmod(whole.seconds, 3600)
    if whole.days:
        return f"{whole.days}d {hours}h"
    minutes, left = divmod(rest, 60)
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {left}s"
