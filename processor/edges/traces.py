"""Traces: OpenTelemetry spans over OTLP, for an installation that asks for them (`PROCESSOR_TRACES=otlp`).

    shop's span ──traceparent──► orders.* ──► outbox ──► request to Hakuna       the header goes all the way, always
                     │                                        ▲
                     └── parent of ───────────────► span "POST /events"          one a request (attempt), here
                                                    span "transaction"           one a transaction of transform, here

CPU a request (over a transport that does nothing, the exporting thread included): off 0, sampled out by the service
that began the trace 36 µs, on 200 to 230.

Owned by the composition root, which wraps what it builds: a transport, a meter. While traces are off, nothing of this
is on any path, and nothing of OpenTelemetry is imported; it comes with the extra `otel`.

OpenTelemetry's own environment variables decide what is exported, where, when and how much: `OTEL_EXPORTER_OTLP_*`,
`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_*`. A collector that is down costs
spans, never records: spans are dropped when the queue (2,048) is full.

Not chosen: a span a record in transform (12,000 a second, for 10 µs of work each; the trace of an order shows the gap
between the shop and the request anyway); our own span's ID in the request's `traceparent` (it would change with each
attempt, and an attempt must be the same request).
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from processor.edges.http.exchange import Exchange, Receiver, Transport
from processor.edges.http.request import RawHeaders, RequestTemplate
from processor.errors import Problem, Unusable
from processor.sources.standing import TransactionOutcome
from processor.transform.plan import TransformMeter

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

_PROTOCOL: Final = "http/protobuf"
_PROTOCOL_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_FLUSH_S_MAX: Final = 2.0
"""The longest time that a silent collector delays the end of a process."""


def traces_problem() -> Problem | None:
    """Returns why spans cannot be exported. Returns None if they can."""
    for name in _PROTOCOL_VARIABLES:
        wanted = os.environ.get(name, _PROTOCOL)
        if wanted != _PROTOCOL:
            return Problem(name, f"{wanted} is not supported", f"take it out, or set {_PROTOCOL}")
    for module in ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
        try:
            found = find_spec(module)
        except ModuleNotFoundError:  # a parent of it is missing
            found = None
        if found is None:
            remedy = "`pip install hakuna-processor[otel]`, or build the image with `--build-arg LOCK=otel`"
            return Problem("PROCESSOR_TRACES", "otlp needs OpenTelemetry, which is not installed", remedy)
    return None


class Tracing:
    """One process's spans and their export. Raises `Unusable` if that is not possible. Mutable: `_names`, by template,
    the name and attributes of its spans."""

    def __init__(self, service: str, version: str) -> None:
        wrong = traces_problem()
        if wrong is not None:
            raise Unusable([wrong])
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind

        attributes = {"service.version": version}
        # A name that is given here would win over the environment.
        if "OTEL_SERVICE_NAME" not in os.environ and "service.name=" not in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        ):
            attributes["service.name"] = service
        self._provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("hakuna-processor", version)
        self._client = SpanKind.CLIENT
        self._names: WeakKeyDictionary[RequestTemplate, tuple[str, Mapping[str, str | int]]] = WeakKeyDictionary()

    def transport(self, inner: Transport) -> Transport:
        """Returns the same transport, with a span a request."""
        return _TracedTransport(inner, self)

    def meter(self, inner: TransformMeter) -> TransformMeter:
        """Returns the same meter, with a span a transaction."""
        return _TracedMeter(inner, self)

    def close(self) -> None:
        """Exports the remaining spans, for `_FLUSH_S_MAX` at most."""
        flush = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        flush.start()
        flush.join(_FLUSH_S_MAX)

    def request(self, template: RequestTemplate, headers: RawHeaders) -> Span:
        """Starts the span of a request, below the span in its `traceparent`."""
        own = {name.lower(): value for name, value in headers}
        name, attributes = self._names.get(template) or self._name(template)
        if (key := own.get(b"idempotency-key")) is not None:
            attributes = {**attributes, "processor.idempotency_key": key.decode("latin-1").strip('"')}
        parent = self._below(own.get(b"traceparent", b""))
        return self._tracer.start_span(name, parent, self._client, attributes)

    def _name(self, template: RequestTemplate) -> tuple[str, Mapping[str, str | int]]:
        """Returns a span's name and attributes. Made once a template, because reading a URL costs more than the
        rest."""
        url = template.url
        attributes: dict[str, str | int] = {
            "http.request.method": template.method,
            "server.address": url.host,
            "url.path": url.path,
        }
        if url.port is not None:
            attributes["server.port"] = url.port
        made = self._names[template] = f"{template.method} {url.path}", attributes
        return made

    def _below(self, traceparent: bytes) -> Context:
        """Returns a context whose current span is that of a `traceparent`; an empty context without a valid one."""
        from opentelemetry.context import Context
        from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

        named = _TRACEPARENT.match(traceparent)
        if named is None:
            return Context()
        trace, span, flags = (int(part, 16) for part in named.groups())
        return set_span_in_context(NonRecordingSpan(SpanContext(trace, span, True, TraceFlags(flags))), Context())

    def transaction(self, outcome: TransactionOutcome, duration_s: float) -> None:
        """Records a transaction that has just ended."""
        from opentelemetry.context import Context
        from opentelemetry.trace import Status, StatusCode

        end_ns = time.time_ns()
        span = self._tracer.start_span(
            "transaction",
            context=Context(),
            attributes={"processor.transaction.outcome": outcome.value},
            start_time=end_ns - round(duration_s * 1e9),
        )
        if outcome is not TransactionOutcome.COMMITTED:
            span.set_status(Status(StatusCode.ERROR, outcome.value))
        span.end(end_ns)


class _TracedTransport:
    """Another transport, with a span a request: from before its first byte to its whole answer or its failure."""

    def __init__(self, inner: Transport, tracing: Tracing) -> None:
        self._inner = inner
        self._tracing = tracing
        self.fields = inner.fields

    def exchange(self, template: RequestTemplate, content: bytes, headers: RawHeaders, receiver: Receiver) -> Exchange:
        traced = _Traced(self._tracing.request(template, headers), receiver)
        try:
            traced.exchange = self._inner.exchange(template, content, headers, traced)
        except Exception as error:
            traced.end(error)
            raise
        return traced

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Traced:
    """One request under way, and the receiver of its answer. Mutable: `exchange`, the request of the inner
    transport."""

    def __init__(self, span: Span, receiver: Receiver) -> None:
        self._span = span
        self._receiver = receiver
        self.exchange: Exchange | None = None

    def answered(self, status: int, head: Any, body: bytes, truncated: bool) -> None:
        self._span.set_attribute("http.response.status_code", status)
        self._ended(str(status) if status >= 400 else None)
        self._receiver.answered(status, head, body, truncated)

    def failed(self, error: Exception) -> None:
        self.end(error)
        self._receiver.failed(error)

    def abandon(self, receiver: Receiver) -> None:
        assert self.exchange is not None, "abandoned before it began"
        self.exchange.abandon(self)
        self._ended("abandoned")

    def end(self, error: Exception) -> None:
        self._ended(type(error).__name__)

    def _ended(self, fault: str | None) -> None:
        from opentelemetry.trace import Status, StatusCode

        if fault is not None:
            self._span.set_attribute("error.type", fault)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class _TracedMeter:
    """Another meter, with a span a transaction."""

    def __init__(self, inner: TransformMeter, tracing: Tracing) -> None:
        self._inner = inner
        self._tracing = tracing
        self.written, self.lag, self.state, self.misplaced = inner.written, inner.lag, inner.state, inner.misplaced
        self.flooded, self.started, self.throttled = inner.flooded, inner.started, inner.throttled

    def transaction(self, outcome: TransactionOutcome, duration_s: float) -> None:
        self._inner.transaction(outcome, duration_s)
        self._tracing.transaction(outcome, duration_s)
