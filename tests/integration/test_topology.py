"""A real cluster whose topics change under a running worker: it is said, and never taken for a pause."""

from __future__ import annotations

import time

import pytest

from processor.edges.kafka.admin import KafkaAdmin
from processor.edges.kafka.topics import WatchedTopics
from processor.errors import Unusable
from tests.fakes.clock import FakeClock
from tests.support.topics import TopicSpace

TOPICS = ("orders.placed", "changelog", "outbox")
WAIT_S_MAX = 30.0


class Watched:
    """Two topics, and a topology that knows them as they were. Its clock is the test's, so that it asks at once."""

    def __init__(self, space: TopicSpace) -> None:
        space.create("orders.placed", "outbox", partitions=2)
        space.create("changelog", partitions=2, config={"cleanup.policy": "compact"})
        names = [space.name(topic) for topic in TOPICS]
        self.admin = admin = KafkaAdmin({"bootstrap.servers": space.bootstrap_servers}, client_id="test")
        before = admin.describe(names)
        self.clock = FakeClock()
        self.topology = WatchedTopics(
            admin,
            {name: state for name in names if (state := before[name]) is not None},
            self.clock,
            sources=[space.name("orders.placed")],
            changelog=space.name("changelog"),
        )

    def look(self) -> None:
        """Asks, and waits until that is answered, several times over: what was asked first may be older."""
        deadline_s = time.monotonic() + WAIT_S_MAX
        for _ in range(5):
            self.clock.advance(60)
            self.topology.check()
            while self.topology._looks.asked or self.topology._settings.asked:
                assert time.monotonic() < deadline_s, "the cluster does not answer"
                time.sleep(0.02)
                self.topology.check()


def test_topics_that_stay_as_they_are_are_nothing_to_speak_of(topic_space: TopicSpace) -> None:
    watched = Watched(topic_space)
    watched.look()
    assert watched.topology.complaints == ()


def test_a_source_with_other_partitions_ends_the_worker_and_names_the_remedy(topic_space: TopicSpace) -> None:
    watched = Watched(topic_space)
    topic_space.grow("orders.placed", 3)
    with pytest.raises(Unusable, match=r"orders\.placed: .*made with 2 partitions.*have 3 now.*topics grow"):
        watched.look()


def test_an_outbox_with_more_partitions_a_policy_and_a_size_are_seen_and_said_and_it_goes_on(
    topic_space: TopicSpace,
) -> None:
    watched = Watched(topic_space)
    topic_space.grow("outbox", 3)
    admin = watched.admin
    admin.configure(topic_space.name("changelog"), {"cleanup.policy": "delete"})
    admin.configure(topic_space.name("outbox"), {"max.message.bytes": "30000"})
    watched.look()
    grown, policy = sorted(watched.topology.complaints, key=lambda text: "policy" in text)
    assert "outbox has 3 partitions and the sources have 2: `hakuna-processor topics grow --partitions 3`" in grown
    assert "cleanup.policy=delete" in policy
    assert watched.topology.limits[topic_space.name("outbox")] == 30_000


def test_a_source_that_was_made_again_has_another_identity_and_a_changelog_ends_the_worker(
    topic_space: TopicSpace,
) -> None:
    watched = Watched(topic_space)
    before = dict(watched.topology.identities)
    topic_space.make_again("orders.placed", partitions=2)
    watched.look()
    assert watched.topology.identities.keys() == before.keys()
    assert watched.topology.identities != before
    topic_space.make_again("changelog", partitions=2, config={"cleanup.policy": "compact"})
    with pytest.raises(Unusable, match="changelog was deleted and made again"):
        watched.look()
