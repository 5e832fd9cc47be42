"""`explain`: what would be decided, and every rule that led there."""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import structlog

from gateway.app.asking import AskedInWords, NotUnderstood, Words
from gateway.app.bringing import Unusable, bring, placer_id_system, read_file
from gateway.app.explaining import Explained, explain, explaining
from gateway.app.grants import read_policy
from gateway.cli import tables
from gateway.cli.completion import customer_ids, partner_ids
from gateway.configuration.problems import ConfigurationRefused
from gateway.configuration.settings import Settings
from gateway.configuration.settings_file import load_settings
from gateway.configuration.settings_words import INSECURE_FLAGS
from gateway.domain.appointment import Cancel, Read
from gateway.domain.codes import CATALOGUE
from gateway.domain.decision import Permit, Refusal
from gateway.domain.grant import Operation
from gateway.domain.rules import Claimant
from gateway.flow import records
from gateway.flow.ports import JournalUnavailable, StateUnavailable, UpstreamFault
from gateway.storage.sqlite import SCHEME, path_of

REFUSED = 2


class _Misunderstood(click.UsageError):
    exit_code = 1


class QuestionVerb(click.Command):
    """A verb whose status 2 is an answer, so that a question it cannot understand ends with 1."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the command line."""
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            raise _Misunderstood(error.message, error.ctx) from error


@click.command("explain", cls=QuestionVerb)
@click.option("--partner", required=True, metavar="ID", shell_complete=partner_ids, help="Who would ask.")
@click.option("--customer", required=True, metavar="ID", shell_complete=customer_ids, help="On whose behalf.")
@click.option("--operation", required=True, type=click.Choice([each.value for each in Operation]), help="To do what.")
@click.option("--appointment", type=tables.FILE, help="A FHIR R4 Appointment, or a Bundle of it and its Patient.")
@click.option("--id", "id_", metavar="ID", help="An appointment to be read from PKB now; needs --by.")
@click.option("--by", metavar="NAME", help="Who wants to know; goes on record.")
@click.option("--at", metavar="TIME", help="As if it were that time; else now.")
@click.option("--reason", metavar="CODE", help="Of a cancel: a code of FHIR's appointment-cancellation-reason.")
@click.option("--start", metavar="TIME", help="Of a change: the new start.")
@click.option("--end", metavar="TIME", help="Of a change: the new end.")
@click.option("--comment", metavar="TEXT", help="Of a change or a cancel.")
@click.option("--location", metavar="TEXT", help="Of a change.")
@click.option("--management-url", metavar="URL", help="Of a change.")
@click.option("--patient", metavar="NUMBER", help="The NHS number that the partner sends.")
@click.option("--birth-date", metavar="DATE", help="The date of birth that the partner sends.")
@click.option("--if-match", metavar="VERSION", help="The version that the partner wants to change.")
@tables.config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of a table.")
def explain_command(  # one argument for each option is click's way
    partner: str,
    customer: str,
    operation: str,
    appointment: Path | None,
    id_: str | None,
    by: str | None,
    at: str | None,
    if_match: str | None,
    config: Path,
    *,
    as_json: bool,
    **words: str | None,
) -> None:
    """Tell the decision and every check. Status 0: permitted; 2: refused; 1: could not be told."""
    if (appointment is None) == (id_ is None) or (id_ is None) != (by is None):
        raise click.ClickException("give either --appointment FILE, or --id ID with --by NAME")
    asked = AskedInWords(Claimant(partner, customer), Operation(operation), Words(**words), at, if_match)
    if appointment is not None:
        explained = _from_file(asked, appointment, config)
    else:
        assert id_ is not None
        assert by is not None
        explained = _live(asked, id_, tables.read_name(by), config)
    _tell_json(explained) if as_json else _tell(explained)
    if isinstance(explained.trial.decision, Refusal):
        raise click.exceptions.Exit(REFUSED)


def _from_file(asked: AskedInWords, file: Path, config: Path) -> Explained:
    settings = tables.settings_without_secrets(config)
    try:
        policy = read_policy(settings)
        question = asked.question(policy)
        body = read_file(file)
        customer = policy.customers.get(asked.who.customer)
        claim = question.command.claim
        brought = bring(body, customer, placer_id_system(settings, customer), claim) if customer else None
    except ConfigurationRefused as refused:
        raise tables.refuse(refused.problems) from refused
    except Unusable as error:
        raise click.ClickException(f"{file}: {error}") from error
    except NotUnderstood as error:
        raise click.ClickException(str(error)) from error
    return explain(question, policy, brought, datetime.now(UTC))


