"""`grants`: who may do what, what a new file would change, and what it would have decided."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from gateway.app.grants import read_policy as policy_of
from gateway.cli import tables
from gateway.cli.block import blocks_now
from gateway.cli.differences import as_json as difference_as_json
from gateway.cli.differences import sentence, tell_duration, tell_rate
from gateway.configuration.grants import GrantsReader
from gateway.configuration.problems import ConfigurationRefused
from gateway.domain.comparison import differences
from gateway.domain.grant import Grant, Operation, Policy

_COLUMNS: Final = ("customer", "partner", "operations", "from", "until", "days left", "state", "bounds", "grant")


@click.group("grants")
def grants() -> None:
    """See who may do what, and compare grants files."""


def read_policy(path: Path) -> Policy:
    """Read a grants file alone: no settings, secrets or key files. Mistakes end the verb with status 1."""
    try:
        return GrantsReader(path, secrets=False, key_files=False).load().policy
    except ConfigurationRefused as refused:
        raise tables.refuse(refused.problems) from refused


@grants.command("list")
@tables.config_option
@click.option("--grants", "file", type=tables.FILE, help="A grants file alone, without settings.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array in place of a table.")
def list_command(config: Path, file: Path | None, *, as_json: bool) -> None:
    """List who may do what at which customer, until when, and how many days are left."""
    policy = _policy_of(config) if file is None else read_policy(file)
    blocked = _blocked(config) if file is None else None
    if blocked is not None:
        policy = policy.with_blocks(blocked)
    now = datetime.now(UTC)
    ordered = sorted(policy.grants, key=lambda grant: (grant.customer, grant.partner, grant.valid_from, grant.id))
    if as_json:
        known = blocked is not None
        tables.echo_json(
            [{**_json(grant, policy, now), "blocked": _blocks(grant, policy) if known else None} for grant in ordered]
        )
        return
    if not ordered:
        click.echo("nobody may do anything")
        return
    tables.show(_COLUMNS, [_row(grant, policy, now) for grant in ordered])


def _policy_of(config: Path) -> Policy:
    settings = tables.settings_without_secrets(config)
    try:
        return policy_of(settings)
    except ConfigurationRefused as refused:
        raise tables.refuse(refused.problems) from refused


def _blocked(config: Path) -> frozenset[tuple[str, str | None]] | None:
    """Find out who is blocked; None, with a word about it, where that cannot be told."""
    try:
        return frozenset((each.partner, each.customer) for each in blocks_now(config))
    except click.ClickException as error:
        click.echo(f"note: who is blocked is not shown: {error.message}", err=True)
        return None


def _blocks(grant: Grant, policy: Policy) -> bool:
    return policy.blocked(grant.partner) or policy.blocked(grant.partner, grant.customer)


def _state(grant: Grant, policy: Policy, now: datetime) -> str:
    if now >= grant.valid_until:
        return "ended"
    if policy.partners[grant.partner].suspended:
        return "suspended"
    if _blocks(grant, policy):
        return "blocked"
    if now < grant.valid_from:
        return "not yet"
    return "shadow" if grant.shadow else "in force"


def _days_left(grant: Grant, now: datetime) -> int | None:
    """Whole days until it ends; None once it has."""
    return (grant.valid_until - now).days if now < grant.valid_until else None


def _operations(grant: Grant) -> list[str]:
    return [each.value for each in Operation if each in grant.operations]


def _row(grant: Grant, policy: Policy, now: datetime) -> tuple[str, ...]:
    zone = policy.customers[grant.customer].time_zone
    left = _days_left(grant, now)
    return (
        grant.customer,
        grant.partner,
        ", ".join(_operations(grant)),
        tables.tell_time(grant.valid_from, zone),
        tables.tell_time(grant.valid_until, zone),
        "" if left is None else str(left),
        _state(grant, policy, now),
        _bounds(grant),
        grant.id,
    )


def _bounds(grant: Grant) -> str:
    told = [", ".join(sorted(grant.privacy_labels))]
    if grant.specialties is not None:
        told.append("specialties " + ", ".join(sorted(each.code for each in grant.specialties)))
    if grant.notice:
        told.append(f"notice {tell_duration(grant.notice)}")
    if Operation.CHANGE in grant.operations:
        told.append("fields " + ", ".join(sorted(grant.change_fields)))
    if grant.within is not None:
        told.append(f"within {tell_duration(grant.within)}")
    if grant.cancel_reasons is not None:
        told.append("reasons " + ", ".join(sorted(grant.cancel_reasons)))
    if grant.patient_required:
        told.append("patient required")
    if grant.rate is not None:
        told.append(tell_rate(grant.rate))
    return "; ".join(told)


def _json(grant: Grant, policy: Policy, now: datetime) -> dict[str, Any]:
    zone = policy.customers[grant.customer].time_zone
    specialties = None if grant.specialties is None else sorted(f"{at.system}|{at.code}" for at in grant.specialties)
    return {
        "id": grant.id,
        "customer": grant.customer,
        "customer_name": policy.customers[grant.customer].name,
        "partner": grant.partner,
        "partner_name": policy.partners[grant.partner].name,
        "operations": _operations(grant),
        "from": tables.tell_time(grant.valid_from, zone),
        "until": tables.tell_time(grant.valid_until, zone),
        "days_left": _days_left(grant, now),
        "state": _state(grant, policy, now),
        "shadow": grant.shadow,
        "privacy_labels": sorted(grant.privacy_labels),
        "specialties": specialties,
        "notice": tell_duration(grant.notice),
        "patient": "required" if grant.patient_required else "optional",
        "fields": sorted(grant.change_fields) if Operation.CHANGE in grant.operations else [],
        "within": None if grant.within is None else tell_duration(grant.within),
        "reasons": None if grant.cancel_reasons is None else sorted(grant.cancel_reasons),
        "rate": None if grant.rate is None else tell_rate(grant.rate),
        "approved_by": grant.approved_by,
    }


@grants.command("diff")
@click.argument("old", type=tables.FILE)
@click.argument("new", type=tables.FILE)
@click.option("--json", "as_json", is_flag=True, help="One JSON array in place of sentences.")
def diff_command(old: Path, new: Path, *, as_json: bool) -> None:
    """Tell who gains and who loses what, from when. Order, ids and notes make no difference."""
    before, after = read_policy(old), read_policy(new)
    found = differences(before, after)
    if as_json:
        tables.echo_json([difference_as_json(each, before, after) for each in found])
        return
    for each in found:
        click.echo(sentence(each, before, after))
    if not found:
        click.echo("nobody gains or loses anything")
