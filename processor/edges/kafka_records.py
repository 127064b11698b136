"""From librdkafka's messages to our records: one pass over what a `consume` returned.

Owned by `KafkaConsumer` and `KafkaReader`. Runs once per record of everything the processor reads: 0.5 µs,
half of what `consume` itself costs. Not chosen: a record that keeps the message and asks it lazily (most of
the calls are made anyway, and the stages could not be given a record of their own making)."""

from __future__ import annotations

from typing import Protocol

from confluent_kafka import KafkaError

from processor.records import Headers, Record, TopicPartition


class Message(Protocol):
    """confluent-kafka's message as it is after `consume`: its own stub makes all of this optional."""

    def topic(self) -> str: ...

    def partition(self) -> int: ...

    def offset(self) -> int: ...

    def timestamp(self) -> tuple[int, int]: ...

    def key(self) -> bytes | None: ...

    def value(self) -> bytes | None: ...

    def headers(self) -> Headers | None: ...

    def error(self) -> KafkaError | None: ...


def taken(messages: list[Message], at_end: dict[TopicPartition, int]) -> tuple[list[Record], list[Message]]:
    """The records among `messages`, and the messages that are errors. Keeps `at_end` true in the order of
    arrival: an end that is reached puts its partition in, a record takes it out."""
    records: list[Record] = []
    refused: list[Message] = []
    append = records.append
    run_topic = ""  # partitions come in runs: one look at `at_end` a run, not a record
    run_partition = -1
    for message in messages:
        topic = message.topic()
        partition = message.partition()
        error = message.error()
        if error is None:
            if partition != run_partition or topic != run_topic:
                run_topic, run_partition = topic, partition
                at_end.pop(TopicPartition(topic, partition), None)
            append(
                Record(
                    topic,
                    partition,
                    message.offset(),
                    message.timestamp()[1],
                    message.key(),
                    message.value(),
                    message.headers() or [],
                )
            )
        elif error.code() == KafkaError._PARTITION_EOF:
            run_partition = -1
            at_end[TopicPartition(topic, partition)] = message.offset()
        else:
            run_partition = -1
            refused.append(message)
    return records, refused
