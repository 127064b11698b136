"""What the gauges say of a partition, and what they leave unsaid."""

from __future__ import annotations

from prometheus_client import REGISTRY

from processor.edges.metrics import PrometheusTransformMeter, Restores
from processor.sources.standing import SourceLag


def lag_records(partition: int) -> float | None:
    labels = {"role": "transform", "topic": "test.metrics", "partition": str(partition)}
    return REGISTRY.get_sample_value("processor_consumer_lag_records", labels)


def test_a_partition_whose_end_is_not_known_yet_has_no_lag_rather_than_0() -> None:
    meter = PrometheusTransformMeter(Restores())
    meter.lag([SourceLag("test.metrics", 0, 0, 0.0, known=False), SourceLag("test.metrics", 1, 7, 1.5)])
    assert (lag_records(0), lag_records(1)) == (None, 7.0)
    meter.lag([SourceLag("test.metrics", 0, 0, 0.0), SourceLag("test.metrics", 1, 0, 0.0, known=False)])
    assert (lag_records(0), lag_records(1)) == (0.0, None)
    meter.lag([])
    assert (lag_records(0), lag_records(1)) == (None, None)
