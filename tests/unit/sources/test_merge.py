"""Five topics become one sequence: in the order of timestamps, however they were fetched."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.records import Record, TopicPartition
from processor.sources import merge
from processor.sources.merge import Merge

TOPICS = ("placed", "fulfilled", "cancelled")
NO_END: dict[TopicPartition, int] = {}


def record(topic: str, offset: int, timestamp_ms: int, partition: int = 0, size: int = 1) -> Record:
    return Record(topic, partition, offset, timestamp_ms, b"k", b"v" * size, [])


def sources(partition: int = 0) -> list[TopicPartition]:
    return [TopicPartition(topic, partition) for topic in TOPICS]


def merging(*partitions: int, wait_s: float = 30.0) -> Merge:
    made = Merge(TOPICS, wait_s)
    for partition in partitions or (0,):
        made.assign(sources(partition))
    return made


def together(*partitions: tuple[str, int]) -> Merge:
    """All of them in one sequence."""
    made = Merge(TOPICS, 30.0, together=True)
    made.assign([TopicPartition(*where) for where in partitions])
    return made


def ends(*topics: str, partition: int = 0, at: int = 0) -> dict[TopicPartition, int]:
    return {TopicPartition(topic, partition): at for topic in topics}


def taken(made: Merge, records_max: int = 1000, now_s: float = 0.0, number: int = 0) -> list[tuple[str, int]]:
    return [(one.topic, one.offset) for one in made.take(number, records_max, now_s)]


def test_the_oldest_record_of_all_topics_is_next() -> None:
    made = merging()
    made.offer([record("placed", 0, 10), record("placed", 1, 30), record("fulfilled", 0, 20)], ends(*TOPICS, at=2))
    assert taken(made) == [("placed", 0), ("fulfilled", 0), ("placed", 1)]


def test_equal_timestamps_go_in_the_order_of_the_topics() -> None:
    made = merging()
    made.offer([record(topic, 0, 5) for topic in reversed(TOPICS)], ends(*TOPICS, at=1))
    assert [topic for topic, _ in taken(made)] == list(TOPICS)


def test_stamps_in_seconds_count_as_those_seconds() -> None:
    """As milliseconds they lie in 1970: 150 events would all come before the order that they wait for."""
    made = merging()
    made.offer(
        [
            record("placed", 0, 1_790_000_000_500),
            *(record("fulfilled", offset, 1_790_000_000 + offset) for offset in range(3)),
            record("cancelled", 0, 1_790_000_001_500_000),
        ],
        ends(*TOPICS, at=1),
    )
    assert taken(made) == [("fulfilled", 0), ("placed", 0), ("fulfilled", 1), ("cancelled", 0), ("fulfilled", 2)]


def test_a_topic_that_has_more_at_the_broker_is_waited_for() -> None:
    made = merging()
    made.offer([record("fulfilled", 0, 20)], ends("cancelled"))
    assert taken(made, now_s=1.0) == []
    assert made.lagging(0) == ([TopicPartition("placed", 0)], 1.0)
    made.offer([record("placed", 0, 10)], ends("placed", at=1))
    made.offer([], ends("fulfilled", at=1))
    assert taken(made) == [("placed", 0), ("fulfilled", 0)]
    assert made.lagging(0) == ([], 0.0)


def test_what_comes_after_a_run_waits_for_the_topic_that_ran_dry() -> None:
    made = merging()
    made.offer([record("placed", 0, 10), record("fulfilled", 0, 20)], ends("cancelled", "fulfilled"))
    assert taken(made) == [("placed", 0)]
    made.offer([record("placed", 1, 15)], ends("placed", at=2))
    assert taken(made) == [("placed", 1), ("fulfilled", 0)]


def test_the_wait_is_bounded_and_said() -> None:
    made = merging(wait_s=30.0)
    made.offer([record("fulfilled", 0, 20), record("fulfilled", 1, 21)], ends("cancelled"))
    assert taken(made, now_s=100.0) == []
    assert taken(made, now_s=129.9) == []
    assert not made.given_up
    assert taken(made, 1, now_s=130.0) == [("fulfilled", 0)]
    assert made.given_up == {0}
    made.offer([record("placed", 0, 30)], NO_END)
    assert taken(made, now_s=131.0) == [("fulfilled", 1)]
    assert taken(made, now_s=131.0) == []
    made.offer([record("fulfilled", 2, 40)], ends("placed", at=1))
    assert taken(made, now_s=132.0) == [("placed", 0), ("fulfilled", 2)]
    made.offer([], ends(*TOPICS, at=3))
    assert taken(made, now_s=133.0) == []
    assert not made.given_up


def test_a_record_takes_back_the_word_that_its_topic_is_at_its_end() -> None:
    made = merging()
    made.offer([], ends(*TOPICS))
    made.offer([record("placed", 0, 1)], NO_END)
    assert taken(made) == [("placed", 0)]
    made.offer([record("fulfilled", 0, 2)], ends("fulfilled", "cancelled", at=1))
    assert taken(made) == [], "placed has brought a record since it was at its end"


def test_records_are_put_back_in_the_order_in_which_they_were_taken() -> None:
    made = merging()
    made.offer([record("placed", 0, 1), record("placed", 1, 3), record("fulfilled", 0, 2)], ends(*TOPICS, at=2))
    records = made.take(0, 1000, 0.0)
    made.put_back(records[1:])
    made.put_back(records[:1])
    assert made.take(0, 1000, 0.0) == records


def test_what_was_buffered_before_an_assignment_is_forgotten() -> None:
    made = merging(0, 1)
    made.offer([record("placed", 0, 1), record("placed", 0, 1, partition=1)], ends(*TOPICS, at=1))
    made.assign(sources(0))
    made.revoke([1])
    made.offer([record("placed", 7, 1, partition=1)], NO_END)
    assert made.numbers == (0,)
    made.offer([record("placed", 0, 1)], ends(*TOPICS, at=1))
    assert taken(made) == [("placed", 0)]


def test_a_partition_number_comes_with_all_of_its_topics_or_not_at_all() -> None:
    with pytest.raises(AssertionError, match="without all of its topics"):
        Merge(TOPICS, 1.0).assign(sources()[:2])


def test_a_record_never_comes_twice_and_a_log_that_goes_back_is_named_until_it_is_begun_anew() -> None:
    made = merging()
    made.offer([record("placed", 5, 1)], NO_END)
    made.offer([record("placed", 5, 1), record("placed", 2, 1)], NO_END)
    assert made.went_back == {TopicPartition("placed", 0)}
    assert len(made.inputs(0)[0].records) == 1
    made.assign([one.partition for one in made.inputs(0)])
    assert made.went_back == set()


def test_what_comes_from_before_where_a_source_is_read_from_is_none_of_it() -> None:
    """librdkafka may have asked for a beginning before it was told of another place, and take the answer for it."""
    made = merging()
    partitions = [one.partition for one in made.inputs(0)]
    made.assign(partitions, {partitions[0]: 5})
    made.offer([record("placed", 3, 1)], NO_END)
    assert made.went_back == {partitions[0]}
    assert not made.inputs(0)[0].records
    made.assign(partitions, {partitions[0]: 5})
    made.offer([record("placed", 5, 1)], NO_END)
    assert made.went_back == set()
    assert len(made.inputs(0)[0].records) == 1


def test_a_record_of_nobody_here_and_one_from_before_leave_out_nothing_behind_them() -> None:
    made = merging()
    of_one = [record("placed", offset, at_ms) for offset, at_ms in ((5, 1), (3, 1), (6, 2))]
    others = [record("placed", 0, 1, partition=9), record("fulfilled", 0, 3)]
    made.offer([*of_one, *others], ends("cancelled", at=1))
    assert taken(made, 2) == [("placed", 5), ("placed", 6)]
    assert made.inputs(0)[1].records[0].offset == 0


def test_a_wait_ends_with_its_assignment() -> None:
    """Else the next one would be given up at once, or count as given up while all of it is here."""
    made = merging(wait_s=30.0)
    for begun_s in (100.0, 129.0):
        made.assign(sources())
        made.offer([record("fulfilled", 0, 20)], ends("cancelled"))
        assert taken(made, now_s=begun_s) == []
    assert taken(made, now_s=131.0) == []
    assert taken(made, now_s=159.0) == [("fulfilled", 0)]
    assert made.given_up == {0}
    made.revoke([0])
    assert made.given_up == set()


def test_together_a_wait_ends_with_the_partition_that_is_left_out() -> None:
    made = together(("placed", 0), ("placed", 1), ("placed", 2))
    made.offer([record("placed", 0, 30)], {})
    assert made.take(0, 10, 100.0) == []
    made.leave_out([TopicPartition("placed", 1)])
    assert made.take(0, 10, 131.0) == []
    assert len(made.take(0, 10, 161.0)) == 1


def test_a_log_that_went_back_is_nobodys_once_its_partition_is_gone() -> None:
    made = merging()
    made.offer([record("placed", 5, 1), record("placed", 2, 1)], NO_END)
    made.revoke([0])
    assert made.went_back == set()
    made = together(("placed", 0))
    made.offer([record("placed", 5, 1), record("placed", 2, 1)], NO_END)
    made.leave_out([TopicPartition("placed", 0)])
    assert made.went_back == set()
    made.offer([record("placed", 2, 1)], NO_END)
    assert not made.inputs(0)
    assert made.went_back == set()


def test_a_full_buffer_is_paused_once_and_resumed_at_half() -> None:
    made = merging()
    made.offer([record("placed", n, n) for n in range(merge.BUFFER_RECORDS_MAX)], ends("fulfilled", "cancelled"))
    assert made.to_pause() == [TopicPartition("placed", 0)]
    assert made.to_pause() == []
    assert made.paused(0) == [TopicPartition("placed", 0)]
    made.take(0, merge.BUFFER_RECORDS_MAX // 2, 0.0)
    assert made.to_resume() == []
    made.take(0, 1, 0.0)
    assert made.to_resume() == [TopicPartition("placed", 0)]
    assert made.paused(0) == []


def test_large_records_fill_a_buffer_too() -> None:
    made = merging()
    made.offer([record("placed", 0, 0, size=merge.BUFFER_BYTES_MAX)], ends(*TOPICS, at=1))
    assert made.to_pause() == [TopicPartition("placed", 0)]
    made.take(0, 1, 0.0)
    assert made.to_resume() == [TopicPartition("placed", 0)]


def test_what_was_put_back_fills_a_buffer_again() -> None:
    made = merging()
    half = merge.BUFFER_BYTES_MAX // 2
    made.offer([record("placed", number, number, size=half) for number in range(2)], ends(*TOPICS, at=2))
    records = made.take(0, 2, 0.0)
    assert made.to_pause() == []
    made.put_back(records)
    assert made.to_pause() == [TopicPartition("placed", 0)]


def test_large_records_in_many_partitions_share_what_may_be_buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "TOTAL_BYTES_MAX", 6000)
    made = merging(0, 1)
    made.offer([record("placed", 0, 0, size=3000), record("fulfilled", 0, 0, size=999)], NO_END)
    made.offer([record("placed", 0, 0, 1, size=2000)], NO_END)
    assert made.to_pause() == []
    made.offer([record("cancelled", 0, 0, 1, size=1)], NO_END)
    assert sorted(made.to_pause()) == [TopicPartition("placed", 0), TopicPartition("placed", 1)]


def test_nothing_is_known_of_the_end_of_a_topic_that_is_or_was_paused() -> None:
    made = merging()
    end = ends("placed", at=merge.BUFFER_RECORDS_MAX)
    made.offer([record("placed", n, n) for n in range(merge.BUFFER_RECORDS_MAX)], {**ends(*TOPICS), **end})
    made.to_pause()
    made.offer([], {**ends(*TOPICS), **end})  # the consumer repeats what it last heard
    assert len(made.take(0, 100_000, 0.0)) == merge.BUFFER_RECORDS_MAX
    assert made.lagging(0)[0] == [TopicPartition("placed", 0)]
    made.to_resume()
    assert made.take(0, 1, 0.0) == []
    assert made.lagging(0)[0] == [TopicPartition("placed", 0)]


def test_many_partitions_share_what_may_be_buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "TOTAL_RECORDS_MAX", 6000)
    made = merging(*range(10))
    for partition in range(10):
        made.offer([record("placed", n, n, partition) for n in range(599)], NO_END)
    assert made.to_pause() == []
    made.offer([record("fulfilled", n, n, 0) for n in range(100)], NO_END)
    assert sorted(made.to_pause()) == [TopicPartition("placed", partition) for partition in range(10)]
    for partition in range(10):
        made.offer([], ends(*TOPICS, partition=partition, at=1000))
        made.take(partition, 300, 0.0)
    assert made.to_resume() == [], "resumed while it is crowded, it would be paused again with the next poll"
    for partition in range(10):
        made.take(partition, 250, 0.0)
    assert len(made.to_resume()) == 10


_timestamps = st.lists(st.lists(st.integers(0, 20), max_size=12), min_size=3, max_size=3)


@given(_timestamps, st.integers(0, 2**32))
def test_a_backlog_is_taken_in_one_order_however_it_is_fetched(timestamps: list[list[int]], seed: int) -> None:
    """The sequence is that of a merge sort of the topics as they stand at the broker."""
    logs = {
        topic: [record(topic, offset, ms) for offset, ms in enumerate(sorted(of_topic))]
        for topic, of_topic in zip(TOPICS, timestamps, strict=True)
    }
    wanted = sorted(
        (one for log in logs.values() for one in log),
        key=lambda one: (one.timestamp_ms, TOPICS.index(one.topic), one.offset),
    )
    chance = random.Random(seed)
    made = merging(wait_s=1e9)
    position = dict.fromkeys(TOPICS, 0)
    found: list[Record] = []
    while len(found) < len(wanted):
        topic = chance.choice(TOPICS)
        fetched = logs[topic][position[topic] : position[topic] + chance.randint(1, 5)]
        position[topic] += len(fetched)
        is_end = position[topic] == len(logs[topic])
        # The end is told with its last record, or some time later.
        made.offer(fetched, ends(topic, at=position[topic]) if is_end and chance.random() < 0.5 else NO_END)
        batch = made.take(0, chance.randint(1, 6), 0.0)
        kept = chance.randint(0, len(batch))
        made.put_back(batch[kept:])
        found += batch[:kept]
    assert found == wanted


def test_together_all_partitions_of_all_topics_are_one_sequence() -> None:
    made = together(("placed", 0), ("fulfilled", 4))
    made.assign([TopicPartition("placed", 7)])
    made.offer([record("placed", 0, 30), record("fulfilled", 0, 10, partition=4)], ends("placed", at=1))
    at_ends = ends("fulfilled", partition=4, at=1) | ends("placed", partition=7, at=1)
    made.offer([record("placed", 0, 20, partition=7)], at_ends)
    records = made.take(0, 10, 0.0)
    assert [one.timestamp_ms for one in records] == [10, 20, 30]
    made.put_back(records)
    made.leave_out([TopicPartition("placed", 7)])
    assert [one.timestamp_ms for one in made.take(0, 10, 0.0)] == [10, 30]


def test_together_a_partition_that_has_more_at_the_broker_holds_the_others() -> None:
    made = together(("placed", 0), ("placed", 1))
    made.offer([record("placed", 0, 30)], {})
    assert made.take(0, 10, 0.0) == []
    made.leave_out([TopicPartition("placed", 1)])
    assert [one.timestamp_ms for one in made.take(0, 1, 1.0)] == [30]
