"""`check`: every mistake in the configuration with its file and line, or what it amounts to."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from gateway.app.grants import grants_reader, read_keys
from gateway.cli.insecure import insecure_flags
from gateway.cli.tables import echo_json
from gateway.configuration.cases import CASES
from gateway.configuration.document import read_document
from gateway.configuration.grants import Grants, GrantsReader
from gateway.configuration.problems import ConfigurationRefused, Problem
from gateway.configuration.settings import Settings
from gateway.configuration.settings_file import load_settings
from gateway.domain.grant import CustomerKind

DEFAULT: Final = Path("config/gateway.toml")


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help=f"Settings; default {DEFAULT}.")
@click.option("--grants", type=click.Path(path_type=Path), help="Grants file; alone, it needs no settings, no secrets.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of lines.")
@insecure_flags
def check(config: Path | None, grants: Path | None, allowed: tuple[str, ...], *, as_json: bool) -> None:
    """Check the configuration. Exit 1 with every mistake in it, or 0 with a summary."""
    if config is None and grants is not None:
        _finish(None, GrantsReader(grants, read_keys=read_keys, secrets=False), [], as_json=as_json)
        return
    file = config or DEFAULT
    try:
        settings = load_settings(file, allowed=frozenset(allowed))
    except ConfigurationRefused as refused:
        _finish(None, _reader_despite(file, grants, frozenset(allowed)), list(refused.problems), as_json=as_json)
        return
    _finish(settings, grants_reader(settings, grants), [], as_json=as_json)


def _reader_despite(config: Path, grants: Path | None, allowed: frozenset[str]) -> GrantsReader | None:
    """Find the grants file that bad settings still name, so that one run tells of both files."""
    try:
        # Often only a secret is missing on the machine of the person who checks; the routes are known then.
        settings = load_settings(config, allowed=allowed, secrets=False)
    except ConfigurationRefused:
        path = grants or _grants_named_in(config)
        return None if path is None else GrantsReader(path, read_keys=read_keys, secrets=False)
    return replace(grants_reader(settings, grants), secrets=False)


def _grants_named_in(config: Path) -> Path | None:
    try:
        named = read_document(config).values.get("grants")
    except ConfigurationRefused:
        return None
    return config.parent / named if isinstance(named, str) and named.strip() else None


def _finish(settings: Settings | None, reader: GrantsReader | None, problems: list[Problem], *, as_json: bool) -> None:
    loaded: Grants | None = None
    try:
        loaded = None if reader is None else reader.load()
        problems = problems if loaded is None else [*problems, *loaded.failing]
    except ConfigurationRefused as refused:
        problems = [*problems, *refused.problems]
    notes = [] if reader is None or reader.routes is not None else _notes(reader)
    good = loaded if reader is not None and not problems else None
    if as_json:
        echo_json(_as_json(good, problems, notes, datetime.now(UTC)))
    else:
        for line in (*map(str, problems), *(f"note: {note}" for note in notes)):
            click.echo(line)
    if good is None or reader is None:
        if not as_json:
            click.echo(f"{len(problems)} {'mistake' if len(problems) == 1 else 'mistakes'} found")
        raise click.exceptions.Exit(1)
    for line in () if as_json else _summary(settings, reader.path, good, datetime.now(UTC)):
        click.echo(line)


def _notes(reader: GrantsReader) -> list[str]:
    notes = ["without gateway.toml nothing that depends on routes, issuers or secrets was checked"]
    return [*notes, f"nor were the cases in {CASES} run"] if (reader.path.parent / CASES).is_file() else notes


def _as_json(good: Grants | None, problems: list[Problem], notes: list[str], now: datetime) -> dict[str, Any]:
    told: dict[str, Any] = {
        "ok": good is not None,
        "problems": [
            {"file": str(each.file), "line": each.line, "place": each.place, "message": each.message}
            for each in problems
        ],
        "notes": notes,
    }
    if good is None:
        return told
    policy = good.policy
    return {
        **told,
        "digest": policy.digest,
        "partners": len(policy.partners),
        "customers": len(policy.customers),
        "grants": len(policy.grants),
        "in_force": sum(grant.in_force(now) for grant in policy.grants),
        "shadow": sum(grant.shadow for grant in policy.grants),
    }


def _summary(settings: Settings | None, path: Path, grants: Grants, now: datetime) -> list[str]:
    policy = grants.policy
    suspended = sum(partner.suspended for partner in policy.partners.values())
    teams = sum(customer.kind is CustomerKind.TEAM for customer in policy.customers.values())
    shadows = sum(grant.shadow for grant in policy.grants)
    in_force = sum(grant.in_force(now) and not grant.shadow for grant in policy.grants)
    lines = [
        f"{path}: no mistakes",
        f"partners: {len(policy.partners)}, of which suspended {suspended}",
        f"customers: {len(policy.customers) - teams} organisations, {teams} teams",
        f"grants: {len(policy.grants)}, of which in force now {in_force}, shadow {shadows}",
        f"digest: {policy.digest}",
    ]
    if settings is not None:
        lines.append(f"routes: {', '.join(settings.routes) or 'none'}")
        lines.append(f"partners connect to {settings.public_url}")
    return lines
