"""`serve`: run the gateway. What that takes is loaded when it is run: the shell completes the options at once."""

import contextlib
import resource
from pathlib import Path

import click

from gateway.app.memory import begin
from gateway.cli.insecure import insecure_flags


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
    begin()
    from gateway.cli.serving import run  # noqa: PLC0415 - only after begin(): most of a start is loading this

    open_many_files()
    run(config, log, allowed, watch_input=until_stdin_closes)


def open_many_files() -> None:
    """Let this process, and those it starts, open as many files as the machine's administrator allows.

    Shells and systemd start a process with 1,024, though it may raise that itself.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        # macOS names no limit, and refuses it as one.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
