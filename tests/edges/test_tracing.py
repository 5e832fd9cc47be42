"""When traces are made, and what a caller's trace becomes in them."""

from collections.abc import Mapping

import pytest
from aiohttp import web
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from gateway.admin.tracing import Tracing
from gateway.app.tracing import is_wanted, told_to_both, traced
from gateway.flow.watching import Stage, unwatched

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
THEIRS, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, False),
    ],
)
def test_traces_are_made_where_the_environment_names_a_collector(environ: Mapping[str, str], wanted: bool) -> None:
    assert is_wanted(environ, installed=True) is wanted


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: only otlp and none"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL: only http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: only http/protobuf"),
    ],
)
def test_what_cannot_be_had_is_told(environ: Mapping[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        is_wanted({**ENDPOINT, **environ}, installed=True)


def test_a_library_that_is_missing_is_told_where_it_is_needed_and_only_there() -> None:
    assert is_wanted({}, installed=False) is False
    with pytest.raises(ValueError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT is set.*\[tracing\]"):
        is_wanted(ENDPOINT, installed=False)


def collecting() -> tuple[Tracing, InMemorySpanExporter]:
    provider, kept = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    return Tracing(provider), kept


@pytest.mark.parametrize(
    ("parents", "linked"),
    [
        ([], False),
        ([f"00-{THEIRS}-{PARENT}-01"], True),
        ([f" 00-{THEIRS}-{PARENT}-00 "], True),
        ([f"00-{THEIRS}-{PARENT}-01"] * 2, False),
        ([f"00-{THEIRS.upper()}-{PARENT}-01"], False),
        ([f"01-{THEIRS}-{PARENT}-01"], False),
        ([f"00-{'0' * 32}-{PARENT}-01"], False),
        ([f"00-{THEIRS}-{'0' * 16}-01"], False),
        ([f"00-{THEIRS}-{PARENT}-01-x"], False),
        (["Mrs Jones"], False),
    ],
)
def test_a_callers_trace_is_a_link_at_most(parents: list[str], linked: bool) -> None:
    tracing, kept = collecting()
    with tracing.request(parents):
        tracing.stage(Stage.READ, 0.5)
        told = tracing.tell("read", 503, {"code": "overloaded", "partner": None})

    stage, request = kept.get_finished_spans()
    assert [len(request.links), request.parent] == [int(linked), None]
    assert request.context is not None
    assert told == f"{request.context.trace_id:032x}" != THEIRS
    assert request.attributes == {"http.response.status_code": 503, "pkb_gateway.code": "overloaded"}
    assert request.status.status_code is StatusCode.ERROR
    assert stage.start_time is not None
    assert stage.end_time is not None
    assert abs(stage.end_time - stage.start_time - 500_000_000) < 1000
    assert stage.parent is not None
    assert stage.parent.span_id == request.context.span_id


def test_what_happens_outside_of_a_request_is_no_trace() -> None:
    tracing, kept = collecting()
    tracing.stage(Stage.READ, 0.5)
    assert tracing.tell("read", 200, {}) is None
    assert kept.get_finished_spans() == ()


def test_stages_are_told_to_metrics_and_to_traces() -> None:
    tracing, kept = collecting()
    heard: list[tuple[Stage, float]] = []
    both = told_to_both(lambda stage, seconds: heard.append((stage, seconds)), tracing)
    with tracing.request(()):
        both(Stage.DECIDE, 0.1)
    assert heard == [(Stage.DECIDE, 0.1)]
    assert [span.name for span in kept.get_finished_spans()] == ["decide", "request"]


def test_without_traces_nothing_stands_between() -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        raise NotImplementedError(request)

    assert traced(handle, None) is handle
    assert told_to_both(unwatched, None) is unwatched
