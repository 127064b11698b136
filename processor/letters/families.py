"""families: which tool wrote a dead letter, and the facts of its headers, in the same words for all tools.

    ours            __dlq.errors.* with a reason       UTF-8, times and HTTP's answer among them (`letter.py`)
    share group     __dlq.errors.* without a reason    UTF-8 (KIP-1191)
    Kafka Connect   __connect.errors.*                 UTF-8 (KIP-298)
    Kafka Streams   __streams.errors.*                 UTF-8 (KIP-1034)
    Spring          kafka_dlt-*, kafka_original-*      text, but partition and offset are big-endian integers
    unknown         none of these headers              no fact is known; it cannot go back anywhere

Pure. Other tools write neither a time nor a reason. So the time is the record's own, and the reason is the short name
of the exception's class. A copy that goes back is without their headers, because each tool adds its own again and would
double them. It keeps ours, because a letter that is refused again keeps its origin and its first failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from processor.letters import letter
from processor.records import Headers, Position, Record


class Family(StrEnum):
    """Who wrote a dead letter."""

    PROCESSOR = "processor"
    SHARE_GROUP = "share-group"
    CONNECT = "connect"
    STREAMS = "streams"
    SPRING = "spring"
    UNKNOWN = "unknown"


class LetterFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The facts that a dead letter's headers give. `origin` is None if they do not say where it came from.
    `original_ms` is the refused record's timestamp if the letter has another one and names it (epoch ms)."""

    family: Family
    origin: Position | None
    reason: str
    first_failed_ms: int
    last_failed_ms: int
    stage: str = ""
    group: str = ""
    exception: str = ""
    message: str = ""
    delivery_count: int | None = None
    http_status: int | None = None
    error_code: str | None = None
    validation_errors: tuple[str, ...] = ()
    original_ms: int | None = None


UNKNOWN_REASON: Final = "unknown"
"""The reason of a letter that gives none."""

_CONNECT: Final = "__connect.errors."
_STREAMS: Final = "__streams.errors."
_SPRING_PREFIXES: Final = ("kafka_dlt-", "kafka_original-", "kafka_exception-")
_ORIGINS: Final = frozenset(
    {letter.TOPIC, letter.PARTITION, letter.OFFSET}
    | {f"{prefix}{name}" for prefix in (_CONNECT, _STREAMS) for name in ("topic", "partition", "offset")}
    | {
        f"kafka_{prefix}original-{name}"
        for prefix in ("dlt-", "")
        for name in ("topic", "partition", "offset", "timestamp")
    }
)
"""Where a record stood. A tool that refuses it again writes these once more: the first are the record's, the last its
copy's. Of other headers the last counts."""
_WHOLE_CHARS_MAX: Final = 19

_FOREIGN_PREFIXES: Final[Mapping[Family, tuple[str, ...]]] = {
    Family.PROCESSOR: (),
    Family.UNKNOWN: (),
    Family.SHARE_GROUP: (letter.PREFIX,),
    Family.CONNECT: (_CONNECT,),
    Family.STREAMS: (_STREAMS,),
    Family.SPRING: _SPRING_PREFIXES,
}


def letter_facts(record: Record) -> LetterFacts:
    """Returns the facts of any record of any topic, whatever its headers are; raises nothing."""
    head = letter.letter_head(record)
    if head is not None:
        return LetterFacts(family=Family.PROCESSOR, **msgspec.structs.asdict(head))
    headers = {name: value for name, value in record.headers if value is not None}
    for name, value in reversed(record.headers):
        if value is not None and name in _ORIGINS:
            headers[name] = value
    if letter.TOPIC in headers:
        return _share_group(record, headers)
    if _CONNECT + "topic" in headers or _CONNECT + "exception.class.name" in headers:
        return _connect(record, headers)
    if _STREAMS + "topic" in headers or _STREAMS + "exception" in headers:
        return _streams(record, headers)
    if any(name.startswith(_SPRING_PREFIXES) for name in headers):
        return _spring(record, headers)
    return _facts(record, Family.UNKNOWN, None, "")