def _live(asked: AskedInWords, id_: str, by: str, config: Path) -> Explained:
    # Standard output is the answer's.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        settings = load_settings(config, allowed=frozenset(INSECURE_FLAGS))
        _check_place(settings)

        async def ask() -> Explained:
            async with explaining(settings) as opened:
                question = asked.question(opened.policy())
                return await opened.live(question, id_, by, settings.limits.deadline.total_seconds())

        return asyncio.run(ask())
    except ConfigurationRefused as refused:
        raise tables.refuse(refused.problems) from refused
    except NotUnderstood as error:
        raise click.ClickException(str(error)) from error
    except UpstreamFault as fault:
        raise click.ClickException(f"PKB could not be read ({fault.code}): {fault.reason}") from fault
    except (JournalUnavailable, StateUnavailable, OSError, ValueError) as error:
        raise click.ClickException(f"cannot explain: {error}") from error


def _check_place(settings: Settings) -> None:
    """Refuse folders and files that no gateway has made, or that another user's has. Raises ValueError and OSError."""
    state = settings.state.url.reveal()
    files = [settings.audit.directory, *([path_of(state)] if state.startswith(SCHEME) else [])]
    for file in files:
        if not file.exists():
            raise ValueError(f"there is no {file}; has the gateway run with these settings?")
        # What another user writes there would stop the gateway's next start.
        if file.stat().st_uid != os.geteuid():
            raise ValueError(f"{file} belongs to another user; run this as the user that runs the gateway")


def _rows(explained: Explained) -> list[tuple[str, str]]:
    trial = explained.trial
    rows = [(check.rule, "passed" if check.passed else "FAILED") for check in trial.decision.checks]
    return rows if trial.unasked is None else [*rows, (trial.unasked, "not asked")]


def _notes(explained: Explained) -> list[str]:
    """Say what else a person has to know to read the decision rightly."""
    decision, command = explained.trial.decision, explained.question.command
    notes = [f"the file does not say it, so it is taken for granted that {each}" for each in explained.assumed]
    if explained.trial.unasked is not None:
        option = "--reason" if isinstance(command, Cancel) else "--start, --end, --comment, --location"
        notes.append(f"{explained.trial.unasked} was not asked: say what the command is to do ({option})")
    needs = decision.grant is not None and decision.grant.patient_required and not isinstance(command, Read)
    if isinstance(decision, Permit) and needs and not command.claim.complete:
        notes.append("the grant wants NHS number and date of birth with each request; without them: missing-parameter")
    return notes


def _tell(explained: Explained) -> None:
    question, decision = explained.question, explained.trial.decision
    who, operation = question.who, question.command.operation
    verdict = "permitted" if isinstance(decision, Permit) else f"REFUSED: {decision.audit_code}"
    click.echo(f"{who.partner} {operation} at {who.customer}, {tables.tell_utc(explained.now)}: {verdict}")
    if isinstance(decision, Refusal):
        click.echo(f"the partner is told {decision.code}: {_sentence(decision)}")
    click.echo(f"grant: {decision.grant.id if decision.grant else 'none'}; grants file: {explained.policy.digest}")
    tables.show(("rule", "result"), _rows(explained))
    facts = records.decided(decision, explained.now)["facts"]
    if isinstance(facts, dict):
        click.echo("decided on: " + ", ".join(f"{name} {_shown(value)}" for name, value in facts.items()))
    for note in _notes(explained):
        click.echo(f"note: {note}")


def _sentence(refusal: Refusal) -> str:
    return " ".join(filter(None, (CATALOGUE[refusal.code].advice, refusal.detail)))


def _shown(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(str, value)) + "]"
    return "none" if value is None else str(value)


def _tell_json(explained: Explained) -> None:
    question, decision = explained.question, explained.trial.decision
    seen = explained.appointment
    tables.echo_json(
        {
            "partner": question.who.partner,
            "customer": question.who.customer,
            "operation": question.command.operation.value,
            "appointment": seen.id if seen else None,
            "version": seen.version if seen else None,
            **records.decided(decision, explained.now),
            "told": decision.code.value if isinstance(decision, Refusal) else None,
            "detail": decision.detail or None if isinstance(decision, Refusal) else None,
            "not_asked": [explained.trial.unasked] if explained.trial.unasked else [],
            "assumed": list(explained.assumed),
            "notes": _notes(explained),
            "grants_digest": explained.policy.digest,
        }
    )
