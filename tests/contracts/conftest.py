"""Which contract runs on what: a suite's fixture is parametrised with the fake and the real part."""

import random
from collections.abc import Iterator

import pytest

from tests.contracts.clusters import Cluster, FakeCluster, RealCluster


def pytest_itemcollected(item: pytest.Item) -> None:
    """A test that runs on a real part by its parameter asks for it, as one does that names it: the part is started
    with the others, and skipped or failed where it cannot be had (tests/conftest.py)."""
    if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
        on_real_kafka = "topic_space" in item.callspec.params.values()
        item.fixturenames = [*item.fixturenames, *(["kafka", "topic_space"] if on_real_kafka else [])]


@pytest.fixture(params=["fake", "fake by chance", "topic_space"], ids=["fake", "chance", "kafka"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    if request.param != "topic_space":
        yield FakeCluster(random.Random(1) if request.param == "fake by chance" else None)
        return
    real = RealCluster(request.getfixturevalue("topic_space"))
    yield real
    real.close()
