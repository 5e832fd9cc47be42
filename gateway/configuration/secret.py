"""Secrets by reference: `env:NAME` or `file:/path`. A value never shows in a message, a log or a repr."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

LARGEST: Final = 64 * 1024
"""Bytes of a secret's file."""

REFERENCE_PATTERN: Final = "^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$"
_REFERENCE: Final = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,127}|file:[^\x00-\x1f\x7f]{1,4096}")


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that only `reveal` gives away."""

    reference: str
    _value: str | None = field(default=None, repr=False)
    path: Path | None = field(default=None, compare=False)
    """The file it is in, absolute; None for an environment variable."""

    def reveal(self) -> str:
        """Give the value. Raises RuntimeError when the file was read without its secrets."""
        if self._value is None:
            raise RuntimeError(f"{self.reference} was not resolved")
        return self._value


@dataclass(frozen=True, slots=True)
class Reading:
    """What the reading of one file depends on besides its bytes."""

    folder: Path
    secrets: bool = True
    """False: references are checked for their form only."""
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    allowed: frozenset[str] = frozenset()
    """Flags of insecure settings that were asked for by name."""

    def path(self, written: str) -> Path:
        """Give the path meant by one written in the file."""
        return Path(os.path.normpath(self.folder / written))


def is_reference(value: object) -> bool:
    """Tell a reference from a literal."""
    return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None


def read_secret(value: object, reading: Reading) -> Secret:
    """Resolve a reference. Raises ValueError, which never repeats what may be a secret."""
    if not isinstance(value, str) or not is_reference(value):
        raise ValueError('a secret is never written here; refer to it as "env:NAME" or "file:/path"')
    if not reading.secrets:
        return Secret(value)
    kind, _, name = value.partition(":")
    if kind == "env":
        return Secret(value, _from_environment(name, reading))
    path = reading.path(name)
    return Secret(value, _from_file(value, path), path)


def read_again(secret: Secret) -> str:
    """Give what the secret's file holds now. Raises ValueError, which never repeats what may be a secret."""
    return secret.reveal() if secret.path is None else _from_file(secret.reference, secret.path)


def _from_environment(name: str, reading: Reading) -> str:
    found = reading.environ.get(name)
    if found is None:
        raise ValueError(f"env:{name} cannot be resolved: there is no such environment variable")
    if not found.strip():
        raise ValueError(f"env:{name} cannot be resolved: the environment variable is empty")
    return found


def _from_file(reference: str, path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"{reference} cannot be resolved: not a plain file")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        found = content.decode()
    except OSError as error:
        raise ValueError(f"{reference} cannot be resolved: {error.strerror or 'it cannot be read'}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{reference} cannot be resolved: the file is not UTF-8 text") from None
    if len(content) > LARGEST:
        raise ValueError(f"{reference} cannot be resolved: the file is larger than {LARGEST // 1024} KiB")
    if not found.strip():
        raise ValueError(f"{reference} cannot be resolved: the file is empty")
    # Editors and `echo` end a file with a line break that belongs to no password.
    return found.removesuffix("\n").removesuffix("\r")