def headers_to_send(family: Family, headers: Headers) -> Headers:
    """Returns the headers of a copy that goes back to the letter's origin."""
    foreign = _FOREIGN_PREFIXES[family]
    return [header for header in headers if not header[0].startswith(foreign)] if foreign else list(headers)


def _share_group(record: Record, headers: Mapping[str, bytes]) -> LetterFacts:
    said = {"message": _text(headers, letter.MESSAGE), "group": _text(headers, letter.GROUP)}
    count = _whole(headers.get(letter.DELIVERY_COUNT))
    return _facts(record, Family.SHARE_GROUP, _origin(headers, letter.PREFIX), "", delivery_count=count, **said)


def _connect(record: Record, headers: Mapping[str, bytes]) -> LetterFacts:
    said = {
        "message": _text(headers, _CONNECT + "exception.message"),
        "stage": _text(headers, _CONNECT + "stage").lower(),
    }
    exception, group = _text(headers, _CONNECT + "exception.class.name"), _text(headers, _CONNECT + "connector.name")
    return _facts(record, Family.CONNECT, _origin(headers, _CONNECT), exception, group=group, **said)


def _streams(record: Record, headers: Mapping[str, bytes]) -> LetterFacts:
    # Streams writes the exception's `toString()`: its class, a colon, its message.
    exception, message = _text(headers, _STREAMS + "exception").partition(":")[0], _text(headers, _STREAMS + "message")
    return _facts(record, Family.STREAMS, _origin(headers, _STREAMS), exception, message=message)


def _spring(record: Record, headers: Mapping[str, bytes]) -> LetterFacts:
    def found(name: str) -> bytes | None:
        """Spring Kafka 4.1 writes `kafka_dlt-` before every name; names without `dlt-` are read too."""
        return headers.get(f"kafka_dlt-{name}", headers.get(f"kafka_{name}"))

    topic = (found("original-topic") or b"").decode("utf-8", "replace")
    partition = _big_endian(found("original-partition"), 4)
    offset = _big_endian(found("original-offset"), 8)
    known = topic and partition is not None and offset is not None
    # The exception itself is nearly always the listener container's; its cause says what went wrong.
    exception = found("exception-cause-fqcn") or found("exception-fqcn") or found("key-exception-fqcn") or b""
    message = found("exception-message") or found("key-exception-message") or b""
    return _facts(
        record,
        Family.SPRING,
        Position(topic, partition, offset) if known and partition is not None and offset is not None else None,
        exception.decode("utf-8", "replace"),
        message=message.decode("utf-8", "replace"),
        group=(found("original-consumer-group") or b"").decode("utf-8", "replace"),
        # The letter's own timestamp is the time of the failure.
        original_ms=_big_endian(found("original-timestamp"), 8),
    )


def _facts(record: Record, family: Family, origin: Position | None, exception: str, **said: Any) -> LetterFacts:
    reason, failed_ms = exception.rpartition(".")[2] or UNKNOWN_REASON, max(record.timestamp_ms, 0)
    return LetterFacts(
        family=family,
        origin=origin,
        reason=reason,
        first_failed_ms=failed_ms,
        last_failed_ms=failed_ms,
        exception=exception,
        **said,
    )


def _origin(headers: Mapping[str, bytes], prefix: str) -> Position | None:
    topic = _text(headers, prefix + "topic")
    partition, offset = _whole(headers.get(prefix + "partition")), _whole(headers.get(prefix + "offset"))
    return None if not topic or partition is None or offset is None else Position(topic, partition, offset)


def _text(headers: Mapping[str, bytes], name: str) -> str:
    return headers.get(name, b"").decode("utf-8", "replace")


def _whole(value: bytes | None) -> int | None:
    return int(value) if value is not None and len(value) <= _WHOLE_CHARS_MAX and value.isdigit() else None


def _big_endian(value: bytes | None, size: int) -> int | None:
    if value is None or len(value) != size:
        return None
    number = int.from_bytes(value, "big", signed=True)
    return number if number >= 0 else None
