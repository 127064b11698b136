"""Spans, as a collector of OpenTelemetry's own protocol receives them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing

import httpx
import pytest

from processor.edges.http.exchange import ask
from processor.edges.http.request import RequestTemplate
from processor.edges.traces import Tracing
from processor.errors import Unusable
from processor.operate.check.check import check
from processor.sources.standing import SourceLag, TransactionOutcome, Written
from processor.sources.starts import Start
from processor.sources.survey import Weight
from processor.transform.plan import StateSize
from tests.fakes.transport import FakeTransport
from tests.support.otlp import Collector, collector

TRACE, SHOP = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
EVENTS = RequestTemplate("POST", httpx.URL("https://api.test:8443/v1/events"), [(b"Authorization", b"Bearer secret")])
CLIENT = 3


class Answers(FakeTransport):
    """Answers with this status, or raises; closed when it was told to be."""

    def __init__(self, told: int | Exception) -> None:
        self._status = told

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if isinstance(self._status, Exception):
            raise self._status
        return httpx.Response(self._status)


class Told:
    """A meter that keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def transaction(self, outcome: TransactionOutcome, duration_s: float) -> None:
        self.heard.append(outcome)

    def written(self, written: Written) -> None:
        self.heard.append(written)

    def lag(self, lags: list[SourceLag]) -> None:
        self.heard.append(lags)

    def state(self, sizes: list[StateSize]) -> None:
        self.heard.append(sizes)

    def misplaced(self, records: Mapping[str, int]) -> None:
        self.heard.append(records)

    def flooded(self) -> None:
        self.heard.append("flooded")

    def started(self, topic: str, partition: int, start: Start) -> None:
        self.heard.append(start)

    def throttled(self, seconds: float) -> None:
        self.heard.append(seconds)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collector() as it:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", it.url)
        yield it


def sent(told: int | Exception, *headers: tuple[bytes, bytes]) -> int:
    """The status."""
    with closing(Tracing("send", "1")) as traced:
        return asyncio.run(ask(traced.transport(Answers(told)), EVENTS, b"{}", headers)).status


def test_a_request_is_a_span_below_the_one_that_its_traceparent_names(spans: Collector) -> None:
    parent = (b"traceparent", f"00-{TRACE}-{SHOP}-01".encode())
    assert sent(201, parent, (b"Idempotency-Key", b'"events/orders.placed/0/7"')) == 201
    (span,) = spans.spans
    assert (span.name, span.kind, span.trace, span.parent) == ("POST /v1/events", CLIENT, TRACE, SHOP)
    assert span.attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 201,
        "processor.idempotency_key": "events/orders.placed/0/7",
        "server.address": "api.test",
        "server.port": 8443,
        "url.path": "/v1/events",
    }
    assert not span.failed
    assert span.service == "send"


def test_a_request_without_a_trace_begins_one(spans: Collector) -> None:
    with closing(Tracing("send", "1")) as traced:
        for headers in ((), ((b"traceparent", b"nonsense"),)):
            asyncio.run(ask(traced.transport(Answers(200)), EVENTS, b"{}", headers))
    assert [span.parent for span in spans.spans] == ["", ""]
    assert len({span.trace for span in spans.spans}) == 2


def test_whoever_began_a_trace_without_sampling_it_has_no_span_of_it(spans: Collector) -> None:
    sent(200, (b"traceparent", f"00-{TRACE}-{SHOP}-00".encode()))
    assert spans.spans == []


@pytest.mark.parametrize(("status", "failed"), [(202, False), (302, False), (422, True), (503, True)])
def test_a_refusal_is_a_failed_span(spans: Collector, status: int, failed: bool) -> None:
    assert sent(status) == status
    (span,) = spans.spans
    assert (span.failed, span.attributes["http.response.status_code"]) == (failed, status)


def test_no_answer_is_a_failed_span_that_names_its_reason_and_is_still_raised(spans: Collector) -> None:
    with pytest.raises(httpx.ReadTimeout):
        sent(httpx.ReadTimeout("late"))
    (span,) = spans.spans
    assert (span.failed, span.attributes["error.type"]) == (True, "ReadTimeout")


def test_a_request_that_is_given_up_ends_its_span(spans: Collector) -> None:
    class Silent(FakeTransport):
        async def answer(self, request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(60)
            raise AssertionError("it was given up")

    async def main() -> None:
        with closing(Tracing("send", "1")) as traced, pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(traced.transport(Silent()), EVENTS), 0.02)

    asyncio.run(main())
    (span,) = spans.spans
    assert (span.failed, span.attributes["error.type"]) == (True, "abandoned")


def test_no_span_holds_the_key(spans: Collector) -> None:
    sent(200)
    assert "secret" not in repr(spans.spans)


def test_closing_the_transport_closes_the_one_inside(spans: Collector) -> None:
    inner = Answers(200)
    asyncio.run(Tracing("send", "1").transport(inner).aclose())
    assert inner.closed


def test_a_transaction_is_a_span_of_its_length_and_the_meter_hears_all(spans: Collector) -> None:
    inner, written = Told(), Written()
    with closing(Tracing("transform", "1")) as traced:
        meter = traced.meter(inner)
        meter.transaction(TransactionOutcome.COMMITTED, 0.25)
        meter.transaction(TransactionOutcome.FENCED, 0.5)
        meter.written(written)
        meter.lag([])
        meter.state([])
        meter.flooded()
    assert inner.heard == [TransactionOutcome.COMMITTED, TransactionOutcome.FENCED, written, [], [], "flooded"]
    committed, fenced = spans.spans
    assert (committed.name, committed.failed, round(committed.seconds, 6)) == ("transaction", False, 0.25)
    assert (fenced.attributes, fenced.failed) == ({"processor.transaction.outcome": "fenced"}, True)
    assert committed.trace != fenced.trace


@pytest.mark.parametrize("variable", ["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"])
def test_the_environment_names_the_service(spans: Collector, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "shop-7" if variable == "OTEL_SERVICE_NAME" else "service.name=shop-7")
    sent(200)
    assert [span.service for span in spans.spans] == ["shop-7"]


def test_a_protocol_that_is_not_spoken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(Unusable) as refused:
        Tracing("send", "1")
    (told,) = refused.value.problems
    assert str(told) == "OTEL_EXPORTER_OTLP_PROTOCOL: grpc is not supported; take it out, or set http/protobuf"


WITHOUT = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Gone())
"""


def in_a_process_of_its_own(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "HAKUNA_API_KEY": "k", "PROCESSOR_METRICS_PORT": "0"}
    return subprocess.run(
        [sys.executable, "-c", program, "run", "--role", "send"],
        env=settings | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_check_names_what_traces_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")
    (found,) = [one for one in check({"PROCESSOR_TRACES": "otlp"}, (), try_key=False) if "OTEL" in one.subject]
    assert (found.subject, found.verdict, found.remedy) == (
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        Weight.PROBLEM,
        "take it out, or set http/protobuf",
    )


def test_asking_for_traces_without_the_extra_is_said_and_ends_with_78() -> None:
    done = in_a_process_of_its_own(WITHOUT + "from processor.cli import main; main()", PROCESSOR_TRACES="otlp")
    assert done.returncode == 78, done.stderr
    assert "pip install hakuna-processor[otel]" in done.stderr


def test_nothing_of_opentelemetry_is_imported_where_nobody_asks_for_it() -> None:
    program = (
        "import sys, processor.run.process, processor.cli.run; print([n for n in sys.modules if 'opentelemetry' in n])"
    )
    assert in_a_process_of_its_own(program).stdout.strip() == "[]"
