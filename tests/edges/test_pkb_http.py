import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import aiohttp
import pytest
from aiohttp.http_writer import _serialize_headers
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from gateway.pkb.http import (
    LARGEST_ANSWER,
    Broken,
    HttpClient,
    HttpFault,
    NotConnected,
    Reuse,
    Unreadable,
    checked_url,
    is_id,
    resource_url,
)
from gateway.pkb.servers import Server
from tests.edges.raw_upstream import HANG_UP, RawUpstream, Reply, raw_upstream, reply


@pytest.fixture
async def upstream() -> AsyncIterator[RawUpstream]:
    async with raw_upstream() as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with HttpClient("gateway/test") as client:
        yield client


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


def thing(upstream: RawUpstream) -> URL:
    return URL(f"{upstream.url}/thing", encoded=True)


@pytest.mark.parametrize("reuse", Reuse)
async def test_a_put_whose_connection_drops_is_seen_once(http: HttpClient, upstream: RawUpstream, reuse: Reuse) -> None:
    upstream.on("GET /thing", reply(200, b"{}"))
    upstream.on("PUT /thing", HANG_UP)
    await http.send("GET", thing(upstream), {}, soon())

    with pytest.raises(Broken):
        await http.send("PUT", thing(upstream), {}, soon(), body=b"{}", reuse=reuse)

    await asyncio.sleep(0.05)
    assert upstream.count("PUT /thing") == 1
    assert upstream.heard[-1].connection == (2 if reuse is Reuse.NEVER else 1)


async def test_a_put_on_a_first_connection_that_drops_is_seen_once(http: HttpClient, upstream: RawUpstream) -> None:
    upstream.on("PUT /thing", HANG_UP)

    with pytest.raises(Broken):
        await http.send("PUT", thing(upstream), {}, soon(), body=b"{}")

    await asyncio.sleep(0.05)
    assert upstream.count("PUT /thing") == 1


async def test_aiohttp_left_to_itself_sends_a_dropped_put_twice(upstream: RawUpstream) -> None:
    upstream.on("PUT /thing", HANG_UP)

    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.put(thing(upstream), data=b"{}")

    assert upstream.count("PUT /thing") == 2


async def test_a_write_of_its_own_survives_kept_connections_that_pkb_has_closed(
    http: HttpClient, upstream: RawUpstream
) -> None:
    upstream.on("GET /thing", reply(200, b"{}", close=True))
    upstream.on("PUT /thing", reply(200, b"{}"))
    await http.send("GET", thing(upstream), {}, soon())

    assert (await http.send("PUT", thing(upstream), {}, soon(), body=b"{}", reuse=Reuse.NEVER)).status == 200


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(http: HttpClient, upstream: RawUpstream, status: int) -> None:
    async with raw_upstream() as elsewhere:
        upstream.on("PUT /thing", reply(status, headers={"Location": f"{elsewhere.url}/thing"}))

        answer = await http.send("PUT", thing(upstream), {"Authorization": "Bearer x"}, soon(), body=b"{}")

        assert answer.status == status
        assert elsewhere.connections == 0


async def test_cookies_are_not_sent_back(http: HttpClient, upstream: RawUpstream) -> None:
    upstream.on("GET /thing", reply(200, b"{}", {"Set-Cookie": "session=1; Path=/"}))

    await http.send("GET", thing(upstream), {}, soon())
    await http.send("GET", thing(upstream), {}, soon())

    assert upstream.count("GET /thing") == 2
    assert all("cookie" not in heard.headers for heard in upstream.heard)


async def test_the_gateway_names_itself_and_accepts_no_encoding(http: HttpClient, upstream: RawUpstream) -> None:
    await http.send("GET", thing(upstream), {}, soon())

    assert upstream.heard[0].headers["user-agent"] == "gateway/test"
    assert upstream.heard[0].headers["accept-encoding"] == "identity"


async def test_a_path_reaches_the_wire_as_written(http: HttpClient, upstream: RawUpstream) -> None:
    url = resource_url(f"{upstream.url}/fhir/", "Appointment", "A.b-1")

    await http.send("GET", url, {}, soon())

    assert upstream.heard[0].target == "/fhir/Appointment/A.b-1"


