"""`pkb-gateway`: one verb a module."""

import click

from gateway import __version__
from gateway.cli.audit import audit
from gateway.cli.block import block, unblock
from gateway.cli.changes import changes_command
from gateway.cli.check import check
from gateway.cli.explain import explain_command
from gateway.cli.grants import grants
from gateway.cli.replay import replay_command
from gateway.cli.sandbox import sandbox
from gateway.cli.selftest import selftest
from gateway.cli.serve import serve
from gateway.cli.tasks import tasks
from gateway.cli.token import token


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="pkb-gateway")
def main() -> None:
    """Let appointment partners read, change and cancel appointments in PKB, exactly as far as customers granted it."""


for _verb in (
    serve,
    sandbox,
    check,
    explain_command,
    grants,
    changes_command,
    token,
    block,
    unblock,
    tasks,
    audit,
    selftest,
):
    main.add_command(_verb)
grants.add_command(replay_command)
