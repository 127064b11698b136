"""What the stages may rely on in Kafka, on the fake broker and on a real one.

A `Cluster` makes clients of one kind. Tests wait for a condition by polling; on the fake that makes its clock go by.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

import pytest

from processor.edges.kafka.transaction import KafkaTransaction
from processor.errors import Fenced, StateCorrupt, TransactionAborted
from processor.interfaces import COMMIT_METADATA_BYTES_MAX, Committed, Consumer
from processor.records import Headers, NewRecord, Position, Record, TopicPartition
from tests.contracts.clusters import (
    CLASSIC,
    COOPERATIVE,
    NEW_PROTOCOL,
    WAIT_S_MAX,
    Cluster,
    Movements,
    Reading,
    joined,
    left_open,
    made,
    opened,
    transact,
    wait_until,
    write,
)

# ---- reading -------------------------------------------------------------------------------------------------


def test_a_record_arrives_as_it_was_written(cluster: Cluster) -> None:
    topic = made(cluster)
    producer = cluster.producer()
    headers: Headers = [("a", b"1"), ("a", b"2"), ("none", None), ("empty", b"")]
    assert producer.produce(NewRecord(topic, 0, b"key", b"value", headers, 1_234), lambda _error, _offset: None)
    assert producer.produce(NewRecord(topic, 0, None, None, []), lambda _error, _offset: None)
    assert producer.produce(NewRecord(topic, 0, b"", b"", []), lambda _error, _offset: None)
    assert producer.flush(10.0) == 0
    _, _, reading = joined(cluster, [topic])
    reading.until(lambda: len(reading.records) == 3)
    first, second, third = reading.records
    assert first == Record(topic, 0, 0, 1_234, b"key", b"value", headers)
    assert (second.key, second.value, second.headers) == (None, None, [])
    assert (third.key, third.value) == (b"", b"")
    assert second.timestamp_ms > 1_600_000_000_000


def test_the_end_of_a_partition_is_told_with_its_offset_and_taken_back_by_the_next_record(cluster: Cluster) -> None:
    topic = made(cluster, partitions=2)
    full, empty = TopicPartition(topic, 0), TopicPartition(topic, 1)
    write(cluster, topic, 0, b"1", b"2")
    _, _, reading = joined(cluster, [topic])
    reading.until(lambda: reading.at_end == {full: 2, empty: 0})
    write(cluster, topic, 0, b"3")
    reading.until(lambda: reading.at_end.get(full) == 3)
    assert reading.values == [b"1", b"2", b"3"]


def test_records_are_never_more_than_asked_for(cluster: Cluster) -> None:
    topic = made(cluster)
    write(cluster, topic, 0, *(b"%d" % n for n in range(50)))
    consumer, _, reading = joined(cluster, [topic])
    seen: list[Record] = list(reading.records)

    def poll() -> None:
        polled = consumer.poll(7, 0.1)
        assert len(polled.records) <= 7
        seen.extend(polled.records)

    wait_until(cluster, lambda: len(seen) == 50, poll)
    assert [record.offset for record in seen] == list(range(50))


def test_an_open_transaction_is_not_read_and_holds_back_what_comes_after_it(cluster: Cluster) -> None:
    source, topic = made(cluster, "source"), made(cluster)
    where = TopicPartition(topic, 0)
    writer, _, _ = joined(cluster, [source], group="writer")
    transaction = opened(cluster, "t", writer)
    transaction.begin()
    transaction.produce(NewRecord(topic, 0, b"k", b"in doubt", []))
    transaction.produce_keyed(topic, 0, [(b"k", b"too")])
    if isinstance(transaction, KafkaTransaction):
        transaction._begun().flush(10.0)  # real records leave when they like
    write(cluster, topic, 0, b"after")
    consumer, _, reading = joined(cluster, [topic])
    reading.until(lambda: where in reading.at_end)
    assert reading.at_end == {where: 0}
    wait_until(cluster, lambda: consumer.ends([where]) == {where: 0}, reading.once)
    assert reading.records == []
    transaction.commit({})
    reading.reads(b"in doubt", b"too", b"after")


def test_the_end_lies_past_the_markers_so_that_nothing_unread_means_no_lag(cluster: Cluster) -> None:
    source, topic = made(cluster, "source"), made(cluster)
    where = TopicPartition(topic, 0)
    writer, _, _ = joined(cluster, [source], group="writer")
    transaction = opened(cluster, "t", writer)
    for value in (b"1", b"2"):
        transact(transaction, topic, value)
        transaction.begin()
        transaction.produce_keyed(topic, 0, [(b"k", b"no")])
        transaction.abort()
    consumer, _, reading = joined(cluster, [topic])
    reading.until(lambda: len(reading.records) == 2 and where in reading.at_end)
    assert reading.values == [b"1", b"2"]
    wait_until(cluster, lambda: consumer.ends([where]) == {where: reading.at_end[where]}, reading.once)
    assert reading.at_end[where] >= reading.records[-1].offset + 2


# ---- offsets -------------------------------------------------------------------------------------------------


def test_an_offset_is_committed_with_its_metadata(cluster: Cluster) -> None:
    topic = made(cluster, partitions=2)
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    write(cluster, topic, 0, b"1", b"2", b"3")
    consumer, _, _ = joined(cluster, [topic])
    assert consumer.committed([first, second]) == {first: Committed(None, ""), second: Committed(None, "")}
    wanted = {first: Committed(2, "up to ü"), second: Committed(0, "x" * COMMIT_METADATA_BYTES_MAX)}
    for where, offset in wanted.items():
        consumer.commit({where: offset})
    assert consumer.committed([first, second]) == wanted
    with pytest.raises(AssertionError):
        consumer.commit({second: Committed(0, "x" * (COMMIT_METADATA_BYTES_MAX + 1))})
    consumer.close()
    _, _, reading = joined(cluster, [topic])
    reading.reads(b"3")


def test_offsets_of_an_open_transaction_are_not_there_until_it_commits(cluster: Cluster) -> None:
    topic = made(cluster)
    where = TopicPartition(topic, 0)
    write(cluster, topic, 0, b"1")
    consumer, _, _ = joined(cluster, [topic])
    transaction = opened(cluster, "t", consumer)
    transaction.begin()
    transaction.produce(NewRecord(topic, 0, b"k", b"2", []))
    assert cluster.committed_so_far(cluster.name("g"), [where]) == {where: Committed(None, "")}
    metadata = "by t".ljust(COMMIT_METADATA_BYTES_MAX, ".")
    transaction.commit({where: Committed(1, metadata)})
    assert consumer.committed([where]) == {where: Committed(1, metadata)}
    assert cluster.committed_so_far(cluster.name("g"), [where]) == {where: Committed(1, metadata)}


# ---- moving --------------------------------------------------------------------------------------------------


def test_assigned_says_where_to_start(cluster: Cluster) -> None:
    topic = made(cluster, partitions=2)
    write(cluster, topic, 0, b"a0", b"a1", b"a2")
    write(cluster, topic, 1, b"b0", b"b1")
    _, _, reading = joined(cluster, [topic], starts={TopicPartition(topic, 0): 2})
    reading.until(lambda: len(reading.records) == 3)
    assert sorted(value or b"" for value in reading.values) == [b"a2", b"b0", b"b1"]


def test_a_partition_paused_while_it_is_assigned_brings_nothing_until_it_is_resumed(cluster: Cluster) -> None:
    topic = made(cluster, partitions=2)
    held, free = TopicPartition(topic, 0), TopicPartition(topic, 1)
    write(cluster, topic, 0, b"held")
    write(cluster, topic, 1, b"free")
    consumer = cluster.consumer(cluster.name("g"))
    movements = Movements()
    movements.on_assigned = lambda _partitions: consumer.pause([held])
    consumer.subscribe([topic], movements)
    reading = Reading(cluster, consumer.poll)
    reading.until(lambda: free in reading.at_end)
    reading.for_s(1.0)
    assert reading.values == [b"free"]
    assert held not in reading.at_end
    consumer.resume([held])
    reading.until(lambda: reading.at_end == {held: 1, free: 1})
    assert reading.values == [b"free", b"held"]


def test_resume_goes_on_where_pause_stopped_and_says_the_end_again(cluster: Cluster) -> None:
    topic = made(cluster)
    where = TopicPartition(topic, 0)
    write(cluster, topic, 0, *(b"%d" % n for n in range(10)))
    consumer, _, _ = joined(cluster, [topic])
    consumer.seek([Position(topic, 0, 0)])
    reading = Reading(cluster, lambda _records_max, timeout_s: consumer.poll(3, timeout_s))
    reading.until(lambda: bool(reading.records))
    consumer.pause([where])
    so_far = len(reading.records)
    assert so_far < 10
    reading.for_s(0.5)
    assert len(reading.records) == so_far
    consumer.resume([where])
    reading.until(lambda: where in reading.at_end)
    consumer.pause([where])
    consumer.resume([where])
    reading.until(lambda: reading.at_end.get(where) == 10)
    consumer.pause([where])
    write(cluster, topic, 0, b"10")
    consumer.resume([where])
    reading.until(lambda: reading.at_end.get(where) == 11)
    assert [record.offset for record in reading.records] == list(range(11))


def test_seek_goes_back_and_takes_the_end_back(cluster: Cluster) -> None:
    topic = made(cluster)
    where = TopicPartition(topic, 0)
    write(cluster, topic, 0, b"0", b"1", b"2")
    consumer, _, reading = joined(cluster, [topic])
    reading.until(lambda: reading.at_end == {where: 3})
    consumer.seek([Position(topic, 0, 1)])
    reading.until(lambda: len(reading.records) == 5 and reading.at_end == {where: 3})
    assert reading.values == [b"0", b"1", b"2", b"1", b"2"]
    consumer.seek([Position(topic, 0, 3)])
    reading.until(lambda: reading.at_end == {where: 3})


@pytest.mark.parametrize("protocol", [CLASSIC, COOPERATIVE, NEW_PROTOCOL])
def test_partitions_move_with_their_offsets_and_no_record_is_lost_or_read_twice(
    cluster: Cluster, protocol: str
) -> None:
    topic = made(cluster, partitions=4)
    everything = [TopicPartition(topic, partition) for partition in range(4)]
    for partition in range(4):
        write(cluster, topic, partition, *(b"%d/%d" % (partition, n) for n in range(20)))
    finished: list[bytes | None] = []
    members: list[tuple[Consumer, Movements, Reading]] = []

    def member(client_id: str) -> tuple[Consumer, Movements, Reading]:
        consumer = cluster.consumer(cluster.name("g"), client_id, protocol)
        movements = Movements()
        reading = Reading(cluster, lambda _records_max, timeout_s: consumer.poll(5, timeout_s))
        next_offsets: dict[TopicPartition, int] = {}

        def take() -> None:
            for record in reading.once(0.02):
                where = TopicPartition(record.topic, record.partition)
                assert where in movements.owned
                assert record.offset == next_offsets.get(where, record.offset), "a gap or a repetition"
                next_offsets[where] = record.offset + 1
                finished.append(record.value)

        def revoked(partitions: Sequence[TopicPartition]) -> None:
            consumer.commit(
                {where: Committed(next_offsets[where], "") for where in partitions if where in next_offsets}
            )
            for where in partitions:
                next_offsets.pop(where, None)

        movements.on_revoked = revoked
        consumer.subscribe([topic], movements)
        steps.append(take)
        members.append((consumer, movements, reading))
        return members[-1]

    steps: list[Callable[[], None]] = []
    _, first, _ = member("a")
    wait_until(cluster, lambda: first.owned == set(everything) and len(finished) > 10, *steps)
    _, second, _ = member("b")
    wait_until(cluster, lambda: len(first.owned) == len(second.owned) == 2, *steps)
    wait_until(cluster, lambda: len(finished) >= 80, *steps)
    moved = second.owned.copy()
    if protocol != CLASSIC:  # what stays is not touched
        stayed = set(everything) - moved
        assert not any(set(partitions) & stayed for what, partitions in first.told if what == "revoked")
    members[1][0].close()
    wait_until(cluster, lambda: first.owned == set(everything), steps[0])
    assert len(finished) == len(set(finished)) == 80


@pytest.mark.parametrize("protocol", [CLASSIC, COOPERATIVE, NEW_PROTOCOL])
def test_a_pause_ends_with_its_assignment_also_where_the_partition_comes_back_at_once(
    cluster: Cluster, protocol: str
) -> None:
    topic = made(cluster, partitions=4)
    everything = {TopicPartition(topic, partition) for partition in range(4)}
    consumer, movements, reading = joined(cluster, [topic], protocol=protocol)
    reading.until(lambda: movements.owned == everything)
    consumer.pause(everything)
    second, others = cluster.consumer(cluster.name("g"), "b", protocol), Movements()
    second.subscribe([topic], others)
    wait_until(
        cluster,
        lambda: len(movements.owned) == len(others.owned) == 2,
        lambda: reading.once(0.02),
        lambda: second.poll(10, 0.02),
    )
    second.close()
    reading.until(lambda: movements.owned == everything)
    went = {where for what, partitions in movements.told if what == "revoked" for where in partitions}
    assert len(went) == (4 if protocol == CLASSIC else 2)
    for where in everything:
        write(cluster, topic, where.partition, b"%d" % where.partition)
    reading.until(lambda: {record.partition for record in reading.records} >= {where.partition for where in went})
    reading.for_s(0.5)
    assert {record.partition for record in reading.records} == {where.partition for where in went}


def test_several_topics_are_assigned_by_partition_number(cluster: Cluster) -> None:
    topics = [made(cluster, f"in{number}", partitions=4) for number in range(3)]
    joined(cluster, topics)
    one = cluster.consumer(cluster.name("h"), "a")
    two = cluster.consumer(cluster.name("h"), "b")
    movements = [Movements(), Movements()]
    for consumer, listener in zip((one, two), movements, strict=True):
        consumer.subscribe(topics, listener)
    wait_until(
        cluster,
        lambda: all(len(listener.owned) == 6 for listener in movements),
        lambda: one.poll(10, 0.05),
        lambda: two.poll(10, 0.05),
    )
    for listener in movements:
        numbers = {where.partition for where in listener.owned}
        assert listener.owned == {TopicPartition(topic, number) for topic in topics for number in numbers}


def test_an_exception_in_a_callback_reaches_the_poll_and_no_record_is_lost_by_it(cluster: Cluster) -> None:
    topic = made(cluster)
    write(cluster, topic, 0, b"1", b"2")
    consumer = cluster.consumer(cluster.name("g"))
    movements = Movements()

    def unwilling(_partitions: Sequence[TopicPartition]) -> None:
        raise TransactionAborted("not now")

    movements.on_assigned = unwilling
    consumer.subscribe([topic], movements)
    reading = Reading(cluster, consumer.poll)
    with pytest.raises(TransactionAborted, match="not now"):
        reading.for_s(WAIT_S_MAX)
    reading.until(lambda: len(reading.records) == 2)
    movements.on_revoked = unwilling
    with pytest.raises(TransactionAborted, match="not now"):
        consumer.close()


def test_close_gives_the_partitions_up_and_leaves(cluster: Cluster) -> None:
    topic = made(cluster)
    consumer, movements, _ = joined(cluster, [topic])
    assert cluster.members(cluster.name("g")) == ["a"]
    consumer.close()
    assert movements.told[-1] == ("revoked", (TopicPartition(topic, 0),))
    started_s = cluster.seconds()
    wait_until(cluster, lambda: cluster.members(cluster.name("g")) == [])
    assert cluster.seconds() - started_s < 2.0


@pytest.mark.parametrize("protocol", [CLASSIC, COOPERATIVE, NEW_PROTOCOL])
def test_a_member_that_gets_nothing_is_told_so(cluster: Cluster, protocol: str) -> None:
    """Else a worker more than there are partitions would never be ready."""
    topic = made(cluster)
    _, first, reading = joined(cluster, [topic], protocol=protocol)
    other = cluster.consumer(cluster.name("g"), "b", protocol)
    second = Movements()
    other.subscribe([topic], second)
    wait_until(cluster, lambda: bool(second.told), reading.once, Reading(cluster, other.poll).once)
    wait_until(cluster, lambda: len(first.owned | second.owned) == 1, reading.once, Reading(cluster, other.poll).once)
    assert not first.owned & second.owned


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "heartbeat_s"), [(CLASSIC, 1.0), (COOPERATIVE, 1.0), (NEW_PROTOCOL, 5.0)])
def test_a_member_knows_when_its_group_last_answered_it(cluster: Cluster, protocol: str, heartbeat_s: float) -> None:
    """Never later than it was, and not much before."""
    topic = made(cluster)
    consumer, _, reading = joined(cluster, [topic], protocol=protocol)
    reading.until(lambda: consumer.answered_s() > 0)
    assert consumer.session_s > heartbeat_s + 2.0, "long enough to be told in between"
    for _ in range(8):
        reading.for_s(1.0)
        assert 0 <= cluster.seconds() - consumer.answered_s() < heartbeat_s + 3.0


@pytest.mark.parametrize("protocol", [CLASSIC, NEW_PROTOCOL])
def test_a_member_that_polls_too_late_is_told_lost_and_can_commit_in_no_way(cluster: Cluster, protocol: str) -> None:
    topic = made(cluster)
    where = TopicPartition(topic, 0)
    late = cluster.consumer(cluster.name("g"), "late", protocol, patience_s=6.0)
    movements = Movements()
    late.subscribe([topic], movements)
    reading = Reading(cluster, late.poll)
    reading.until(lambda: bool(movements.owned))
    transaction = opened(cluster, "t", late)
    other, successor, other_reading = joined(cluster, [topic], client_id="other", protocol=protocol)
    # Should the leave of the late one be lost, a broker gives it up after `group.consumer.session.timeout.ms`, 45 s.
    wait_until(cluster, lambda: successor.owned == {where}, other_reading.once, seconds_max=60.0)
    other.commit({where: Committed(7, "other's")})
    with pytest.raises(Fenced):
        late.commit({where: Committed(1, "late")})
    transaction.begin()
    transaction.produce(NewRecord(topic, 0, b"k", b"late", []))
    with pytest.raises(TransactionAborted):
        transaction.commit({where: Committed(1, "late")})
    assert other.committed([where]) == {where: Committed(7, "other's")}
    assert movements.owned == {where}, "it cannot know yet"
    wait_until(cluster, lambda: movements.owned == set(), reading.once, other_reading.once)
    assert ("lost", (where,)) in movements.told or protocol == NEW_PROTOCOL
    other.close()
    wait_until(cluster, lambda: movements.owned == {where}, reading.once)
    late.commit({where: Committed(8, "late")})


# ---- transactions --------------------------------------------------------------------------------------------


def test_a_commit_tells_the_last_offset_of_the_keyed_records(cluster: Cluster) -> None:
    source, topic = made(cluster, "source"), made(cluster, "changelog", partitions=2)
    consumer, _, _ = joined(cluster, [source])
    transaction = opened(cluster, "t", consumer)
    transaction.begin()
    transaction.produce_keyed(topic, 0, [(b"a", b"1"), (b"b", b"2"), (b"c", None)])
    transaction.produce_keyed(topic, 1, [(b"d", b"4")])
    transaction.produce_keyed(topic, 1, [])
    assert transaction.commit({}) == {TopicPartition(topic, 0): 2, TopicPartition(topic, 1): 0}
    transaction.begin()
    transaction.produce_keyed(topic, 0, [(b"a", None)])
    assert transaction.commit({}) == {TopicPartition(topic, 0): 4}  # 3 is the marker
    transaction.begin()
    assert transaction.commit({}) == {}
    _, _, reading = joined(cluster, [topic], group="h")
    reading.until(lambda: len(reading.records) == 5)
    wanted = {(b"a", b"1"), (b"b", b"2"), (b"c", None), (b"d", b"4"), (b"a", None)}
    assert {(record.key, record.value) for record in reading.records} == wanted


def test_a_second_owner_of_the_transactional_id_ends_what_the_first_left_and_fences_it(cluster: Cluster) -> None:
    topic = made(cluster)
    where = TopicPartition(topic, 0)
    consumer, _, reading = joined(cluster, [topic])
    first = left_open(cluster, "t", consumer, topic, b"left behind")
    second = opened(cluster, "t", consumer)
    transact(second, topic, b"mine", {where: Committed(0, "")})
    with pytest.raises(Fenced):
        first.commit({where: Committed(1, "")})
    reading.until(lambda: reading.values == [b"mine"])
    transact(first, topic, b"again")  # it may go on by taking the ID over again
    with pytest.raises(Fenced):
        transact(second, topic, b"never")
    reading.reads(b"mine", b"again")


def test_what_a_dead_worker_left_open_can_be_ended_by_another(cluster: Cluster) -> None:
    topic = made(cluster)
    consumer, _, reading = joined(cluster, [topic])
    left_open(cluster, "t", consumer, topic, b"left behind")
    write(cluster, topic, 0, b"after")
    started_s = cluster.seconds()
    cluster.abort_left_behind(cluster.name("t"))
    reading.reads(b"after")
    assert cluster.seconds() - started_s < 3.0


def test_a_record_that_is_too_large_aborts_its_transaction_and_the_next_one_works(cluster: Cluster) -> None:
    topic = made(cluster)
    consumer, _, reading = joined(cluster, [topic])
    transaction = opened(cluster, "t", consumer)
    transaction.begin()
    transaction.produce(NewRecord(topic, 0, b"k", b"small", []))
    with pytest.raises(TransactionAborted, match="MSG_SIZE_TOO_LARGE"):
        transaction.produce(NewRecord(topic, 0, b"k", b"x" * (transaction.record_bytes_max + 1), []))
    transact(transaction, topic, b"next")
    reading.reads(b"next")


def test_an_aborted_transaction_leaves_nothing(cluster: Cluster) -> None:
    topic = made(cluster)
    where = TopicPartition(topic, 0)
    consumer, _, reading = joined(cluster, [topic])
    transaction = opened(cluster, "t", consumer)
    transaction.abort()  # nothing is open: nothing happens
    transaction.begin()
    transaction.produce_keyed(topic, 0, [(b"k", b"no")])
    transaction.abort()
    transaction.begin()
    transaction.abort()
    transact(transaction, topic, b"yes", {where: Committed(5, "five")})
    reading.reads(b"yes")
    assert consumer.committed([where]) == {where: Committed(5, "five")}


@pytest.mark.slow
def test_a_transaction_that_takes_too_long_is_ended_by_the_broker_within_15_seconds(cluster: Cluster) -> None:
    topic = made(cluster)
    consumer, _, reading = joined(cluster, [topic])
    transaction = left_open(cluster, "t", consumer, topic, b"too late")
    started_s = cluster.seconds()
    write(cluster, topic, 0, b"after")
    reading.until(lambda: bool(reading.records))
    assert cluster.seconds() - started_s < 15.0
    with pytest.raises(Fenced):
        transaction.commit({TopicPartition(topic, 0): Committed(1, "")})
    transact(transaction, topic, b"next")
    reading.reads(b"after", b"next")


# ---- restoring -----------------------------------------------------------------------------------------------


def test_a_restore_ends_by_position_past_markers_and_aborted_records(cluster: Cluster) -> None:
    source, topic = made(cluster, "source"), made(cluster, "changelog", partitions=2)
    first, empty = TopicPartition(topic, 0), TopicPartition(topic, 1)
    consumer, _, _ = joined(cluster, [source])
    transaction = opened(cluster, "t", consumer)
    for value in (b"1", b"2"):
        transact(transaction, topic, value)
    transaction.begin()
    transaction.produce_keyed(topic, 0, [(b"k", b"no")])
    transaction.abort()
    reader = cluster.reader()
    starts = reader.beginnings([first, empty])
    ends = reader.ends([first, empty])
    assert starts == {first: 0, empty: 0}
    assert ends[empty] == 0
    assert ends[first] >= 4
    reader.assign(Position(where.topic, where.partition, start) for where, start in starts.items())
    assert reader.position(first) == 0
    reading = Reading(cluster, reader.poll)
    reading.until(lambda: all(reader.position(where) >= end for where, end in ends.items()))
    assert reading.values == [b"1", b"2"]
    reader.unassign([empty])
    reader.assign([Position(topic, 0, 1)])
    assert reader.position(first) == 1
    reading.until(lambda: len(reading.records) == 3 and reader.position(first) >= ends[first])
    assert reading.values == [b"1", b"2", b"2"]


def test_the_newest_value_of_each_key_is_what_a_restore_asks_for(cluster: Cluster) -> None:
    source, topic = made(cluster, "source"), made(cluster, "changelog", partitions=2)
    consumer, _, _ = joined(cluster, [source])
    transaction = opened(cluster, "t", consumer)
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    reader = cluster.reader()
    reader.assign([Position(*first, 0), Position(*second, 0)])
    held: dict[TopicPartition, dict[bytes, bytes | None]] = {first: {}, second: {}}

    def read() -> None:
        for where, newest in reader.newest(1_000, 0.1).items():
            held[where].update(newest)

    for pairs in ([(b"a", b"1"), (b"b", b"1"), (b"a", b"2")], [(b"b", None), (b"c", b"3")]):
        transaction.begin()
        transaction.produce_keyed(topic, 0, pairs)
        transaction.produce_keyed(topic, 1, [(b"a", b"of the other partition")])
        transaction.commit({})
        ends = reader.ends([first, second])
        wait_until(cluster, lambda: all(reader.position(where) >= ends[where] for where in ends), read)  # noqa: B023
    assert held == {first: {b"a": b"2", b"b": None, b"c": b"3"}, second: {b"a": b"of the other partition"}}


def test_a_restore_waits_for_the_end_behind_an_open_transaction(cluster: Cluster) -> None:
    source, topic = made(cluster, "source"), made(cluster, "changelog")
    where = TopicPartition(topic, 0)
    consumer, _, _ = joined(cluster, [source])
    left_open(cluster, "zombie", consumer, topic, b"never")
    transact(opened(cluster, "t", consumer), topic, b"hidden")
    reader = cluster.reader()
    ends = reader.ends([where])
    reader.assign([Position(topic, 0, 0)])
    reading = Reading(cluster, reader.poll)
    reading.until(lambda: where in reading.at_end)
    assert reader.position(where) == 0 < ends[where]
    cluster.abort_left_behind(cluster.name("zombie"))
    reading.until(lambda: reader.position(where) >= ends[where])
    assert reading.values == [b"hidden"]


def test_a_position_that_is_not_in_the_log_is_an_error_that_names_the_partition(cluster: Cluster) -> None:
    topic = made(cluster, "changelog")
    where = TopicPartition(topic, 0)
    write(cluster, topic, 0, *(b"%d" % n for n in range(10)))
    cluster.delete_before(topic, 0, 5)
    reader = cluster.reader()
    assert reader.beginnings([where]) == {where: 5}
    for lost in (2, 11):
        reader.assign([Position(topic, 0, lost)])
        with pytest.raises(StateCorrupt) as corrupt:
            Reading(cluster, reader.poll).for_s(WAIT_S_MAX)
        assert corrupt.value.partition == where
    reader.assign([Position(topic, 0, 5)])
    reading = Reading(cluster, reader.poll)
    reading.until(lambda: reader.position(where) == 10)
    assert len(reading.records) == 5


# ---- producing -----------------------------------------------------------------------------------------------


def test_every_record_is_acknowledged_once_with_its_offset(cluster: Cluster) -> None:
    topic = made(cluster, "out")
    producer = cluster.producer()
    answers: list[tuple[int, str | None, int]] = []

    def answer_to(number: int) -> Callable[[str | None, int], None]:
        return lambda error, offset: answers.append((number, error, offset))

    for number in range(100):
        assert producer.produce(NewRecord(topic, 0, b"k", b"v", []), answer_to(number))
    wait_until(cluster, lambda: len(answers) == 100, producer.poll)
    assert answers == [(number, None, number) for number in range(100)]


def test_a_producer_that_is_fitted_to_a_topic_makes_batches_that_it_takes_and_keeps_the_order(cluster: Cluster) -> None:
    topic = made(cluster, "small")
    cluster.limit(topic, 8_000)
    producer = cluster.producer()
    answers: list[tuple[int, str | None]] = []

    def write(number: int, size: int) -> None:
        def answered(error: str | None, _offset: int) -> None:
            answers.append((number, error))
            if error is not None:
                producer.fit(8_000)

        while not producer.produce(NewRecord(topic, 0, b"k", secrets.token_bytes(size), []), answered):
            producer.poll()

    for number in range(40):
        write(number, 1_000)
    wait_until(cluster, lambda: len(answers) == 40, producer.poll)
    assert any("MSG_SIZE_TOO_LARGE" in (error or "") for _, error in answers), "a batch of many is refused whole"
    answers.clear()
    for number in range(40):
        write(number, 1_000)
    write(40, 9_000)
    write(41, 1_000)
    wait_until(cluster, lambda: len(answers) == 42, producer.poll)
    assert [number for number, error in answers if error is not None] == [40], "by itself"
    assert [number for number, error in answers if error is None] == [*range(40), 41]


def test_a_record_that_is_too_large_is_acknowledged_with_an_error(cluster: Cluster) -> None:
    topic = made(cluster, "out")
    producer = cluster.producer()
    answers: list[tuple[str | None, int]] = []
    huge = b"x" * (17 * 1024 * 1024)
    assert producer.produce(NewRecord(topic, 0, b"k", huge, []), lambda error, offset: answers.append((error, offset)))
    wait_until(cluster, lambda: bool(answers), producer.poll)
    ((error, offset),) = answers
    assert "MSG_SIZE_TOO_LARGE" in (error or "")
    assert offset == -1
