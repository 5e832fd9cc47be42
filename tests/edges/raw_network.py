"""Networks in trouble: listeners that count bytes, hang, reset or never accept, and a throwaway authority for TLS."""

import asyncio
import contextlib
import socket
import ssl
import struct
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass
class Listening:
    """A server that takes whatever comes and says nothing."""

    port: int = 0
    scheme: str = "http"
    connections: int = 0
    received: bytearray = field(default_factory=bytearray)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def closed(self) -> None:
        """Wait until the other side has ended a connection, and with it said all that it had to say."""
        async with asyncio.timeout(3):
            await self.ended.wait()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                self.received += data
        self.ended.set()


Serving = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serving, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve connections on a free port until the caller is done; its number is what is given."""
    open_: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
                await serve(reader, writer)
        finally:
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(run(reader, writer))
        open_.add(task)
        task.add_done_callback(open_.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in open_:
            task.cancel()
        await asyncio.gather(*open_, return_exceptions=True)
        await asyncio.sleep(0)


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None) -> AsyncIterator[Listening]:
    server = Listening(scheme="http" if tls is None else "https")
    async with serving(server.take, tls) as server.port:
        yield server


@asynccontextmanager
async def resetting() -> AsyncIterator[int]:
    """A server that resets every connection as soon as it has heard something: in the middle of a TLS handshake."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async with serving(reset) as port:
        yield port


@asynccontextmanager
async def relay(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Pass every byte on to another port, so that a server without TLS gets some in front of it."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(pump(reader, back), pump(there, writer))
        finally:
            back.transport.abort()

    async with serving(pass_on, tls) as own:
        yield own


@contextmanager
def black_hole() -> Iterator[int]:
    """A port on which no connection is ever made: its queue is full, and Linux drops what comes then."""
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(socket.socket())
        held.bind(("127.0.0.1", 0))
        held.listen(0)
        for _ in range(4):
            knocking = stack.enter_context(socket.socket())
            knocking.setblocking(False)
            knocking.connect_ex(held.getsockname())
        yield held.getsockname()[1]


@contextmanager
def refused_port() -> Iterator[int]:
    """A port that is taken and not listened on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@dataclass
class StalledReader:
    """A server that accepts a connection and reads nothing of it until told to."""

    held: socket.socket

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.held.getsockname()[1]}"

    async def read_all(self) -> bytes:
        """Read all that was sent, now that it is too late."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.05)
        got = bytearray()
        connection, _ = await loop.sock_accept(self.held)
        with connection, contextlib.suppress(ConnectionError):
            async with asyncio.timeout(5):
                while data := await loop.sock_recv(connection, 65_536):
                    got += data
        return bytes(got)


@asynccontextmanager
async def stalled_reader() -> AsyncIterator[StalledReader]:
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        held.bind(("127.0.0.1", 0))
        held.listen(1)
        held.setblocking(False)
        yield StalledReader(held)


@dataclass(frozen=True)
class Authority:
    """A certificate authority that nobody trusts but the tests."""

    folder: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def file(self) -> Path:
        return self.folder / "authority.pem"

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.file)

    def pair(
        self, name: str = "127.0.0.1", valid: tuple[timedelta, timedelta] = (-DAY, 30 * DAY)
    ) -> tuple[bytes, bytes]:
        """A certificate for this name and the key to it, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        return _certificate(key, name, valid, self).public_bytes(Encoding.PEM), _key(key)

    def server(
        self,
        name: str = "127.0.0.1",
        *,
        valid: tuple[timedelta, timedelta] = (-DAY, DAY),
        self_signed: bool = False,
        newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
    ) -> ssl.SSLContext:
        """TLS of a server with a certificate for this name, good between these two times from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = None if self_signed else self
        certificate = _certificate(key, name, valid, issuer)
        file = self.folder / f"server-{certificate.serial_number}.pem"
        file.write_bytes(certificate.public_bytes(Encoding.PEM) + _key(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.load_cert_chain(file)
        with warnings.catch_warnings():
            # Python calls the old versions deprecated, which is why they are wanted here.
            warnings.simplefilter("ignore", DeprecationWarning)
            if newest is not ssl.TLSVersion.MAXIMUM_SUPPORTED:
                context.minimum_version = newest
            context.maximum_version = newest
        return context


SIGNS_CERTIFICATES: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
"""What an authority must say of its key (RFC 5280, 4.2.1.3); from Python 3.13 on nobody is believed who does not."""


def authority(folder: Path) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    made = Authority(folder, _certificate(key, "authority", (-DAY, DAY), None, is_authority=True), key)
    made.file.write_bytes(made.certificate.public_bytes(Encoding.PEM))
    return made


def _key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _certificate(
    key: ec.EllipticCurvePrivateKey,
    name: str,
    valid: tuple[timedelta, timedelta],
    issuer: Authority | None,
    *,
    is_authority: bool = False,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer, signed_by = (key, subject) if issuer is None else (issuer.key, issuer.certificate.subject)
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(signed_by, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now + valid[0]).not_valid_after(now + valid[1])
    builder = builder.add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(authority_key, critical=False)
    if is_authority:
        builder = builder.add_extension(SIGNS_CERTIFICATES, critical=True)
    else:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(name)]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
