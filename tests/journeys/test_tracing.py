"""A gateway that is told to trace sends one trace for each request; its spans are the stages."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.journeys.collector import Collected, collector
from tests.journeys.partner import Client, until
from tests.journeys.processes import Json, Place, gateway_process

THEIRS, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(scope="module")
def spans() -> Iterator[Collected]:
    with collector() as collected:
        yield collected


@pytest.fixture(scope="module")
def tracing(place: Place, spans: Collected) -> Iterator[Place]:
    with gateway_process(place, "tracing", environment=spans.environment) as further:
        yield further


def attributes(span: Span) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def trace(spans: Collected, name: str, count: int) -> list[Span]:
    """The spans of the one trace whose request has a name, once there are so many."""

    async def found() -> list[Span]:
        [request] = [span for span in spans.spans if span.name == name] or [Span()]
        return [span for span in spans.spans if span.trace_id == request.trace_id]

    return await until(found, lambda some: len(some) >= count)


def lines(place: Place) -> list[Json]:
    text = (place.directory / "tracing.log").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


async def test_a_cancel_is_a_trace_of_its_own_with_a_span_for_each_stage(
    client: Client, tracing: Place, spans: Collected
) -> None:
    appointment = await client.fresh()
    headers = {"traceparent": f"00-{THEIRS}-{PARENT}-01", "tracestate": "vendor=theirs"}
    assert (await client.at(tracing).cancel(appointment, headers=headers)).status == 200

    found = await trace(spans, "cancel", 7)
    [request] = [span for span in found if span.name == "cancel"]
    stages = sorted((span for span in found if span is not request), key=lambda span: span.start_time_unix_nano)
    assert [span.name for span in stages] == ["authenticate", "read", "decide", "intent", "write", "outcome"]
    assert {span.parent_span_id for span in stages} == {request.span_id}
    for span in stages:
        assert request.start_time_unix_nano <= span.end_time_unix_nano <= request.end_time_unix_nano
        assert attributes(span) == {}
    assert request.kind == Span.SPAN_KIND_SERVER
    assert attributes(request) == {
        "http.response.status_code": 200,
        "pkb_gateway.partner": "swiftbook",
        "pkb_gateway.customer": "airedale",
        "pkb_gateway.operation": "cancel",
        "pkb_gateway.decision": "permit",
    }

    assert request.trace_id.hex() != THEIRS
    assert request.parent_span_id == b""
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in request.links] == [(THEIRS, PARENT)]
    assert b"vendor" not in b"".join(spans.bodies)
    [write] = await client.writes(appointment)
    assert {"traceparent", "tracestate", "baggage"}.isdisjoint(name.lower() for name in write["headers"])
    [line] = [line for line in lines(tracing) if line.get("route") == "cancel"]
    assert line["trace_id"] == request.trace_id.hex()


async def test_what_was_refused_says_so_and_nothing_of_what_was_asked(
    client: Client, tracing: Place, spans: Collected
) -> None:
    assert (await client.at(tracing).change("nobodys-appointment", customer="nobodys")).status == 403

    found = await trace(spans, "change", 2)
    [request] = [span for span in found if span.name == "change"]
    assert attributes(request) == {
        "http.response.status_code": 403,
        "pkb_gateway.partner": "swiftbook",
        "pkb_gateway.operation": "change",
        "pkb_gateway.decision": "refuse",
        "pkb_gateway.code": "no-grant",
    }
    assert b"nobodys" not in b"".join(spans.bodies)


def test_the_service_has_a_name(tracing: Place, spans: Collected) -> None:
    told = {(each.key, each.value.string_value) for each in spans.requests[0].resource_spans[0].resource.attributes}
    assert ("service.name", "pkb-gateway") in told


def test_a_gateway_that_is_to_trace_without_what_it_takes_says_what_to_do(place: Place, tmp_path: Path) -> None:
    without = "import sys; sys.modules['opentelemetry'] = None; from gateway.cli.main import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", without, "serve", "--config", str(place.told["config_file"])],
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 1
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed" in ran.stderr
    assert "pkb-gateway[tracing]" in ran.stderr
