"""What the demo reads from its workers' metrics."""

from __future__ import annotations

import math

import pytest

from processor.sandbox.demo.watch import Scraper, parsed, quantile
from tests.support.children import free_ports

TRANSFORM = """\
# TYPE processor_records counter
processor_records_total{role="transform",topic="orders.placed",outcome="transformed"} 10.0
processor_records_total{role="transform",topic="orders.placed",outcome="dead_lettered"} 2.0
# TYPE processor_consumer_lag_seconds gauge
processor_consumer_lag_seconds{role="transform",topic="orders.placed",partition="0"} 0.5
processor_consumer_lag_seconds{role="transform",topic="orders.placed",partition="1"} 1.5
"""
SEND = """\
# TYPE processor_records counter
processor_records_total{role="send",topic="hakuna.outbox",outcome="delivered"} 7.0
# TYPE processor_requests counter
processor_requests_total{destination="hakuna",status="201"} 7.0
processor_requests_total{destination="hakuna",status="503"} 1.0
processor_requests_total{destination="hako",status="200"} 3.0
# TYPE processor_delivery_latency_seconds histogram
processor_delivery_latency_seconds_bucket{destination="hakuna",le="0.1"} 50.0
processor_delivery_latency_seconds_bucket{destination="hakuna",le="0.5"} 90.0
processor_delivery_latency_seconds_bucket{destination="hakuna",le="+Inf"} 100.0
processor_delivery_latency_seconds_sum{destination="hakuna"} 30.0
processor_delivery_latency_seconds_count{destination="hakuna"} 100.0
"""


def test_what_several_workers_say_is_added_up() -> None:
    sight = parsed([TRANSFORM, SEND], 1.0)
    assert sight.sum("processor_records_total") == 19
    assert sight.sum("processor_records_total", role="transform") == 12
    assert sight.most("processor_consumer_lag_seconds", role="transform") == 1.5
    assert sight.by("processor_records_total", "outcome") == {"dead_lettered": 2, "delivered": 7, "transformed": 10}
    assert sight.by("processor_retries_total", "reason") == {}
    assert sight.quantile("processor_delivery_latency_seconds", 0.5) == pytest.approx(0.1)
    assert sight.quantile("processor_delivery_latency_seconds", 0.99) == 0.5
    assert sight.quantile("processor_delivery_latency_seconds", 0.99, destination="hakuna") == 0.5
    assert math.isnan(sight.quantile("processor_delivery_latency_seconds", 0.99, destination="hako"))


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.75, 1.5), (1.0, 2.0)])
def test_a_quantile_is_linear_within_its_bucket(share: float, expected: float) -> None:
    assert quantile([(1.0, 50), (2.0, 100), (math.inf, 100)], share) == pytest.approx(expected)


def test_a_quantile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(quantile([], 0.5))
    assert math.isnan(quantile([(1.0, 0), (math.inf, 0)], 0.5))


def test_a_worker_that_does_not_answer_is_not_ready_and_says_nothing() -> None:
    (port,) = free_ports(1)
    scraper = Scraper({"send": port}, lambda: 1.0)
    assert scraper.unready() == ["send: no answer yet"]
    assert scraper.sight().samples == {}
