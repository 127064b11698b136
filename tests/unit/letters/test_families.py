"""Dead letters of every family say the same things in the same words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.hakuna.entry_ids import of_bytes
from processor.letters.families import Family, headers_to_send, letter_facts
from processor.letters.letter import Refusal, letter_headers
from processor.operate.replay.copies import NOW, copy_of, replay_of, replays_of
from processor.records import Headers, Position, Record, Stage, TopicPartition
from tests.unit.letters import written_by_others as others

AT_MS = 1_700_000_000_000


def record(headers: Headers, timestamp_ms: int = AT_MS) -> Record:
    return Record("some.dlq", 3, 17, timestamp_ms, b"ord-1", b"v", headers)


PLACE = {"topic": b"payments", "partition": b"2", "offset": b"40"}


def under(prefix: str, fields: dict[str, bytes]) -> Headers:
    """The place and further fields."""
    return [(prefix + name, value) for name, value in (PLACE | fields).items()]


def connect() -> Headers:
    failed = {"exception.class.name": b"org.apache.kafka.connect.errors.DataException", "exception.message": b"no"}
    where = {"connector.name": b"sink", "stage": b"VALUE_CONVERTER"}
    return [("shop", b"s"), *under("__connect.errors.", where | failed)]


def spring(prefix: str) -> Headers:
    return [
        (f"kafka_{prefix}original-topic", b"payments"),
        (f"kafka_{prefix}original-partition", (2).to_bytes(4, "big")),
        (f"kafka_{prefix}original-offset", (40).to_bytes(8, "big")),
        ("kafka_dlt-original-consumer-group", b"billing"),
        (f"kafka_{prefix}exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
        (f"kafka_{prefix}exception-cause-fqcn", b"java.lang.IllegalStateException"),
    ]


SERIALIZATION = "Size of data received by LongDeserializer is not 8"
CONVERTING = "Converting byte[] to Kafka Connect data failed due to serialization error: "
LISTENER = "Listener failed; no such customer"
OF_OTHERS = {
    "share group": (Family.SHARE_GROUP, "unknown", "Offset rejected by client.", "", "fraud-check", 1, None),
    "streams": (Family.STREAMS, "SerializationException", SERIALIZATION, "", "", None, None),
    "connect": (Family.CONNECT, "DataException", CONVERTING, "value_converter", "warehouse", None, None),
    "spring": (Family.SPRING, "IllegalStateException", LISTENER, "", "billing", None, others.WRITTEN_MS),
}


@pytest.mark.parametrize("tool", others.WHOLE)
def test_a_letter_that_the_tool_itself_wrote_says_what_it_is_and_goes_back_as_it_came(tool: str) -> None:
    letter = others.WHOLE[tool]
    facts = letter_facts(letter)
    tried = facts.delivery_count
    said = (facts.family, facts.reason, facts.message, facts.stage, facts.group, tried, facts.original_ms)
    assert said == OF_OTHERS[tool]
    assert facts.origin == others.SOURCE.position
    assert facts.last_failed_ms == letter.timestamp_ms
    assert (letter.key, letter.value) == (others.ORDER, others.VALUE)
    its_own = [] if tool == "share group" else others.ITS_OWN
    assert headers_to_send(facts.family, letter.headers) == its_own


def test_spring_before_and_after_its_headers_were_renamed() -> None:
    for prefix in ("dlt-", ""):
        facts = letter_facts(record(spring(prefix)))
        assert facts.family is Family.SPRING
        assert facts.origin == Position("payments", 2, 40)
        assert (facts.reason, facts.group) == ("IllegalStateException", "billing")


def test_of_headers_that_stand_twice_the_first_say_where_it_stood_and_the_last_what_went_wrong() -> None:
    """Spring appends them where a letter is refused again (`appendOriginalHeaders`), Connect where its own is read."""
    for prefix in ("dlt-", ""):
        again: Headers = [
            (f"kafka_{prefix}original-topic", b"payments-dlt"),
            (f"kafka_{prefix}original-partition", (0).to_bytes(4, "big")),
            (f"kafka_{prefix}original-offset", (7).to_bytes(8, "big")),
            (f"kafka_{prefix}exception-cause-fqcn", b"java.io.IOException"),
        ]
        facts = letter_facts(record(spring(prefix) + again))
        assert facts.origin == Position("payments", 2, 40)
        assert facts.reason == "IOException"
    facts = letter_facts(record([*connect(), ("__connect.errors.topic", b"letters")]))
    assert facts.origin == Position("payments", 2, 40)


def test_kafka_streams() -> None:
    exception = b"org.apache.kafka.streams.errors.StreamsException: no such thing"
    headers = under("__streams.errors.", {"exception": exception, "message": b"no such thing"})
    facts = letter_facts(record(headers))
    assert facts.family is Family.STREAMS
    assert (facts.reason, facts.message) == ("StreamsException", "no such thing")
    assert facts.origin == Position("payments", 2, 40)


header_names = st.sampled_from(
    [name for name, _ in (*connect(), *spring("dlt-"), *spring(""))]
    + ["__dlq.errors.topic", "__dlq.errors.offset", "__dlq.errors.reason", "__streams.errors.topic", "x"]
)


@given(st.lists(st.tuples(header_names, st.none() | st.binary(max_size=12)), max_size=12), st.integers(-1, AT_MS))
def test_whatever_the_headers_are_a_letter_can_be_read(headers: Headers, timestamp_ms: int) -> None:
    facts = letter_facts(record(headers, timestamp_ms=timestamp_ms))
    assert facts.reason or facts.family is Family.PROCESSOR
    assert facts.last_failed_ms >= 0


plain = st.lists(
    st.tuples(st.sampled_from(["entry-id", "source", "shop", "shop", "traceparent"]), st.binary()), max_size=6
)


@given(plain, st.binary() | st.none(), st.integers(0, AT_MS), st.integers(1, 5))
def test_a_letter_that_goes_to_and_fro_keeps_all_but_what_tells_of_it(
    headers: Headers, value: bytes | None, timestamp_ms: int, rounds: int
) -> None:
    first = Record("hakuna.outbox", 0, 5, timestamp_ms, b"ord-1", value, headers)
    current, origin = first, first.position
    for number in range(1, rounds + 1):
        refusal = Refusal(stage=Stage.SEND, reason="http_400", message="", group="g", failed_ms=AT_MS + number)
        letter = Record(
            "dl", 0, number, current.timestamp_ms, current.key, current.value, letter_headers(current, refusal)
        )
        facts = letter_facts(letter)
        assert facts.origin == origin
        assert facts.first_failed_ms == AT_MS + 1
        copy = copy_of(letter, facts, TopicPartition("hakuna.outbox", 0), f"run-{number}", letter.value)
        current = Record(
            copy.topic, copy.partition, 100 + number, copy.timestamp_ms, copy.key, copy.value, copy.headers
        )
        assert replays_of(current) == number
        assert replay_of(current) == letter.position
    assert (current.key, current.value, current.timestamp_ms) == (first.key, first.value, first.timestamp_ms)
    ours = ("__dlq.errors.", "replay-")
    assert [header for header in current.headers if not header[0].startswith(ours)] == headers
    names = [name for name, _ in current.headers if name.startswith(ours)]
    assert len(names) == len(set(names))


def test_changed_bytes_have_an_entry_id_of_their_own_and_the_same_bytes_the_same() -> None:
    letter = record([("entry-id", b"events/orders.placed/0/5"), ("shop", b"s")])

    def entry_id(value: bytes) -> bytes | None:
        copy = copy_of(letter, letter_facts(letter), TopicPartition("hakuna.outbox", 3), "r", value)
        return dict(copy.headers)["entry-id"]

    changed = of_bytes("events/orders.placed/0/5", b"other")
    assert entry_id(b"other") == changed.encode()
    assert of_bytes(changed, b"third").startswith("events/orders.placed/0/5~")
    assert of_bytes(changed, b"third").count("~") == 1
    assert entry_id(b"v") == b"events/orders.placed/0/5"


def test_another_tools_headers_are_taken_off_what_goes_back_to_it() -> None:
    letter = record(connect())
    copy = copy_of(letter, letter_facts(letter), TopicPartition("payments", 2), "r", b"v")
    assert [name for name, _ in copy.headers] == ["shop", "replay-id", "replay-count", "replay-of"]


def test_a_copy_keeps_its_time_unless_its_topic_would_soon_delete_it_for_that() -> None:
    letter = record([])
    target = TopicPartition("payments", 2)
    assert copy_of(letter, letter_facts(letter), target, "r", b"v", AT_MS).timestamp_ms == AT_MS
    assert copy_of(letter, letter_facts(letter), target, "r", b"v", AT_MS + 1).timestamp_ms == NOW
