"""The flags that allow insecure settings, one each."""

from collections.abc import Callable
from typing import Any

import click

from gateway.configuration.settings_words import INSECURE_FLAGS


def insecure_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command one flag for each insecure setting; it gets those given as the tuple `allowed`."""
    for name, meaning in sorted(INSECURE_FLAGS.items()):
        option = click.option(name, "allowed", multiple=True, type=str, flag_value=name, help=meaning)
        command = option(command)
    return command
