"""Dead letters in the form that other tools write: their headers' names and encodings as these versions had them, their
values those of one record of ours, the stack traces cut.

    SHARE_GROUP, SHARE_GROUP_BARE   Kafka 4.4.0, `share.version` 2, with and without
                                    `errors.deadletterqueue.copy.record.enable` (KIP-1191): text; the refused record's
                                    own headers and timestamp are not copied; without the copy no key, no value
    STREAMS                         Kafka Streams 4.3.1, a deserialization failure
    CONNECT                         Kafka Connect 4.3.1, JsonConverter on Avro, context headers on
    SPRING                          Spring Kafka 4.1.2, `DeadLetterPublishingRecoverer`: numbers big-endian, the
                                    letter's own timestamp is that of the failure

Each is the letter for the record 7 of orders.placed/1, written at WRITTEN_MS with the key ORDER and the value VALUE.
"""

from __future__ import annotations

from typing import Final

from processor.records import Headers, Record

ORDER: Final = b"ord-7"
VALUE: Final = b"\x00\x00\x00\x00\x05\x06e-7\x0aord-7"
WRITTEN_MS: Final = 1_764_500_000_000
REFUSED_MS: Final = WRITTEN_MS + 90_000
ITS_OWN: Final[Headers] = [("traceparent", b"00-1-2-01"), ("__value_schema_id", b"\x01" + bytes(16))]
SOURCE: Final = Record("orders.placed", 1, 7, WRITTEN_MS, ORDER, VALUE, ITS_OWN)

_SHARE: Final[Headers] = [
    ("__dlq.errors.topic", b"orders.placed"),
    ("__dlq.errors.partition", b"1"),
    ("__dlq.errors.offset", b"7"),
    ("__dlq.errors.group", b"fraud-check"),
    ("__dlq.errors.delivery.count", b"1"),
    ("__dlq.errors.message", b"Offset rejected by client."),
]
SHARE_GROUP_BARE: Final = Record("fraud-check.dlq", 1, 0, REFUSED_MS, None, None, _SHARE)
SHARE_GROUP: Final = Record("fraud-check.dlq", 1, 1, REFUSED_MS, ORDER, VALUE, _SHARE)
STREAMS: Final = Record(
    "orders.dlq", 1, 0, WRITTEN_MS, ORDER, VALUE,
    [
        *ITS_OWN,
        ("__streams.errors.exception", b"org.apache.kafka.common.errors.SerializationException"),
        ("__streams.errors.message", b"Size of data received by LongDeserializer is not 8"),
        ("__streams.errors.stacktrace", b"org.apache.kafka.common.errors.SerializationException: Size of data"),
        ("__streams.errors.topic", b"orders.placed"),
        ("__streams.errors.partition", b"1"),
        ("__streams.errors.offset", b"7"),
    ],
)  # fmt: skip
CONNECT: Final = Record(
    "warehouse.dlq", 0, 0, WRITTEN_MS, ORDER, VALUE,
    [
        *ITS_OWN,
        ("__connect.errors.topic", b"orders.placed"),
        ("__connect.errors.partition", b"1"),
        ("__connect.errors.offset", b"7"),
        ("__connect.errors.connector.name", b"warehouse"),
        ("__connect.errors.task.id", b"0"),
        ("__connect.errors.stage", b"VALUE_CONVERTER"),
        ("__connect.errors.class.name", b"org.apache.kafka.connect.json.JsonConverter"),
        ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
        ("__connect.errors.exception.message", b"Converting byte[] to Kafka Connect data failed"),
        ("__connect.errors.exception.stacktrace", b"org.apache.kafka.connect.errors.DataException: Converting"),
    ],
)  # fmt: skip
SPRING: Final = Record(
    "orders.placed-dlt", 1, 0, REFUSED_MS, ORDER, VALUE,
    [
        *ITS_OWN,
        ("kafka_dlt-original-topic", b"orders.placed"),
        ("kafka_dlt-original-partition", (1).to_bytes(4, "big")),
        ("kafka_dlt-original-offset", (7).to_bytes(8, "big")),
        ("kafka_dlt-original-timestamp", WRITTEN_MS.to_bytes(8, "big")),
        ("kafka_dlt-original-timestamp-type", b"CreateTime"),
        ("kafka_dlt-original-consumer-group", b"billing"),
        ("kafka_dlt-exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
        ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalStateException"),
        ("kafka_dlt-exception-message", b"Listener failed; no such customer"),
        ("kafka_dlt-exception-stacktrace", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
    ],
)  # fmt: skip
WHOLE: Final = {"share group": SHARE_GROUP, "streams": STREAMS, "connect": CONNECT, "spring": SPRING}
