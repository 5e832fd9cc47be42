"""Traces for OpenTelemetry: one span for a request, one below it for each of its stages.

A trace begins here. What a caller sends as `traceparent` becomes a link and nothing more: neither its trace id, nor its
wish to be sampled, nor its `tracestate` goes any further. Attributes are words of ours and names in the grants file.

The one module that needs OpenTelemetry, which need not be installed.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Self

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    format_trace_id,
    set_span_in_context,
)

from gateway.flow.watching import Stage

_PARENT: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")
_CURRENT: ContextVar[Span | None] = ContextVar("span", default=None)


class Tracing:
    """Makes the spans."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("pkb_gateway")

    @classmethod
    def over_http(cls, about: Mapping[str, str]) -> Self:
        """Send spans by OTLP over HTTP, as the environment says where and how; `about` tells of this service."""
        provider = TracerProvider(resource=Resource.create(dict(about)), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    @contextmanager
    def request(self, parents: Sequence[str]) -> Iterator[None]:
        """Trace what happens inside as one request; `parents` are the lines of its `traceparent`."""
        span = self._tracer.start_span("request", Context(), SpanKind.SERVER, links=_links(parents))
        token = _CURRENT.set(span)
        try:
            yield
        finally:
            _CURRENT.reset(token)
            span.end()

    def stage(self, stage: Stage, seconds: float) -> None:
        """Tell of a stage that has just ended; see `StageObserver`."""
        request = _CURRENT.get()
        if request is None:
            return
        ended = time.time_ns()
        below = set_span_in_context(request, Context())
        self._tracer.start_span(stage.value, below, start_time=ended - round(seconds * 1e9)).end(ended)

    def tell(self, route: str, status: int, words: Mapping[str, str | None]) -> str | None:
        """Say what the request of this context was and came to; gives the id of its trace, for the log."""
        span = _CURRENT.get()
        if span is None:
            return None
        span.update_name(route)
        span.set_attribute("http.response.status_code", status)
        span.set_attributes({f"pkb_gateway.{name}": word for name, word in words.items() if word})
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        return format_trace_id(span.get_span_context().trace_id)

    def close(self) -> None:
        """Send what is waiting, and stop. Blocking; where nobody takes it, for some seconds."""
        self._provider.shutdown()


def _links(parents: Sequence[str]) -> Sequence[Link]:
    match = _PARENT.fullmatch(parents[0].strip()) if len(parents) == 1 else None
    if match is None:
        return ()
    return (Link(SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=TraceFlags(0))),)
