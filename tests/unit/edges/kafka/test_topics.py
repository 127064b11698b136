"""What stands under the names of topics, as a takeover and the looks in between tell it."""

from __future__ import annotations

from processor.edges.kafka.topics import KafkaTopics
from tests.fakes.broker import FakeBroker
from tests.fakes.topology import FakeAdmin


def test_a_look_that_is_older_than_what_a_takeover_saw_does_not_bring_the_topic_back_that_was_there_before() -> None:
    broker = FakeBroker()
    broker.create("outbox", "holds")
    topics = KafkaTopics(FakeAdmin(broker), ["outbox", "holds"])  # type: ignore[arg-type]  # what it asks of one
    before = topics.seen(["outbox", "holds"])
    assert topics.latest() == before  # and asks
    broker.make_again("holds")
    now = topics.seen(["holds"])
    assert now["holds"] != before["holds"]
    assert topics.latest() == {**before, **now}
    assert topics.latest() == {**before, **now}
