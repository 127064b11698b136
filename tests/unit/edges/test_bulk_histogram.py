"""BulkHistogram says what prometheus_client's own histogram says of the same observations."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from processor.edges.metrics import BulkHistogram

BOUNDS = (0.005, 0.1, 1, 2.5)
VALUES = st.lists(st.one_of(st.sampled_from(BOUNDS), st.floats(0.0, 10.0)), max_size=30)


@given(st.lists(st.tuples(st.sampled_from(["200", "503"]), VALUES), max_size=5))
def test_it_counts_as_the_one_observation_at_a_time_does(told: list[tuple[str, list[float]]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bulk = BulkHistogram("x_seconds", "Some time", ["status"], bounds=BOUNDS, registry=ours)
    single = Histogram("x_seconds", "Some time", ["status"], buckets=BOUNDS, registry=theirs)
    for status, values in told:
        bulk.observe(values, status)
        for value in values:
            single.labels(status).observe(value)
        single.labels(status)
    mine, its = _counts(ours), _counts(theirs)
    assert mine == its


def _counts(registry: CollectorRegistry) -> list[str]:
    """Without the sums, which differ by the order in which floats are added, and without when it began."""
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if "_sum" not in line and "_created" not in line)


def test_the_sum_is_there() -> None:
    registry = CollectorRegistry()
    bulk = BulkHistogram("x_seconds", "Some time", [], bounds=BOUNDS, registry=registry)
    bulk.observe([1.0, 2.0])
    bulk.observe([0.5])
    assert registry.get_sample_value("x_seconds_sum") == 3.5
