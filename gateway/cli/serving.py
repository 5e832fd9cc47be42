"""One process of a gateway: the only one, one of several workers, or the supervisor of those."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from gateway.app.loop import run_served
from gateway.app.memory import settle
from gateway.app.ports import Handover, supervisor_is_gone
from gateway.cli.log import set_up_log
from gateway.configuration.problems import ConfigurationRefused
from gateway.configuration.settings import Settings
from gateway.configuration.settings_file import load_settings
from gateway.flow.ports import JournalUnavailable, StateUnavailable

ENTRY: Final = ("-m", "gateway")
"""How the interpreter starts the command line."""


def run(config: Path, log: str, allowed: Sequence[str], *, watch_input: bool) -> None:
    """Be what the environment says, until told to stop."""
    try:
        given = Handover.read(os.environ)
        set_up_log(log, None if given is None else given.worker)
        settings = load_settings(config, allowed=frozenset(allowed))
        if given is not None:
            _work(given, settings)
        elif settings.listen.workers == 1:
            _serve(settings, watch_input=watch_input)
        else:
            options = ("--config", str(config), "--log", log, "--until-stdin-closes", *allowed)
            from gateway.app.supervisor import Plan, supervise  # noqa: PLC0415 - needed for several workers only

            plan = Plan.of(settings, (sys.executable, *ENTRY, "serve", *options))
            del settings  # The supervisor lives as long as the gateway, and needs none of its secrets.
            settle()
            sys.exit(asyncio.run(supervise(plan, watch_input=watch_input)))
    except ConfigurationRefused as refused:
        for problem in refused.problems:
            click.echo(str(problem), err=True)
        sys.exit(1)
    except (JournalUnavailable, StateUnavailable, OSError, ValueError) as error:
        raise click.ClickException(f"cannot start: {error}") from error


def _serve(settings: Settings, *, watch_input: bool) -> None:
    from gateway.app.assembly import serve  # noqa: PLC0415 - a supervisor needs nothing of it

    run_served(serve(settings, watch_input=watch_input))


def _work(given: Handover, settings: Settings) -> None:
    """Be one of several workers."""
    from gateway.admin.metrics import leave_metrics, share_metrics  # noqa: PLC0415 - needed by workers only

    name = str(given.worker)
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    share_metrics(folder, name)
    _serve(settings, watch_input=True)
    if supervisor_is_gone():
        leave_metrics(folder, name)
