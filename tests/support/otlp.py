"""A collector of spans: OpenTelemetry's protocol over HTTP, read by its own protobuf; keeps what it is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.small_server import Quiet, serving


@dataclass(frozen=True)
class Received:
    """One span. `parent` is the ID of the span above it, "" where there is none; `kind` by OTLP's number."""

    service: str
    name: str
    trace: str
    parent: str
    kind: int
    failed: bool
    seconds: float
    attributes: dict[str, Any]


class Collector:
    """Mutable: `_spans`, under `_lock`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[Received] = []
        self.url = ""

    @property
    def spans(self) -> list[Received]:
        with self._lock:
            return list(self._spans)

    def take(self, body: bytes) -> None:
        told = ExportTraceServiceRequest.FromString(body)
        found = [
            Received(
                service=_values(group.resource.attributes)["service.name"],
                name=span.name,
                trace=span.trace_id.hex(),
                parent=span.parent_span_id.hex(),
                kind=span.kind,
                failed=span.status.code == 2,
                seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                attributes=_values(span.attributes),
            )
            for group in told.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._spans += found


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def collector() -> Iterator[Collector]:
    """On a free loopback port; `url` is what OTEL_EXPORTER_OTLP_ENDPOINT takes."""
    it = Collector()

    class Take(Quiet):
        def do_POST(self) -> None:  # noqa: N802  # the base class looks for this name
            body = self.received()
            if self.path == "/v1/traces":
                it.take(body)
            self.answer(200 if self.path == "/v1/traces" else 404, "application/x-protobuf", b"")

    with serving(Take) as it.url:
        yield it
