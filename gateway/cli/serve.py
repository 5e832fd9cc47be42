"""`serve`: run the gateway."""

import asyncio
import logging
import sys
from pathlib import Path

import click
import structlog

from gateway.app import serve as run
from gateway.cli.check import insecure_flags
from gateway.configuration.problems import ConfigurationRefused
from gateway.configuration.settings_file import load_settings
from gateway.flow.ports import JournalUnavailable, StateUnavailable


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
def serve(config: Path, log: str, allowed: frozenset[str], *, until_stdin_closes: bool) -> None:
    """Run the gateway until it is told to stop."""
    set_up_log(log)
    try:
        asyncio.run(run(load_settings(config, allowed=allowed), watch_input=until_stdin_closes))
    except ConfigurationRefused as refused:
        for problem in refused.problems:
            click.echo(str(problem), err=True)
        sys.exit(1)
    except (JournalUnavailable, StateUnavailable, OSError, ValueError) as error:
        raise click.ClickException(f"cannot start: {error}") from error


def set_up_log(form: str) -> None:
    """Log to standard error, one event a line."""
    renderer = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
