"""gateway.toml, read into settings."""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from gateway.configuration.document import read_document
from gateway.configuration.problems import Complaint
from gateway.configuration.secret import Reading
from gateway.configuration.settings import Settings
from gateway.configuration.shape import Shape


@cache
def settings_shape() -> Shape[Settings]:
    """The shape of the file."""
    return Shape(Settings)


def load_settings(
    path: Path,
    *,
    allowed: frozenset[str] = frozenset(),
    secrets: bool = True,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Read the settings, resolving every secret. Raises ConfigurationRefused with everything that is wrong.

    `allowed` holds the flags of insecure settings (settings_words.INSECURE_FLAGS) that somebody gave by name.
    """
    document = read_document(path)
    reading = Reading(document.folder, secrets, os.environ if environ is None else environ, allowed)
    found = settings_shape().read(document.values, reading)
    if isinstance(found, list):
        raise document.refusal(found)
    if found.public_url in found.tokens.issuers:
        message = "this is public_url: the gateway's own tokens are verified with its own keys, not with another's"
        raise document.refusal([Complaint(("tokens", "issuers", found.public_url), message)])
    return found
