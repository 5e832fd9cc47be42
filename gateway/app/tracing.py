"""Traces, where the environment asks for them in OpenTelemetry's own words; otherwise nothing of it is even loaded."""

import asyncio
import importlib.util
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from aiohttp import web

from gateway import __version__
from gateway.flow.watching import Stage, StageObserver
from gateway.partner.http_edge import Handler

if TYPE_CHECKING:
    from gateway.admin.tracing import Tracing

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Either turns tracing on."""
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def is_wanted(environ: Mapping[str, str], *, installed: bool) -> bool:
    """Whether the environment asks for traces. Raises ValueError where it asks for what cannot be had."""
    named = next((name for name in ENDPOINTS if environ.get(name)), None)
    exporter = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if named is None or exporter == "none" or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if exporter != "otlp":
        raise ValueError("OTEL_TRACES_EXPORTER: only otlp and none are known here")
    for name in PROTOCOLS:
        if environ.get(name) not in {None, "", "http/protobuf"}:
            raise ValueError(f"{name}: only http/protobuf is known here")
    if not installed:
        raise ValueError(
            f"{named} is set, but OpenTelemetry is not installed; install pkb-gateway[tracing],"
            " or set OTEL_SDK_DISABLED=true"
        )
    return True


async def open_tracing(environ: Mapping[str, str], stack: AsyncExitStack) -> "Tracing | None":
    """Begin to trace, where that is asked for. Raises ValueError."""
    if not is_wanted(environ, installed=_is_installed()):
        return None
    from gateway.admin.tracing import Tracing  # noqa: PLC0415 - what it imports is installed only where it is wanted

    about = {"service.version": __version__}
    if not environ.get("OTEL_SERVICE_NAME") and "service.name=" not in environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        about["service.name"] = "pkb-gateway"
    tracing = Tracing.over_http(about)
    stack.push_async_callback(asyncio.to_thread, tracing.close)
    return tracing


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def traced(handle: Handler, tracing: "Tracing | None") -> Handler:
    """Give a handler whose requests are traced, or the same where none are."""
    if tracing is None:
        return handle

    async def handle_traced(request: web.BaseRequest) -> web.StreamResponse:
        with tracing.request(request.headers.getall("traceparent", ())):
            return await handle(request)

    return handle_traced


def told_to_both(metrics: StageObserver, tracing: "Tracing | None") -> StageObserver:
    """Give one observer of stages for metrics and traces."""
    if tracing is None:
        return metrics

    def tell(stage: Stage, seconds: float) -> None:
        metrics(stage, seconds)
        tracing.stage(stage, seconds)

    return tell
