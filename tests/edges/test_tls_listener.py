"""The gateway's own TLS: who may connect, with what, and what happens when the certificate is replaced."""

import asyncio
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.app import certificate as following
from gateway.app.certificate import Certificate, open_certificate
from gateway.configuration.secret import Reading, Secret, read_secret
from gateway.configuration.settings import TlsSettings
from gateway.partner import tls
from gateway.partner.http_edge import HttpEdge, HttpLimits
from gateway.partner.protocol import partner_runner
from gateway.partner.tls import Identity, TlsProblem, context, replace, secure_site
from tests.edges.raw_network import DAY, Authority, authority
from tests.edges.raw_requests import get
from tests.edges.wire_bench import QUICK, Wire, WireBench


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return authority(tmp_path)


@asynccontextmanager
async def listening(shown: ssl.SSLContext, limits: HttpLimits = QUICK) -> AsyncIterator[int]:
    bench = WireBench()
    runner = partner_runner(bench.handle, HttpEdge(bench.on_malformed, bench.on_fault, lambda: "new", limits))
    await runner.setup()
    bound = socket.create_server(("127.0.0.1", 0))
    await secure_site(runner, bound, shown).start()
    try:
        yield bound.getsockname()[1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def connected(port: int, trust: ssl.SSLContext) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


async def asked(port: int, trust: ssl.SSLContext) -> None:
    async with connected(port, trust) as wire:
        await wire.send(get())
        await wire.answer()


def serial(wire: Wire) -> str:
    told = wire.writer.get_extra_info("peercert")
    assert told is not None
    return str(told["serialNumber"])


async def test_a_request_is_answered_over_current_tls(ca: Authority) -> None:
    async with listening(context(Identity(*ca.pair()))) as port, connected(port, ca.trust()) as wire:
        await wire.send(get())
        assert (await wire.answer()).status == 200
        assert wire.writer.get_extra_info("ssl_object").version() == "TLSv1.3"


@pytest.mark.parametrize("requests", [0, 1], ids=["that asked nothing", "that asked"])
async def test_a_caller_that_hangs_up_is_let_go_without_a_word_in_the_log(
    requests: int, ca: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever looks whether the port is open does so every few seconds."""
    async with listening(context(Identity(*ca.pair()))) as port:
        async with connected(port, ca.trust()) as wire:
            for _ in range(requests):
                await wire.send(get())
                assert (await wire.answer()).status == 200
            await asyncio.sleep(0.05)
            wire.writer.close()
            assert await wire.closed(within=1.0)
        await asyncio.sleep(0.05)
    assert caplog.messages == []


async def test_a_connection_is_kept_after_an_answer_and_closed_after_a_refusal(ca: Authority) -> None:
    patient = HttpLimits(discard=0.2)
    async with listening(context(Identity(*ca.pair())), patient) as port, connected(port, ca.trust()) as wire:
        for _ in range(3):
            await wire.send(get())
            assert (await wire.answer()).status == 200
        await wire.send(get(target="/a/../b"))
        assert (await wire.answer()).status == 400
        assert await wire.closed(within=2)


@pytest.mark.parametrize("kind", ["TLS 1.1", "a cipher without forward secrecy", "plain http"])
async def test_nothing_older_is_spoken(ca: Authority, kind: str) -> None:
    old = ca.trust()
    if kind == "TLS 1.1":
        old.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
    else:
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        old.set_ciphers("AES128-GCM-SHA256")
    async with listening(context(Identity(*ca.pair()))) as port:
        if kind == "plain http":
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(get())
            assert b"200" not in await reader.read()
            writer.close()
            return
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", port, ssl=old)


async def test_a_caller_that_does_not_shake_hands_is_cut_off(ca: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE", 0.2)
    async with listening(context(Identity(*ca.pair()))) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(2):
            assert await reader.read() == b""
        writer.close()


async def test_with_an_authority_for_clients_only_those_it_signed_may_connect(ca: Authority, tmp_path: Path) -> None:
    shown = context(Identity(*ca.pair()), ca.file.read_bytes())
    known = ca.trust()
    pair = tmp_path / "client.pem"
    pair.write_bytes(b"".join(ca.pair("partner.example")))
    known.load_cert_chain(pair)
    async with listening(shown) as port:
        async with connected(port, known) as wire:
            await wire.send(get())
            assert (await wire.answer()).status == 200
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await asked(port, ca.trust())


async def test_another_certificate_is_shown_from_the_next_connection_on(ca: Authority) -> None:
    shown = context(Identity(*ca.pair()))
    async with listening(shown) as port, connected(port, ca.trust()) as before:
        replace(shown, Identity(*ca.pair()))
        async with connected(port, ca.trust()) as after:
            assert serial(after) != serial(before)
        await before.send(get())
        assert (await before.answer()).status == 200


async def test_a_certificate_without_its_key_changes_nothing(ca: Authority) -> None:
    shown, (certificate, _), (_, key) = context(Identity(*ca.pair())), ca.pair(), ca.pair()
    async with listening(shown) as port:
        async with connected(port, ca.trust()) as before:
            with pytest.raises(TlsProblem, match="do not belong together"):
                replace(shown, Identity(certificate, key))
        async with connected(port, ca.trust()) as after:
            assert serial(after) == serial(before)


@pytest.mark.parametrize("bad", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_a_problem_that_shows_nothing(ca: Authority, bad: bytes) -> None:
    certificate, key = ca.pair()
    for identity in (Identity(bad, key), Identity(certificate, bad)):
        with pytest.raises(TlsProblem):
            context(identity)
    with pytest.raises(TlsProblem, match="client_ca"):
        context(Identity(certificate, key), bad or b"x")
    assert "PRIVATE KEY" not in repr(Identity(certificate, key))


@dataclass
class Files:
    """The files of a certificate, and what was told of them."""

    folder: Path
    ca: Authority
    told: list[str] = field(default_factory=list)

    def write(self, certificate: bytes, key: bytes) -> None:
        (self.folder / "server.crt").write_bytes(certificate)
        (self.folder / "server.key").write_bytes(key)

    def settings(self) -> TlsSettings:
        reading = Reading(self.folder)
        secrets: list[Secret] = [read_secret(f"file:{name}", reading) for name in ("server.crt", "server.key")]
        return TlsSettings(certificate=secrets[0], key=secrets[1])

    async def open(self, stack: AsyncExitStack) -> Certificate:
        found = await open_certificate(self.settings(), lambda: datetime.now(UTC), self.told.append, stack)
        assert found is not None
        return found


@pytest.fixture
def files(ca: Authority, tmp_path: Path) -> Files:
    made = Files(tmp_path, ca)
    made.write(*ca.pair())
    return made


async def until(wanted: Callable[[], bool]) -> None:
    for _ in range(300):
        if wanted():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


async def test_files_that_change_are_followed_and_bad_ones_are_told_once(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOK_EVERY", 0.02)
    async with AsyncExitStack() as stack:
        certificate = await files.open(stack)
        assert not certificate.degraded
        first, (other, _), second = certificate.shown, files.ca.pair(), files.ca.pair()
        files.write(other, first.key)
        await until(lambda: certificate.degraded == ("certificate",))
        assert certificate.shown == first
        (files.folder / "server.key").unlink()
        await until(lambda: len(files.told) == 2)
        files.write(*second)
        await until(lambda: certificate.shown.certificate == second[0])
        assert not certificate.degraded
        assert files.told == ["certificate-refused", "certificate-refused"]


async def test_one_look_alone_changes_nothing(files: Files) -> None:
    async with AsyncExitStack() as stack:
        certificate = await files.open(stack)
        first, second = certificate.shown, Identity(*files.ca.pair())
        certificate.look(second)
        assert certificate.shown == first
        certificate.look(second)
        assert certificate.shown == second


async def test_a_certificate_that_ends_soon_is_told(files: Files) -> None:
    files.write(*files.ca.pair(valid=(-DAY, 13 * DAY)))
    async with AsyncExitStack() as stack:
        assert (await files.open(stack)).degraded == ("certificate",)


async def test_without_a_good_certificate_nothing_is_opened(files: Files) -> None:
    (certificate, _), (_, key) = files.ca.pair(), files.ca.pair()
    files.write(certificate, key)
    async with AsyncExitStack() as stack:
        with pytest.raises(ValueError, match=r"listen\.tls: the certificate and the key do not belong together"):
            await files.open(stack)


async def test_without_settings_there_is_none() -> None:
    async with AsyncExitStack() as stack:
        assert await open_certificate(None, lambda: datetime.now(UTC) + timedelta(), list[str]().append, stack) is None
