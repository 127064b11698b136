"""A real cluster whose topics change under a running worker: it is said, and never taken for a pause."""

from __future__ import annotations

import time

import pytest

from processor.edges.kafka.admin import KafkaAdmin
from processor.edges.kafka.topology import KafkaTopology
from processor.errors import Fatal, Unusable
from tests.fakes.clock import FakeClock
from tests.support.topics import TopicSpace

TOPICS = ("orders.placed", "orders.refunded")
WAIT_S_MAX = 30.0


class Watched:
    """Two topics, and a topology that knows them as they were. Its clock is the test's, so that it asks at once."""

    def __init__(self, space: TopicSpace) -> None:
        space.create(*TOPICS, partitions=2)
        names = [space.name(topic) for topic in TOPICS]
        admin = KafkaAdmin({"bootstrap.servers": space.bootstrap_servers}, client_id="test")
        before = admin.describe(names)
        self.clock = FakeClock()
        self.topology = KafkaTopology(
            admin, {name: state for name in names if (state := before[name]) is not None}, self.clock
        )

    def look(self) -> None:
        """Asks, and waits until that is answered, several times over: what was asked first may be older."""
        deadline_s = time.monotonic() + WAIT_S_MAX
        for _ in range(5):
            self.clock.advance(60)
            self.topology.check()
            while self.topology._asked:
                assert time.monotonic() < deadline_s, "the cluster does not answer"
                time.sleep(0.02)
                self.topology.check()


def test_topics_that_stay_as_they_are_are_nothing_to_speak_of(topic_space: TopicSpace) -> None:
    Watched(topic_space).look()


def test_a_partition_count_that_changes_while_it_runs_ends_the_worker_and_names_the_topic(
    topic_space: TopicSpace,
) -> None:
    watched = Watched(topic_space)
    topic_space.grow("orders.refunded", 3)
    with pytest.raises(Unusable, match=r"orders\.refunded had 2 partitions when this worker started, now it has 3"):
        watched.look()


def test_a_topic_that_was_made_anew_ends_the_worker(topic_space: TopicSpace) -> None:
    watched = Watched(topic_space)
    name = topic_space.name("orders.placed")
    topic_space.admin.delete_topics([name])[name].result(timeout=30)
    deadline_s = time.monotonic() + WAIT_S_MAX
    while name in topic_space.admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    topic_space.create("orders.placed", partitions=2)
    with pytest.raises(Fatal, match="deleted and made anew"):
        watched.look()
