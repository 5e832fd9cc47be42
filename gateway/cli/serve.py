"""`serve`: run the gateway."""

import asyncio
import contextlib
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from gateway.admin.metrics import leave_metrics, share_metrics
from gateway.app import serve as run
from gateway.app.loop import run_served
from gateway.app.ports import Handover, supervisor_is_gone
from gateway.app.supervisor import Plan, supervise
from gateway.cli.check import insecure_flags
from gateway.cli.log import set_up_log
from gateway.configuration.problems import ConfigurationRefused
from gateway.configuration.settings_file import load_settings
from gateway.flow.ports import JournalUnavailable, StateUnavailable

ENTRY: Final = ("-m", "gateway")
"""How the interpreter starts the command line."""


@click.command()
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("config/gateway.toml"),
    show_default=True,
    help="The settings file.",
)
@click.option(
    "--log", type=click.Choice(["json", "console"]), default="json", show_default=True, help="Form of the log."
)
@click.option("--until-stdin-closes", is_flag=True, help="End with the process that holds the other end of the input.")
@insecure_flags
def serve(config: Path, log: str, allowed: tuple[str, ...], *, until_stdin_closes: bool) -> None:
    """Run the gateway until it is told to stop."""
    try:
        given = Handover.read(os.environ)
        set_up_log(log, None if given is None else given.worker)
        open_many_files()
        if given is not None:
            _work(given, config, allowed)
        else:
            _serve(config, log, allowed, watch_input=until_stdin_closes)
    except ConfigurationRefused as refused:
        for problem in refused.problems:
            click.echo(str(problem), err=True)
        sys.exit(1)
    except (JournalUnavailable, StateUnavailable, OSError, ValueError) as error:
        raise click.ClickException(f"cannot start: {error}") from error


def _serve(config: Path, log: str, allowed: Sequence[str], *, watch_input: bool) -> None:
    settings = load_settings(config, allowed=frozenset(allowed))
    if settings.listen.workers == 1:
        run_served(run(settings, watch_input=watch_input))
        return
    options = ("--config", str(config), "--log", log, "--until-stdin-closes", *allowed)
    plan = Plan.of(settings, (sys.executable, *ENTRY, "serve", *options))
    del settings  # The supervisor lives as long as the gateway, and needs none of its secrets.
    sys.exit(asyncio.run(supervise(plan, watch_input=watch_input)))


def _work(given: Handover, config: Path, allowed: Sequence[str]) -> None:
    """Be one of several workers."""
    name = str(given.worker)
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    share_metrics(folder, name)
    run_served(run(load_settings(config, allowed=frozenset(allowed)), watch_input=True))
    if supervisor_is_gone():
        leave_metrics(folder, name)


def open_many_files() -> None:
    """Let this process, and those it starts, open as many files as the machine's administrator allows.

    Shells and systemd start a process with 1,024, though it may raise that itself.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        # macOS names no limit, and refuses it as one.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
