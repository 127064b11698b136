"""What is said of librdkafka's errors: each complaint with what is to be done about it."""

from __future__ import annotations

import logging

import pytest
import structlog
from confluent_kafka import KafkaError

from processor.edges.kafka.client import Complaints, LibraryLog, said


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (KafkaError._AUTHENTICATION, "KAFKA_SASL_PASSWORD"),
        (KafkaError._SSL, "KAFKA_SSL_CA_LOCATION"),
        (KafkaError._ALL_BROKERS_DOWN, "`hakuna-processor check`"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "allow it to this user"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, "allow it to this user"),
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "allow it to this user"),
    ],
)
def test_a_refusal_comes_with_its_remedy_in_readyz_too(code: int, remedy: str) -> None:
    assert remedy in said(KafkaError(code))
    complaints = Complaints(structlog.get_logger())
    complaints.note("connection", KafkaError(code))
    assert remedy in (complaints.text() or "")


def test_what_needs_no_remedy_is_said_as_it_is() -> None:
    error = KafkaError(KafkaError._TIMED_OUT)
    assert said(error) == error.str()


def test_every_line_of_the_library_is_heard_also_those_that_are_not_logged_again() -> None:
    heard: list[tuple[str, str]] = []
    log = LibraryLog(structlog.get_logger(), lambda facility, text: heard.append((facility, text)))
    for _ in range(2):
        log.log(logging.WARNING, "", "ADDPARTS", "producer-1", "Failed to add partition")
    assert heard == [("ADDPARTS", "Failed to add partition")] * 2
