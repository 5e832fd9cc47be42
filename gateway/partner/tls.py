"""The gateway's own TLS towards partners: current versions and ciphers only, and a certificate that can be replaced."""

import asyncio
import contextlib
import os
import socket
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from aiohttp import web
from cryptography import x509

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2 (RFC 9325, 4.2): forward secrecy and authenticated encryption; those of TLS 1.3 all have both."""


HANDSHAKE: Final = 5.0
"""Seconds until a caller must have shaken hands: as long as a head may take."""


class TlsProblem(Exception):
    """A certificate, key or authority that cannot be used. The message never holds a part of a key."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What the gateway shows: a certificate with its chain, and the key to it, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)

    def ends(self) -> datetime:
        """Until when the certificate is good. Raises TlsProblem."""
        try:
            return x509.load_pem_x509_certificate(self.certificate).not_valid_after_utc
        except ValueError:
            raise TlsProblem("the certificate is no certificate in PEM") from None


def context(identity: Identity, client_ca: bytes | None = None) -> ssl.SSLContext:
    """Make what connections are opened with; `client_ca` lets in only clients that an authority of it signed.

    Raises TlsProblem.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers(CIPHERS)
    made.set_alpn_protocols(["http/1.1"])
    made.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if client_ca is not None:
        try:
            made.load_verify_locations(cadata=client_ca.decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise TlsProblem("client_ca holds no certificate in PEM") from None
        made.verify_mode = ssl.CERT_REQUIRED
    _load(made, identity)
    return made


def replace(used: ssl.SSLContext, identity: Identity) -> None:
    """Show another certificate from the next connection on; a bad one changes nothing. Raises TlsProblem."""
    # A certificate without its key would be half in place by the time that is noticed.
    _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), identity)
    _load(used, identity)


def _load(into: ssl.SSLContext, identity: Identity) -> None:
    identity.ends()
    try:
        with _as_file(identity.certificate) as certificate, _as_file(identity.key) as key:
            # A key with a passphrase would make OpenSSL ask for it at the terminal.
            into.load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError):
        raise TlsProblem("the certificate and the key do not belong together, or one of them is not PEM") from None


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path that OpenSSL can read; in memory where the system can, so that no key is written to a disk."""
    if hasattr(os, "memfd_create"):
        held = os.memfd_create("pem", os.MFD_CLOEXEC)
        try:
            os.write(held, content)
            yield f"/proc/self/fd/{held}"
        finally:
            os.close(held)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.name


class SecureSite(web.SockSite):
    """A listening socket whose callers must have shaken hands in the time that a head has."""

    async def start(self) -> None:
        """Listen. aiohttp's own site leaves a silent caller a minute."""
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None, "the runner was set up"
        self._server = await asyncio.get_running_loop().create_server(
            server,
            sock=self._sock,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=HANDSHAKE,
            ssl_shutdown_timeout=HANDSHAKE,
        )


def secure_site(
    runner: web.BaseRunner, listening: socket.socket, shown: ssl.SSLContext, backlog: int = 128
) -> web.BaseSite:
    """Serve TLS on a socket that is bound."""
    return SecureSite(runner, listening, ssl_context=shown, backlog=backlog)
