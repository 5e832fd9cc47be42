"""The admin side: who may ask what, under which name."""

import pytest
from aiohttp.test_utils import TestClient, TestServer

from gateway.admin.metrics import Metrics
from gateway.admin.server import Readiness
from tests.edges.console_desk import TOKEN, Desk
from tests.edges.still_gauges import still

GOOD = Readiness({"audit": True, "state": True})
RED = Readiness({"audit": False, "state": True})
SHAKY = Readiness({"audit": True, "state": True}, degraded=("grants",))


async def asked(
    path: str,
    *,
    readiness: Readiness = GOOD,
    loopback: bool = True,
    host: str | None = None,
    token: str | None = None,
    scheme: str = "Bearer",
) -> tuple[int, str, dict[str, str]]:
    """Ask an admin side that knows one operator and, besides the loopback, the name ops.example."""

    desk = Desk(readiness=readiness, loopback=loopback)
    headers = {} if host is None else {"Host": host}
    if token is not None:
        headers["Authorization"] = f"{scheme} {token}"
    async with (
        TestClient(TestServer(desk.admin().application())) as client,
        client.get(path, headers=headers) as response,
    ):
        return response.status, await response.text(), dict(response.headers)


async def test_health_tells_no_names_and_needs_no_login() -> None:
    for path in ("/health/live", "/health/ready"):
        status, _, headers = await asked(path, loopback=False)
        assert status == 200
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("readiness", "status", "word"),
    [(GOOD, 200, "ready"), (SHAKY, 200, "degraded"), (RED, 503, "unready")],
    ids=["ready", "degraded", "unready"],
)
async def test_readiness_is_red_only_when_something_cannot_be_used(
    readiness: Readiness, status: int, word: str
) -> None:
    answered, text, _ = await asked("/health/ready", readiness=readiness)

    assert answered == status
    assert f'"status": "{word}"' in text


@pytest.mark.parametrize(
    "host", ["ops.example", "OPS.example:9090", "localhost:1", "127.0.0.1:9090", "[::1]:9090", "::1"]
)
async def test_a_known_name_is_served(host: str) -> None:
    assert (await asked("/metrics", host=host))[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "ops.example.evil.example", "10.0.0.1:9090"])
@pytest.mark.parametrize("path", ["/metrics", "/health/ready"])
async def test_a_page_under_another_name_learns_nothing(path: str, host: str) -> None:
    status, text, _ = await asked(path, host=host)

    assert status == 421
    assert "metrics" not in text


async def test_on_the_loopback_metrics_need_no_login() -> None:
    assert (await asked("/metrics"))[:2] == (200, "metrics")


@pytest.mark.parametrize(
    ("token", "scheme", "status"),
    [
        (None, "Bearer", 401),
        ("another", "Bearer", 401),
        (TOKEN, "Basic", 401),
        (TOKEN, "Bearer", 200),
        (TOKEN, "bearer", 200),
    ],
    ids=["none", "another's", "another scheme", "good", "small letters"],
)
async def test_off_the_loopback_metrics_need_an_operator(token: str | None, scheme: str, status: int) -> None:
    answered, _, headers = await asked("/metrics", loopback=False, token=token, scheme=scheme)

    assert answered == status
    assert ("WWW-Authenticate" in headers) == (status == 401)


async def test_what_is_not_there_is_told_in_json() -> None:
    status, text, _ = await asked("/nothing")

    assert (status, text) == (404, '{"error": "Not Found"}')


def test_metrics_count_by_bounded_names_and_read_gauges_when_asked() -> None:
    metrics = Metrics()
    metrics.read(still(open_writes=2.0, grants_loaded=7.0, breakers={"airedale-box": 2.0}))
    metrics.observe("read", 404, "not-found", 0.2)
    metrics.alarm("collateral")
    metrics.reloaded("refused")

    text = metrics.text().decode()

    assert 'pkb_gateway_requests_total{code="not-found",route="read",status="404"} 1.0' in text
    assert 'pkb_gateway_alarms_total{event="collateral"} 1.0' in text
    assert 'pkb_gateway_grants_reloads_total{result="refused"} 1.0' in text
    assert "pkb_gateway_open_writes 2.0" in text
    assert 'pkb_gateway_breaker{upstream="airedale-box"} 2.0' in text
    assert "pkb_gateway_grants_loaded_timestamp_seconds 7.0" in text
