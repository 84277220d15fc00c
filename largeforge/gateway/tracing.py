"""OpenTelemetry traces: a span for each request, one below it for each server that was asked, and vLLM's below that.

Spans carry names, sizes and times, never content. They are sent by a thread of their own out of a bounded queue: a
collector that is slow or gone costs spans, never requests. Without an endpoint nothing of OpenTelemetry is imported,
and what clients send as trace context goes on to the servers as it came.
"""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from largeforge import __version__
from largeforge.errors import ServingError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

    from largeforge.gateway.access import Exchange
    from largeforge.gateway.backend import Replica
    from largeforge.gateway.kinds import Kind
    from largeforge.gateway.request import Request
    from largeforge.gateway.tokens import Usage
    from largeforge.recipe.schema import Gateway

HEADERS = (b"traceparent", b"tracestate")
"""W3C Trace Context."""
SERVICE = "largeforge-gateway"
"""Name of this service unless OTEL_SERVICE_NAME gives another."""
MOST_AT_ONCE = 128
"""Spans that are sent together: encoding more would hold up requests."""
FLUSH_S = 2.0
"""How long a gateway that ends waits for the collector to take the last spans."""

_OPERATIONS: dict[Kind, str] = {"chat": "chat", "completion": "text_completion", "embedding": "embeddings"}
"""Kinds of requests to names of the semantic conventions, which have none for the others."""


class Traces:
    """What records the traces of a gateway."""

    def __init__(self, provider: TracerProvider):
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("largeforge.gateway", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]], request_id: str) -> RequestTrace:
        """Return the trace of a request that has just come, as a part of its client's trace where there is one."""
        from opentelemetry.trace import SpanKind

        carrier = {name.decode(): value.decode("latin-1") for name, value in headers if name in HEADERS}
        span = self._tracer.start_span(
            f"{method} {path}",
            context=self._propagator.extract(carrier) if carrier else _nothing(),
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": method, "http.route": path, "url.path": path,
                "largeforge.request_id": request_id,
            },
        )  # fmt: skip
        return RequestTrace(self._tracer, span)

    async def close(self) -> None:
        """Send what is left, for a while."""
        closing = threading.Thread(target=self._provider.shutdown, name="close-traces", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, FLUSH_S)


class RequestTrace:
    """The span of one request."""

    __slots__ = ("_span", "_tracer", "trace_id")

    def __init__(self, tracer: Tracer, span: Span):
        self._tracer = tracer
        self._span = span
        self.trace_id = f"{span.get_span_context().trace_id:032x}"

    def ask(self, replica: Replica, request: Request, exchange: Exchange) -> Attempt:
        """Return the span of asking a server, the first time or once more, or in the shadow of another."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        if not self._span.is_recording():
            return Attempt(self._span, is_own=False)
        operation = _OPERATIONS.get(request.kind, request.kind)
        parts = urlsplit(replica.url)
        span = self._tracer.start_span(
            f"{operation} {replica.served_model}",
            context=set_span_in_context(self._span, _nothing()),
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": operation, "gen_ai.provider.name": "vllm",
                "gen_ai.request.model": replica.served_model, "server.address": parts.hostname or "",
                "server.port": parts.port or (443 if parts.scheme == "https" else 80),
                "largeforge.expert": replica.expert, "largeforge.model": replica.model,
                **({"http.request.resend_count": exchange.attempts - 1} if exchange.attempts > 1 else {}),
                **({"largeforge.shadow": True} if exchange.is_shadow else {}), **_parameters(request),
            },
        )  # fmt: skip
        return Attempt(span, is_own=True)

    def end(self, exchange: Exchange) -> None:
        """End the span with what became of the request."""
        span = self._span
        if not span.is_recording():
            return
        span.set_attributes(
            {
                "http.response.status_code": exchange.status, "largeforge.expert": exchange.expert,
                "largeforge.model": exchange.model, "largeforge.route": exchange.route,
                "largeforge.fallback": exchange.fallback, "largeforge.attempts": exchange.attempts,
            }
        )  # fmt: skip
        if exchange.first_token_at is not None:
            first_s = exchange.first_token_at - exchange.started
            span.set_attribute("gen_ai.response.time_to_first_chunk", first_s)
        _fail(span, exchange.error, is_ours=exchange.status >= 500)
        span.end()


class Attempt:
    """The span of asking one server; `head` is what it is told, as header lines."""

    __slots__ = ("_is_own", "_span", "head")

    def __init__(self, span: Span, *, is_own: bool):
        self._span = span
        self._is_own = is_own
        context = span.get_span_context()
        state = context.trace_state.to_header() if context.trace_state else ""
        flags = int(context.trace_flags)
        text = f"traceparent: 00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}\r\n"
        self.head = (text + (f"tracestate: {state}\r\n" if state else "")).encode("latin-1")

    def end(self, error: str = "", status: int = 0, usage: Usage | None = None) -> None:
        """End the span; `error` is why there was no answer, or not all of it."""
        if not self._is_own or not self._span.is_recording():
            return
        if status:
            self._span.set_attribute("http.response.status_code", status)
        if usage is not None:
            self._span.set_attribute("gen_ai.usage.input_tokens", usage.prompt)
            self._span.set_attribute("gen_ai.usage.output_tokens", usage.completion)
        _fail(self._span, error or (str(status) if status >= 400 else ""), is_ours=True)
        self._span.end()


def traces(settings: Gateway) -> Traces | None:
    """Return what records the traces that a recipe asks for, None where it asks for none.

    Raises ServingError when OpenTelemetry is not installed.
    """
    wanted = settings.tracing
    if not wanted.endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as error:
        raise ServingError(
            f"gateway.tracing.endpoint = {wanted.endpoint}: {error.name} is not installed. "
            "Install it with pip install 'largeforge[tracing]', or leave gateway.tracing.endpoint empty."
        ) from error
    told: dict[str, Any] = {"service.version": __version__, "service.instance.id": str(uuid.uuid4())}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        told["service.name"] = SERVICE
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(wanted.sample_ratio)),
        resource=Resource.create(told),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=wanted.traces_url)
    most = None if "OTEL_BSP_MAX_EXPORT_BATCH_SIZE" in os.environ else MOST_AT_ONCE
    provider.add_span_processor(BatchSpanProcessor(exporter, max_export_batch_size=most))
    return Traces(provider)


def passed_on(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the trace context of a client as header lines, as it came."""
    return b"".join(b"%b: %b\r\n" % (name, value) for name, value in headers if name in HEADERS)


def _nothing() -> Context:
    from opentelemetry.context import Context

    return Context()


def _parameters(request: Request) -> dict[str, Any]:
    """Return the numbers that an answer depends on."""
    payload = request.payload
    found: dict[str, Any] = {"gen_ai.request.stream": bool(payload.get("stream"))}
    given = payload.get("max_completion_tokens", payload.get("max_tokens"))
    for name, value in (
        ("max_tokens", given),
        ("temperature", payload.get("temperature")),
        ("top_p", payload.get("top_p")),
    ):
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53:
            found[f"gen_ai.request.{name}"] = value
    return found


def _fail(span: Span, error: str, *, is_ours: bool) -> None:
    """Note why there is no good answer; by the conventions what is the client's fault is no error of the server."""
    if not error:
        return
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", error)
    if is_ours:
        span.set_status(Status(StatusCode.ERROR))
