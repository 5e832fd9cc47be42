"""Tables for people: drawn on a terminal, plain columns in a pipe; and the questions that several verbs ask alike."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.app import asking
from gateway.configuration.problems import ConfigurationRefused, Problem
from gateway.configuration.settings import Settings
from gateway.configuration.settings_file import load_settings
from gateway.configuration.settings_words import INSECURE_FLAGS

CONFIG: Final = Path("config/gateway.toml")
NAME_LENGTH: Final = 100
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
FILE: Final = click.Path(path_type=Path, dir_okay=False)
config_option = click.option("--config", type=FILE, default=CONFIG, show_default=True, help="The settings file.")


def show(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Print a table. Cells are shown as they are: nothing in them is taken for markup."""
    if sys.stdout.isatty():
        table = Table(*columns, title=title or None, title_justify="left")
        for row in rows:
            table.add_row(*(Text(_plain(cell), style=_STYLES.get(cell, "")) for cell in row))
        Console().print(table)
        return
    kept = [tuple(map(_plain, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *kept, strict=True)]
    for row in (tuple(columns), *kept):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


_STYLES: Final = {"passed": "green", "FAILED": "bold red", "not asked": "dim"}


def _plain(cell: str) -> str:
    """Keep a name in a file from moving the cursor."""
    return cell if cell.isprintable() else json.dumps(cell)


def echo_json(value: Any) -> None:
    """Print one JSON value."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def csv_cell(value: object) -> str:
    """Write a cell; none is taken for a formula by a spreadsheet."""
    text = "true" if value is True else "false" if value is False else "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def refuse(problems: Iterable[Problem]) -> click.exceptions.Exit:
    """Tell every mistake in a file; raise what this gives."""
    for problem in problems:
        click.echo(str(problem), err=True)
    return click.exceptions.Exit(1)


def settings_without_secrets(config: Path) -> Settings:
    """Read the settings for a verb that opens nothing; mistakes end the verb with status 1."""
    try:
        return load_settings(config, allowed=frozenset(INSECURE_FLAGS), secrets=False)
    except ConfigurationRefused as refused:
        raise refuse(refused.problems) from refused


def read_time(text: str, zone: ZoneInfo) -> datetime:
    """Read a date or a time; without an offset it is in `zone`. Raises click's ClickException."""
    try:
        return asking.read_time(text, zone)
    except asking.NotUnderstood as error:
        raise click.ClickException(str(error)) from error


def tell_time(at: datetime, zone: ZoneInfo) -> str:
    """Write a time as somebody in `zone` would: a date for the beginning of a day."""
    local = at.astimezone(zone)
    return str(local.date()) if local.timetz().replace(tzinfo=None) == time() else local.isoformat()


def tell_utc(at: datetime) -> str:
    """Write a time in UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def read_name(name: str) -> str:
    """Read the name of a person who goes on record."""
    person = name.strip()
    if not person or len(person) > NAME_LENGTH or not person.isprintable():
        raise click.ClickException(f"--by: give a name of 1 to {NAME_LENGTH} printable characters")
    return person
