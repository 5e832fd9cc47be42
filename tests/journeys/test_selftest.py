"""The selftest against real gateways, with and without a token and TLS, and against one that has lost a guard."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.selftest.vectors import harmless
from tests.adversarial.stage import SETTINGS, Nursery, Target, nursery, target
from tests.edges.raw_network import authority
from tests.journeys.processes import Place, Sandbox

VECTORS = harmless().vectors
OPEN = sum(not vector.authenticated for vector in VECTORS)


def selftest(url: str, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", "selftest", "--against", url, *more]
    return subprocess.run(command, capture_output=True, text=True, env=environment or None, check=False, timeout=90)


@pytest.fixture(scope="module")
def forks() -> Iterator[Nursery]:
    with nursery(python_parser=False) as ready:
        yield ready


@pytest.fixture
def gateway(place: Place, forks: Nursery) -> Iterator[Target]:
    with target(place, forks, "selftested") as found:
        yield found


def test_a_gateway_withstands_what_needs_no_token(gateway: Target) -> None:
    told = selftest(gateway.place.gateway_url)
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.endswith(f"{OPEN} of {OPEN} attacks withstood\n")
    assert bytes(gateway.relay.heard) == b""


def test_over_tls_with_a_token_that_is_in_no_answer_of_it(place: Place, forks: Nursery, tmp_path: Path) -> None:
    ca = authority(tmp_path)
    certificate, key = ca.pair()
    (tmp_path / "server.crt").write_bytes(certificate)
    (tmp_path / "server.key").write_bytes(key)
    tls = f'tls = {{ certificate = "file:{tmp_path}/server.crt", key = "file:{tmp_path}/server.key" }}'
    with target(place, forks, "selftested-tls", listen=tls, settings=SETTINGS) as gateway:
        url = gateway.place.gateway_url.replace("http:", "https:")
        token = tmp_path / "token"
        token.write_text(gateway.place.token("swiftbook"), encoding="ascii")
        told = selftest(url, "--token-file", str(token), SSL_CERT_FILE=str(ca.file))
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.endswith(f"{len(VECTORS)} of {len(VECTORS)} attacks withstood\n")
    assert token.read_text(encoding="ascii") not in told.stdout


def test_a_gateway_that_has_lost_a_guard_falls(place: Place, forks: Nursery) -> None:
    with target(place, forks, "selftested-without", "fragment") as gateway:
        told = selftest(gateway.place.gateway_url)
    assert told.returncode == 1
    assert "a number sign: answered" in told.stdout
    assert "attacks withstood" in told.stdout


@pytest.mark.parametrize("url", ["localhost", "ftp://localhost", "http://localhost/fhir", "http://localhost?x=1"])
def test_what_is_no_address_is_not_understood(url: str) -> None:
    assert selftest(url).returncode == 2


def test_what_is_no_gateway_is_told(sandbox: Sandbox) -> None:
    told = selftest(sandbox.place.admin_url)
    assert told.returncode == 1
    assert "did not answer as a gateway does" in told.stderr
    assert selftest("http://127.0.0.1:1").returncode == 1
