"""An answer that holds nothing is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any

import confluent_kafka as ck
import pytest
from confluent_kafka.admin import ListOffsetsResultInfo  # type: ignore[attr-defined]  # exported all the same

from processor.edges.kafka.admin import KafkaAdmin
from processor.errors import BrokerOutage
from processor.records import TopicPartition

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


class Client:
    """Answers as librdkafka 2.16 does for a partition whose leader had just died: no error, and no offset."""

    def __init__(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._offsets = offsets

    def list_offsets(self, asked: Iterable[ck.TopicPartition], **_: Any) -> dict[ck.TopicPartition, Future[Any]]:
        answers: dict[ck.TopicPartition, Future[Any]] = {}
        for where in asked:
            answers[where] = Future()
            offset = self._offsets[TopicPartition(where.topic, where.partition)]
            answers[where].set_result(ListOffsetsResultInfo(offset, -1, -1))
        return answers


def told(offsets: Mapping[TopicPartition, int]) -> KafkaAdmin:
    admin = KafkaAdmin({"bootstrap.servers": "127.0.0.1:1"}, client_id="test")
    admin._admin = Client(offsets)  # type: ignore[assignment]
    return admin


QUESTIONS: dict[str, Callable[[KafkaAdmin], Any]] = {
    "beginnings": lambda admin: admin.beginnings([P0, P1]),
    "ends": lambda admin: admin.ends([P0, P1]),
    "stable ends": lambda admin: admin.stable_ends([P0, P1]),
    "a time": lambda admin: admin.at([P0, P1], 1),
    "the newest": lambda admin: admin.newest_ms([P0, P1]),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_log_of_which_nothing_was_told_is_an_outage_and_no_end_below_zero(question: str) -> None:
    """Taken for the end of the log, it would have a restore end before it began, and a sender begin anew."""
    with pytest.raises(BrokerOutage, match="no answer about the log of t/1"):
        QUESTIONS[question](told({P0: 7, P1: ck.OFFSET_INVALID}))


def test_what_was_told_is_taken_and_no_such_time_is_none() -> None:
    assert told({P0: 7, P1: 0}).ends([P0, P1]) == {P0: 7, P1: 0}
    assert told({P0: 7, P1: -1}).at([P0, P1], 1) == {P0: 7, P1: None}
