"""Readers of single values of gateway.toml that depend on where the file is and on what was allowed by name."""

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.configuration import addresses, words
from gateway.configuration.secret import Reading, Secret, is_reference, read_secret

INSECURE_UPSTREAM: Final = "--insecure-http-upstream"
INSECURE_PUBLIC_URL: Final = "--insecure-public-url"
INSECURE_ADMIN: Final = "--insecure-admin"
INSECURE_FLAGS: Final = {
    INSECURE_UPSTREAM: "Allow plain http to PKB, though patients' data and credentials then travel in the clear.",
    INSECURE_PUBLIC_URL: "Allow a plain http public_url, though partners' tokens then travel in the clear.",
    INSECURE_ADMIN: "Allow the admin side off the loopback without operators, where anybody may look in.",
}
"""Each flag, and what it allows."""
"""One for each insecure setting; `serve` and `check` take them on the command line, never from a file."""

_SQLITE: Final = "sqlite:///"
_POSTGRESQL: Final = ("postgresql://", "postgres://")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_KEY_ID: Final = re.compile(r"k[1-9][0-9]{0,5}")


def allow(flag: str, reading: Reading, danger: str) -> None:
    """Raise ValueError unless this insecure setting was asked for by its flag."""
    if flag not in reading.allowed:
        raise ValueError(f"not secure: {danger}; to start all the same give {flag}")


def path(value: object, reading: Reading) -> Path:
    """Read a path; a relative one starts at the file's folder."""
    return reading.path(words.text(value))


def public_url(value: object, reading: Reading) -> str:
    """Read the address partners use, which their assertions are bound to."""
    parts = addresses.web(value)
    if parts.path:
        raise ValueError("must end after the host and the port, without a path or a slash")
    if not addresses.is_private(parts):
        allow(INSECURE_PUBLIC_URL, reading, "tokens would travel over plain http")
    return parts.geturl()


def upstream(value: object, reading: Reading) -> str:
    """Read an address of PKB's; the result has no slash at its end."""
    parts = addresses.web(value)
    if not addresses.is_private(parts):
        allow(INSECURE_UPSTREAM, reading, "patients' data and credentials would travel over plain http")
    return parts.geturl().rstrip("/")


def reference_or_text(value: object, reading: Reading) -> Secret:
    """Read what may, but need not, be kept out of the file, such as a client id."""
    if is_reference(value):
        return read_secret(value, reading)
    written = words.exact(value)
    if written.startswith(("env:", "file:")):
        raise ValueError('a reference is written "env:NAME" or "file:/path"')
    return Secret(written, written)


def state_url(value: object, reading: Reading) -> Secret:
    """Read where state is kept: a file of SQLite, PostgreSQL, or a reference to either."""
    secret = read_secret(value, reading) if is_reference(value) else None
    if secret is not None and not reading.secrets:
        return secret
    written = secret.reveal() if secret is not None else words.text(value)
    if written.startswith(_SQLITE) and len(written) > len(_SQLITE):
        file = reading.path(written.removeprefix(_SQLITE))
        return Secret(secret.reference if secret is not None else written, f"{_SQLITE}{os.fspath(file)}")
    if not written.startswith(_POSTGRESQL):
        raise ValueError('expected "sqlite:///path/to/state.db" or "postgresql://host/database"')
    if secret is None and "password" in written.casefold():
        raise ValueError('a password is never written here; refer to the whole address as "env:NAME"')
    try:
        holds_password = urlsplit(written).password is not None
    except ValueError:
        raise ValueError('not an address such as "postgresql://host/database"') from None
    if secret is None and holds_password:
        raise ValueError('a password is never written here; refer to the whole address as "env:NAME"')
    return secret if secret is not None else Secret(written, written)


def sha256(value: object) -> str:
    """Read the SHA-256 of an operator's token."""
    written = words.text(value)
    if not _SHA256.fullmatch(written):
        # Not repeated: somebody may have put the token itself here.
        raise ValueError("expected the SHA-256 of the token, 64 of 0-9 and a-f; never the token itself")
    return written


def key_id(value: object) -> str:
    """Read the id of an old pseudonym key."""
    written = words.text(value)
    if not _KEY_ID.fullmatch(written):
        raise ValueError(f'{words.echo(written)} is not the id of a key, such as "k1"')
    return written
