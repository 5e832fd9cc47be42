"""The verbs by what they are for. A verb is loaded when it is asked for, so that the shell completes at once."""

import errno
import importlib
import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

SECTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "Run": {
        "serve": "gateway.cli.serve:serve",
        "check": "gateway.cli.check:check",
    },
    "Who may do what": {
        # `replay` is a module of its own and joins the group.
        "grants": "gateway.cli.replay:grants",
        "explain": "gateway.cli.explain:explain_command",
        "block": "gateway.cli.block:block",
        "unblock": "gateway.cli.block:unblock",
    },
    "What happened": {
        "audit": "gateway.cli.audit:audit",
        "changes": "gateway.cli.changes:changes_command",
        "tasks": "gateway.cli.tasks:tasks",
    },
    "Try it": {
        "sandbox": "gateway.cli.sandbox:sandbox",
        "token": "gateway.cli.token:token",
        "selftest": "gateway.cli.selftest:selftest",
    },
}
"""Each verb, and where it is."""


class Verbs(click.Group):
    """The command line as a whole: what goes wrong outside is told in one sentence, with status 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the verbs."""
        return [name for verbs in SECTIONS.values() for name in verbs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Load a verb."""
        place = {name: place for verbs in SECTIONS.values() for name, place in verbs.items()}.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Tell what each is for, under the heading of what one wants to do."""
        longest = max(map(len, self.list_commands(ctx)))
        limit = formatter.width - 6 - longest
        for title, verbs in SECTIONS.items():
            found = [(name, self.get_command(ctx, name)) for name in verbs]
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(longest), verb.get_short_help_str(limit)) for name, verb in found if verb is not None]
                )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a verb without loading one."""
        names = [CompletionItem(name) for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        """Run what was typed."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A terminal that cannot show a letter of a name gets its number, rather than nothing at all.
                stream.reconfigure(errors="backslashreplace")
        return super().main(args, *rest, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE:
                # Whoever reads the output has had enough (`| head`); click ends without a word.
                raise
            place = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{place}{error.strerror or type(error).__name__}") from error
        except UnicodeDecodeError as error:
            raise click.ClickException("a file that should be text is not UTF-8; save it again as such") from error
