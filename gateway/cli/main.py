"""`pkb-gateway`: one verb a module."""

import click

from gateway import __version__
from gateway.cli.verbs import Verbs


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="pkb-gateway")
def main() -> None:
    """Let appointment partners read, change and cancel appointments in PKB, exactly as far as customers granted it.

    \b
    Status 0: fine; 1: could not run, or found a mistake; 2: not understood, or refused (explain).
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
