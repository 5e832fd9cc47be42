"""What the shell completes besides verbs and options: ids of partners and customers, out of the grants file.

Looked for by lines, not by reading TOML: at once in a file of any size, and in one with a mistake too. A shell that
completes must not speak, so whatever fails completes to nothing.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.tables import CONFIG

_TABLE: Final = re.compile(r'^[ \t]*\[(partners|customers)\."?([a-z0-9][a-z0-9-]{0,62})"?\]', re.MULTILINE)
_GRANTS: Final = re.compile(r"""^[ \t]*grants[ \t]*=[ \t]*["']([^"']+)["']""", re.MULTILINE)

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def partner_ids(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Complete the id of a partner."""
    return _ids("partners", ctx, incomplete)


def customer_ids(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Complete the id of a customer."""
    return _ids("customers", ctx, incomplete)


def sandbox_partners(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Complete the id of a partner of a running sandbox."""
    try:
        told: Any = json.loads(Path(ctx.params["sandbox"]).read_bytes())
        return sorted(name for name in told["partners"] if name.startswith(incomplete))
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _ids(kind: str, ctx: click.Context, incomplete: str) -> list[str]:
    try:
        found = _TABLE.findall(_grants_file(ctx).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return sorted({name for table, name in found if table == kind and name.startswith(incomplete)})


def _grants_file(ctx: click.Context) -> Path:
    """Find the grants file that a command line means. Raises OSError and ValueError."""
    config = Path(ctx.params.get("config") or CONFIG)
    named = _GRANTS.search(config.read_text(encoding="utf-8"))
    if named is None:
        raise ValueError("no grants file is named")
    return config.parent / named[1]
