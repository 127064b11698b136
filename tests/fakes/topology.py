"""The topics of a role on the `FakeBroker`: what they are by now, said at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from processor.edges.kafka.admin import TopicState
from processor.edges.kafka.topics import kept_s
from processor.errors import BrokerOutage
from processor.transform.book import BOOK_KEY, Book, decode_book
from tests.fakes.broker import FakeBroker


class FakeTopology:
    """Mutable: `changed` what the next `check` raises, `complaints`; the rest is the broker's."""

    def __init__(self, broker: FakeBroker, sources: Sequence[str], outputs: Sequence[str]) -> None:
        self._broker = broker
        self._sources = sources
        self._topics = (*sources, *outputs)
        self.changed: Exception | None = None
        self.complaints: tuple[str, ...] = ()

    @property
    def identities(self) -> Mapping[str, str]:
        return {topic: self._broker.topic_ids[topic] for topic in self._sources}

    @property
    def limits(self) -> Mapping[str, int]:
        return {topic: int(self._broker.config[topic].get("max.message.bytes", 1 << 26)) for topic in self._topics}

    def kept_s(self, topic: str) -> float | None:
        return kept_s(self._broker.config[topic])

    def check(self) -> None:
        if self.changed is not None:
            raise self.changed

    def ask_soon(self) -> None: ...

    def refresh(self) -> None:
        if self._broker.down:
            raise BrokerOutage("no broker answers")
        self.check()


def states(broker: FakeBroker, topics: Sequence[str]) -> dict[str, TopicState]:
    """Of those that are there."""
    return {
        topic: TopicState(one.partitions, 1, broker.config[topic], one.topic_id)
        for topic, one in broker.seen(topics).items()
    }


class _Described(NamedTuple):
    """As confluent-kafka describes a topic."""

    topic_id: str
    partitions: Sequence[None]


class _Entry(NamedTuple):
    """As confluent-kafka tells a setting."""

    name: str
    value: str


class FakeAdmin:
    """What the real `WatchedTopics` and `KafkaTopics` ask a `KafkaAdmin`, answered at once."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    def cluster_id(self) -> str:
        return self._broker.cluster_id

    def describe(self, topics: Sequence[str]) -> Mapping[str, TopicState | None]:
        if self._broker.down:
            raise BrokerOutage("no broker answers")
        there = states(self._broker, topics)
        return {topic: there.get(topic) for topic in topics}

    def topics_soon(self, topics: Sequence[str]) -> Mapping[str, Future[Any]]:
        seen = self._broker.seen(topics)
        return {topic: self._answered(_Described(one.topic_id, [None] * one.partitions)) for topic, one in seen.items()}

    def settings_soon(self, topics: Sequence[str]) -> Mapping[str, Future[Any]]:
        config = self._broker.config
        return {
            topic: self._answered({name: _Entry(name, value) for name, value in config[topic].items()})
            for topic in topics
        }

    def _answered(self, answer: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self._broker.down:
            future.set_exception(BrokerOutage("no broker answers"))
        else:
            future.set_result(answer)
        return future

    def went_wrong(self, raised: BaseException) -> None: ...


def newest_book(broker: FakeBroker, changelog: str, number: int) -> Book | None:
    books = [record.value for record in broker.records(changelog, number) if record.key == BOOK_KEY]
    return decode_book(books[-1] or b"") if books else None
