"""`block` and `unblock`: the kill switch, which works whatever the grants file says and whether it can be read or not.

Only three settings are looked at, so that no other mistake in them, and no secret that is missing, is in the way.
"""

import asyncio
import contextlib
import difflib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import click

from gateway.app.blocks import NotDone, Wish, lift, put
from gateway.app.keys import read_audit_key
from gateway.cli import tables
from gateway.cli.completion import customer_ids, partner_ids
from gateway.configuration import words
from gateway.configuration.document import read_document
from gateway.configuration.problems import ConfigurationRefused
from gateway.configuration.secret import Reading, read_secret
from gateway.configuration.settings_words import path, state_url
from gateway.flow.ports import JournalUnavailable, StateUnavailable
from gateway.storage.blocks import Block, Blocks
from gateway.storage.journal import Journal, JournalSettings
from gateway.storage.journal_chain import ChainSettings, Signer
from gateway.storage.opening import open_database
from gateway.storage.sqlite import SCHEME, path_of

BY: Final = "Who says so; goes on record."
ANOTHER_USER: Final = "belongs to another user; run this as the user that runs the gateway"
T = TypeVar("T")

_CUSTOMER = click.option(
    "--customer", metavar="ID", shell_complete=customer_ids, help="At this customer only; without it, at every one."
)


@click.command("block")
@click.argument("partner", metavar="[PARTNER]", required=False, shell_complete=partner_ids)
@_CUSTOMER
@click.option("--by", "by", metavar="NAME", help=BY)
@click.option("--list", "only_list", is_flag=True, help="Only show who is blocked.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with --list an array, in place of lines.")
@tables.config_option
def block(
    partner: str | None, customer: str | None, by: str | None, config: Path, *, only_list: bool, as_json: bool
) -> None:
    """Shut a partner out, within a second and on every node, whatever the grants file says."""
    place = _Place.read(config)
    if only_list and (partner, customer, by) == (None, None, None):
        _show(place, as_json=as_json)
        return
    if only_list or partner is None or by is None:
        raise click.ClickException("either block PARTNER --by NAME [--customer ID], or block --list")
    wish = _wish(partner, customer, by)
    new = place.run(lambda store: put(wish, store, place.journal))
    if as_json:
        _tell(wish, blocked=True, changed=new)
    else:
        click.echo(f"{_named(wish)} is blocked{'' if new else ', as before'}; every gateway refuses it within a second")
    # Not before: to read a large file takes seconds, in which the partner would still be in.
    for note in _notes(place, wish):
        click.echo(f"note: {note}", err=True)
    if not as_json:
        _show(place)


@click.command("unblock")
@click.argument("partner", metavar="PARTNER", shell_complete=partner_ids)
@_CUSTOMER
@click.option("--by", "by", required=True, metavar="NAME", help=BY)
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of lines.")
@tables.config_option
def unblock(partner: str, customer: str | None, by: str, config: Path, *, as_json: bool) -> None:
    """Lift a block; then the grants file alone says again what the partner may do."""
    place = _Place.read(config)
    wish = _wish(partner, customer, by)
    lifted = place.run(lambda store: lift(wish, store, place.journal))
    if as_json:
        _tell(wish, blocked=False, changed=lifted)
        return
    click.echo(f"{_named(wish)} {'is no longer' if lifted else 'was not'} blocked")
    _show(place)


