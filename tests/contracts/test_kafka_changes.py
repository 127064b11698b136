"""What the stages may rely on when operators and retention change topics, on the fake broker and on a real one."""

from __future__ import annotations

import pytest

from processor.errors import StateCorrupt
from processor.interfaces import Committed
from processor.records import NewRecord, Position, TopicPartition
from tests.contracts.clusters import (
    CLASSIC,
    COOPERATIVE,
    NEW_PROTOCOL,
    WAIT_S_MAX,
    Cluster,
    Reading,
    joined,
    made,
    wait_until,
    write,
)

SEEN_S_MAX = 60.0
"""A client of the classic protocol looks at its topics every 30 s."""


def test_a_topic_made_again_stands_in_another_place_and_one_that_has_grown_does_not(cluster: Cluster) -> None:
    made_again, grown = cluster.name("made-again"), cluster.name("grown")
    cluster.create(made_again, grown, partitions=2)
    topics = cluster.topics(made_again, grown)
    before = topics.seen([made_again, grown])
    assert {name: one.partitions for name, one in before.items()} == {made_again: 2, grown: 2}
    cluster.make_again(made_again, 1)
    cluster.grow(grown, 3)
    wait_until(cluster, lambda: topics.seen([grown])[grown].partitions == 3)
    now = topics.seen([made_again, grown, cluster.name("absent")])
    assert {name: one.partitions for name, one in now.items()} == {made_again: 1, grown: 3}
    assert now[grown].place == before[grown].place
    assert now[made_again].place != before[made_again].place
    wait_until(cluster, lambda: topics.latest() == now)
    cluster.make_again(made_again, 1)
    wait_until(
        cluster, lambda: topics.latest()[made_again].place not in (before[made_again].place, now[made_again].place)
    )


@pytest.mark.parametrize("protocol", [CLASSIC, COOPERATIVE])
def test_a_position_beyond_a_topic_made_again_is_told_and_a_seek_finds_the_way(cluster: Cluster, protocol: str) -> None:
    topic = made(cluster)
    where = TopicPartition(topic, 0)
    write(cluster, topic, 0, b"1", b"2", b"3")
    consumer, _, reading = joined(cluster, [topic], protocol=protocol, resets=False, starts={where: 0})
    reading.until(lambda: len(reading.records) == 3)
    cluster.make_again(topic, 1)
    write(cluster, topic, 0, b"new")
    reading.until(lambda: where in reading.astray)
    reading.for_s(1.0)
    assert len(reading.records) == 3, "nothing comes before the seek"
    consumer.seek([Position(topic, 0, 0)])
    reading.until(lambda: len(reading.records) == 4)
    assert reading.values[-1] == b"new"
    assert where not in reading.astray


@pytest.mark.parametrize("protocol", [CLASSIC, COOPERATIVE, NEW_PROTOCOL])
def test_a_position_that_retention_has_overtaken_is_told_with_where_it_was(cluster: Cluster, protocol: str) -> None:
    topic = made(cluster)
    where = TopicPartition(topic, 0)
    write(cluster, topic, 0, b"1", b"2", b"3", b"4")
    cluster.delete_before(topic, 0, 3)
    _, _, reading = joined(cluster, [topic], protocol=protocol, starts={where: 1})
    reading.reads(b"4")
    assert reading.resets == {where: 1}
    consumer, _, reading = joined(cluster, [topic], group="other", protocol=protocol, resets=False, starts={where: 1})
    reading.until(lambda: where in reading.astray)
    assert reading.records == []
    consumer.seek([Position(topic, 0, 3)])
    reading.reads(b"4")
    assert reading.resets == {}


def test_a_group_has_no_offsets_in_a_topic_made_again(cluster: Cluster) -> None:
    topic = made(cluster)
    where = TopicPartition(topic, 0)
    write(cluster, topic, 0, b"1", b"2")
    consumer, _, _ = joined(cluster, [topic])
    consumer.commit({where: Committed(2, "as it was")})
    consumer.close()
    cluster.make_again(topic, 1)
    wait_until(cluster, lambda: cluster.committed_so_far(cluster.name("g"), [where]) == {where: Committed(None, "")})


def test_a_reader_beyond_the_end_of_a_topic_made_again_names_it_and_one_at_its_beginning_waits(
    cluster: Cluster,
) -> None:
    """So that only the topic's place tells whether an end that is waited for will ever come."""
    topic = made(cluster, "holds", partitions=2)
    write(cluster, topic, 0, b"1", b"2")
    reader = cluster.reader()
    reader.assign([Position(topic, 0, 0)])
    reading = Reading(cluster, reader.poll)
    reading.until(lambda: len(reading.records) == 2)
    cluster.make_again(topic, 2)
    with pytest.raises(StateCorrupt) as corrupt:
        reading.for_s(WAIT_S_MAX)
    assert corrupt.value.partition == TopicPartition(topic, 0)
    reader.assign([Position(topic, 0, 0), Position(topic, 1, 0)])
    reading.for_s(2.0)
    assert (reader.position(TopicPartition(topic, 0)), reader.position(TopicPartition(topic, 1))) == (0, 0)


def test_what_is_written_after_a_topic_was_made_again_stands_in_the_new_one(cluster: Cluster) -> None:
    topic = made(cluster, "out")
    producer = cluster.producer()
    answers: list[tuple[str | None, int]] = []

    def produced(value: bytes) -> None:
        record = NewRecord(topic, 0, b"k", value, [])
        assert producer.produce(record, lambda error, offset: answers.append((error, offset)))
        count = len(answers)
        wait_until(cluster, lambda: len(answers) > count, producer.poll)

    produced(b"1")
    produced(b"2")
    cluster.make_again(topic, 1)
    produced(b"3")
    assert answers == [(None, 0), (None, 1), (None, 0)]
    reader = cluster.reader()
    reader.assign([Position(topic, 0, 0)])
    reading = Reading(cluster, reader.poll)
    reading.reads(b"3")


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [CLASSIC, COOPERATIVE, NEW_PROTOCOL])
def test_the_new_partitions_of_a_topic_come_to_the_group_with_all_that_stands_in_them(
    cluster: Cluster, protocol: str
) -> None:
    topic = made(cluster)
    _, movements, reading = joined(cluster, [topic], protocol=protocol)
    cluster.grow(topic, 3)
    write(cluster, topic, 2, b"new")
    wanted = {TopicPartition(topic, number) for number in range(3)}
    wait_until(cluster, lambda: movements.owned == wanted, reading.once, seconds_max=SEEN_S_MAX)
    reading.reads(b"new")