async def test_no_proxy_is_taken_from_the_environment(
    http: HttpClient, upstream: RawUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with raw_upstream() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        upstream.on("GET /thing", reply(200, b"{}"))

        assert (await http.send("GET", thing(upstream), {}, soon())).status == 200
        assert proxy.connections == 0


HUGE = b"x" * (LARGEST_ANSWER + 1)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        pytest.param(reply(200, HUGE), Unreadable, id="too large and says so"),
        pytest.param(Reply(b"HTTP/1.1 200 OK\r\n\r\n" + HUGE, close=True), Unreadable, id="too large without length"),
        pytest.param(
            reply(200, gzip.compress(HUGE * 10), {"Content-Encoding": "gzip"}), Unreadable, id="a bomb of gzip"
        ),
        pytest.param(Reply(b"I am no HTTP at all\r\n\r\n", close=True), Unreadable, id="not HTTP"),
        pytest.param(Reply(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n"), Unreadable, id="a huge header"),
        pytest.param(reply(200, b'{"a"', length=100, close=True), Broken, id="half a body"),
        pytest.param(
            Reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", close=True), Broken, id="half a chunk"
        ),
        pytest.param(
            Reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{", close=True), HttpFault, id="no chunk"
        ),
        pytest.param(Reply(b"HTTP/1.1 200 OK\r\nContent-", close=True), Broken, id="half a head"),
        pytest.param(HANG_UP, Broken, id="no answer"),
    ],
)
async def test_an_answer_that_is_not_whole_is_a_fault_of_its_kind(
    http: HttpClient, upstream: RawUpstream, answer: Reply, fault: type[HttpFault]
) -> None:
    upstream.on("GET /thing", answer)

    with pytest.raises(fault) as caught:
        await http.send("GET", thing(upstream), {}, soon())

    assert not isinstance(caught.value, NotConnected)
    assert upstream.count("GET /thing") == 1


async def test_only_a_200_is_read_to_its_end(http: HttpClient, upstream: RawUpstream) -> None:
    upstream.on("PUT /thing", reply(412, b'{"half', length=1000))

    answer = await http.send("PUT", thing(upstream), {}, soon(2), body=b"{}", reuse=Reuse.NEVER)

    assert (answer.status, answer.body) == (412, b"")


async def test_a_slow_answer_is_given_up_at_the_deadline(http: HttpClient, upstream: RawUpstream) -> None:
    upstream.on("GET /thing", reply(200, b"{}", wait=3))

    with pytest.raises(Broken) as caught:
        await http.send("GET", thing(upstream), {}, soon(0.1))

    assert caught.value.late


async def test_a_slow_body_is_given_up_at_the_deadline(http: HttpClient, upstream: RawUpstream) -> None:
    upstream.on("GET /thing", reply(200, b"{", length=10))

    with pytest.raises(Broken) as caught:
        await http.send("GET", thing(upstream), {}, soon(0.1))

    assert caught.value.late


async def test_a_refused_connection_is_no_connection(http: HttpClient) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = URL(f"http://127.0.0.1:{held.getsockname()[1]}/thing", encoded=True)

        with pytest.raises(NotConnected) as caught:
            await http.send("PUT", url, {}, soon(), body=b"{}", reuse=Reuse.NEVER)

    assert not caught.value.late


async def test_an_unknown_name_is_no_connection(http: HttpClient) -> None:
    with pytest.raises(NotConnected):
        await http.send("PUT", URL("http://pkb.invalid/thing", encoded=True), {}, soon(), body=b"{}", reuse=Reuse.NEVER)


async def test_a_failed_tls_handshake_is_no_connection(http: HttpClient, upstream: RawUpstream) -> None:
    url = URL(f"https://127.0.0.1:{upstream.port}/thing", encoded=True)

    with pytest.raises(NotConnected):
        await http.send("PUT", url, {}, soon(0.5), body=b"{}", reuse=Reuse.NEVER)

    assert upstream.heard == []


def certificate(folder: Path, name: x509.GeneralName) -> Path:
    """A self-signed certificate and its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "box")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "box.pem"
    file.write_bytes(
        made.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


@pytest.mark.parametrize(
    ("name", "trusted", "sent"),
    [
        pytest.param(x509.IPAddress(IPv4Address("127.0.0.1")), True, True, id="trusted and rightly named"),
        pytest.param(x509.IPAddress(IPv4Address("127.0.0.1")), False, False, id="not trusted"),
        pytest.param(x509.DNSName("other.example"), True, False, id="of another name"),
    ],
)
async def test_a_certificate_is_verified_before_anything_is_sent(
    tmp_path: Path, name: x509.GeneralName, *, trusted: bool, sent: bool
) -> None:
    file = certificate(tmp_path, name)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(file)
    trust = ssl.create_default_context(cafile=file) if trusted else None

    async with raw_upstream(tls) as upstream, HttpClient("gateway/test", ssl_context=trust) as http:
        upstream.on("PUT /thing", reply(200, b"{}"))
        sending = http.send("PUT", thing(upstream), {}, soon(), body=b"{}", reuse=Reuse.NEVER)
        if sent:
            assert (await sending).status == 200
        else:
            with pytest.raises(NotConnected):
                await sending

    assert upstream.count("PUT /thing") == int(sent)


async def test_a_deadline_that_has_passed_sends_nothing(http: HttpClient, upstream: RawUpstream) -> None:
    with pytest.raises(NotConnected) as caught:
        await http.send("PUT", thing(upstream), {}, soon(-1), body=b"{}", reuse=Reuse.NEVER)

    assert caught.value.late
    assert upstream.heard == []


async def test_a_header_with_a_line_break_sends_nothing(http: HttpClient, upstream: RawUpstream) -> None:
    with pytest.raises(HttpFault):
        await http.send("PUT", thing(upstream), {"If-Match": "a\r\nX: b"}, soon(), body=b"{}")

    assert upstream.heard == []


@pytest.mark.parametrize("broken", ["a\rb", "a\nb", "a\0b", "naïve"])
async def test_what_would_not_be_one_line_of_ascii_is_not_written(broken: str) -> None:
    server = Server(URL("http://box.example/fhir"), {})
    with pytest.raises(ValueError, match=r"ends a line|not ASCII"):
        server.request("GET", URL("http://box.example/fhir"), {"If-Match": broken}, None, close=False)


@given(st.dictionaries(st.from_regex(r"X-[A-Za-z0-9-]{1,20}", fullmatch=True), st.text(max_size=40), max_size=5))
async def test_a_head_is_what_aiohttp_would_write_or_nothing(headers: dict[str, str]) -> None:
    url = URL("http://box.example:8080/fhir/Appointment/1", encoded=True)
    own = {"User-Agent": "gateway/test", "Accept-Encoding": "identity"}
    try:
        told = Server(url, own).request("GET", url, headers, None, close=False)
    except ValueError:
        assert not all(value.isascii() and value.isprintable() for value in headers.values())
    else:
        lines = {"Host": "box.example:8080", **own, **headers}
        assert told == _serialize_headers("GET /fhir/Appointment/1 HTTP/1.1", CIMultiDict(lines))


async def test_head_and_body_are_written_with_a_length_and_a_last_word() -> None:
    url = URL("http://box.example/fhir/Appointment/1", encoded=True)
    server = Server(url, {"User-Agent": "gateway/test"})

    assert server.request("PUT", url, {"If-Match": 'W/"7"'}, b"{}", close=True) == (
        b"PUT /fhir/Appointment/1 HTTP/1.1\r\nHost: box.example\r\nUser-Agent: gateway/test\r\n"
        b'If-Match: W/"7"\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}'
    )


async def test_what_pkb_says_before_its_answer_is_passed_over(http: HttpClient, upstream: RawUpstream) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
    upstream.on("PUT /thing", Reply(early + reply(200, b"{}").raw))

    for reuse in Reuse:
        assert (await http.send("PUT", thing(upstream), {}, soon(), body=b"{}", reuse=reuse)).body == b"{}"


@pytest.mark.parametrize("reuse", Reuse)
async def test_a_client_that_is_not_open_sends_nothing(upstream: RawUpstream, reuse: Reuse) -> None:
    client = HttpClient("gateway/test")
    with pytest.raises(NotConnected):
        await client.send("GET", thing(upstream), {}, soon(), reuse=reuse)
    async with client:
        pass
    with pytest.raises(NotConnected):
        await client.send("GET", thing(upstream), {}, soon(), reuse=reuse)


def test_tls_without_names_is_refused() -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    with pytest.raises(ValueError, match="verifies names"):
        HttpClient("gateway/test", ssl_context=context)

    HttpClient("gateway/test", ssl_context=ssl.create_default_context())


@pytest.mark.parametrize("id_", ["", ".", "..", "a/b", "a%2f", "a b", "é", "a" * 65, "a?b", "a#b", "a\n"])
def test_what_is_no_id_makes_no_address(id_: str) -> None:
    assert not is_id(id_)
    with pytest.raises(ValueError, match="id"):
        resource_url("https://box.example/fhir", "Appointment", id_)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://box.example/fhir",
        "https:///fhir",
        "https://me:secret@box.example/fhir",
        "https://box.example/fhir?x=1",
        "https://box.example/fhir#x",
        "https://box.example/a/../b",
        "https://box.example/a/./b",
        "https://box.example//b",
        "https://box.example/%61",
        "https://box.example\\@evil.example/",
        "https://box.example/\n",
        "https://böx.example/",
        "box.example/fhir",
    ],
)
def test_a_base_address_with_two_readings_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        checked_url(url)


@pytest.mark.parametrize("url", ["https://box.example", "http://127.0.0.1:8081/fhir", "https://[::1]:8443/a/b/"])
def test_a_plain_base_address_is_taken_as_written(url: str) -> None:
    assert str(resource_url(url, "Patient", "1")) == f"{url.rstrip('/')}/Patient/1"