def blocks_now(config: Path) -> Sequence[Block]:
    """List who is blocked, for another verb. Raises click's exceptions where that cannot be told."""
    return _Place.read(config).run(Blocks.listing, "the blocks cannot be listed")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where this gateway keeps what the kill switch needs."""

    state: str
    audit: Path
    signing_key: object
    grants: object
    reading: Reading

    @classmethod
    def read(cls, config: Path) -> "_Place":
        """Read the settings that are needed, and no others."""
        try:
            document = read_document(config)
        except ConfigurationRefused as refused:
            for problem in refused.problems:
                click.echo(str(problem), err=True)
            sys.exit(1)
        values, reading = document.values, Reading(document.folder)
        key = "state.url"
        try:
            state = state_url(_field(values.get("state"), "url"), reading).reveal()
            _check_file(state)
            key = "audit.directory"
            audit = path(_field(values.get("audit"), "directory"), reading)
        except (ValueError, OSError) as error:
            raise click.ClickException(f"{key}: {error}") from error
        return cls(state, audit, _field(values.get("audit"), "signing_key"), values.get("grants"), reading)

    @contextlib.asynccontextmanager
    async def journal(self) -> AsyncIterator[Journal]:
        """Open a chain of its own. Raises JournalUnavailable."""
        try:
            # A file of another owner would stop the gateway's next start.
            if self.audit.stat().st_uid != os.geteuid():
                raise JournalUnavailable(f"{self.audit} {ANOTHER_USER}")
        except OSError as error:
            raise JournalUnavailable(f"the audit folder {self.audit} cannot be used: {error.strerror}") from error
        settings = JournalSettings(ChainSettings(self.audit))
        journal = await Journal.open(settings, clock=lambda: datetime.now(UTC), signer=self._signer())
        try:
            yield journal
        finally:
            await journal.close()

    def _signer(self) -> Signer | None:
        if self.signing_key is None:
            return None
        try:
            return read_audit_key(read_secret(self.signing_key, self.reading).reveal())
        except ValueError as error:
            click.echo(f"note: this chain of the audit stream is not signed: {error}", err=True)
            return None

    def run(self, work: Callable[[Blocks], Coroutine[None, None, T]], otherwise: str = "nothing was changed") -> T:
        """Do something with the blocks in the store; where it cannot be opened, say so and what that means."""

        async def visited() -> T:
            database = await open_database(self.state)
            try:
                return await work(Blocks(database))
            finally:
                await database.close()

        try:
            return asyncio.run(visited())
        except NotDone as error:
            raise click.ClickException(f"{error}. Run it again when that is put right") from error
        except (StateUnavailable, ValueError, OSError) as error:
            raise click.ClickException(f"{otherwise}: {error}") from error


def _check_file(url: str) -> None:
    """Refuse a state file that no gateway has made, or that another user's gateway has."""
    if not url.startswith(SCHEME):
        return
    file = path_of(url)
    if not file.is_file():
        raise ValueError(f"there is no state file {file}; has the gateway run with these settings?")
    if file.stat().st_uid != os.geteuid():
        raise ValueError(f"{file} {ANOTHER_USER}")


def _wish(partner: str, customer: str | None, by: str) -> Wish:
    for name in (partner, customer):
        try:
            words.identifier(partner if name is None else name)
        except ValueError as error:
            raise click.ClickException(str(error)) from error
    return Wish(partner, customer, tables.read_name(by), datetime.now(UTC))


def _tell(wish: Wish, *, blocked: bool, changed: bool) -> None:
    """Tell programs what is so now, and whether it was not before."""
    tables.echo_json({"partner": wish.partner, "customer": wish.customer, "blocked": blocked, "changed": changed})


def _show(place: _Place, *, as_json: bool = False) -> None:
    kept = place.run(Blocks.listing, "the blocks cannot be listed")
    rows = [
        {"partner": each.partner, "customer": each.customer, "by": each.by, "at": _moment(each.at)} for each in kept
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    click.echo("blocked now:" if rows else "nobody is blocked")
    for each in kept:
        where = "at every customer" if each.customer is None else f"at {each.customer}"
        click.echo(f"  {each.partner} {where}, since {_moment(each.at)}, by {each.by}")


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _named(wish: Wish) -> str:
    return wish.partner if wish.customer is None else f"{wish.partner} at {wish.customer}"


def _notes(place: _Place, wish: Wish) -> list[str]:
    """Say what a person may have got wrong, as far as the grants file can be read; it may well be broken."""
    try:
        values = read_document(place.reading.path(str(place.grants))).values
    except ConfigurationRefused:
        return [f"the grants file cannot be read, so nobody can tell whether it knows {_named(wish)}"]
    partners, customers = _tables(values, "partners"), _tables(values, "customers")
    notes = [] if wish.partner in partners else [_unknown("partner", wish.partner, partners)]
    if wish.customer is None:
        return notes
    if wish.customer not in customers:
        return [*notes, _unknown("customer", wish.customer, customers)]
    teams = [name for name, team in customers.items() if _field(team, "organisation") == wish.customer]
    if teams:
        notes.append(f"a team's grants are its own; those of {', '.join(sorted(teams))} are not blocked by this")
    return notes


def _unknown(kind: str, name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"the grants file knows no {kind} {name}{f'; did you mean {near[0]}?' if near else ''}"


def _tables(values: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _field(table: object, name: str) -> object:
    return table.get(name) if isinstance(table, dict) else None
