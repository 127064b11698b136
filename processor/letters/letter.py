"""letter: a refused record in a dead-letter topic, and the facts of its headers.

Pure. Transform, rekey, send and hako make letters; the `dead-letters` commands read them.

    key, value, timestamp     the refused record's own, byte for byte
    headers                   the refused record's own in their order, without ours; then ours, each once

    __dlq.errors.topic .partition .offset    where the record stood       first refusal   ┐ kept on a letter that
    __dlq.errors.first.failed.at             epoch ms                     first refusal   ┘ is refused again
    __dlq.errors.group .stage .reason .message .exception .last.failed.at  last refusal
    __dlq.errors.http.status .http.error.code .http.validation.errors      last refusal, if there was an answer
    __dlq.errors.delivery.count              requests made for it, over all its refusals; 0 when held

Invariants: no header of ours stands twice; origin and first time never change once they are written; a letter that is
replayed and refused again keeps everything else byte for byte; the message holds no personal data.
Not chosen: to keep headers of the refusal before the last (an HTTP status beside a `held` would mislead).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from processor.errors import Fatal
from processor.records import Headers, NewRecord, Position, Reason, Record, Stage, record_bytes

PREFIX: Final = "__dlq.errors."

TOPIC: Final = PREFIX + "topic"
PARTITION: Final = PREFIX + "partition"
OFFSET: Final = PREFIX + "offset"
GROUP: Final = PREFIX + "group"
MESSAGE: Final = PREFIX + "message"
EXCEPTION: Final = PREFIX + "exception"
STAGE: Final = PREFIX + "stage"
REASON: Final = PREFIX + "reason"
DELIVERY_COUNT: Final = PREFIX + "delivery.count"
FIRST_FAILED_AT: Final = PREFIX + "first.failed.at"
LAST_FAILED_AT: Final = PREFIX + "last.failed.at"
HTTP_STATUS: Final = PREFIX + "http.status"
HTTP_ERROR_CODE: Final = PREFIX + "http.error.code"
HTTP_VALIDATION_ERRORS: Final = PREFIX + "http.validation.errors"

VALUE_LEFT_OUT: Final = "ValueLeftOut"
"""`.exception` of a letter without its record's value, because the topic does not take it. The value stands at the
letter's origin, for as long as that topic keeps it. A null value of any other letter is its record's own."""

OURS: Final = frozenset(
    {TOPIC, PARTITION, OFFSET, GROUP, MESSAGE, EXCEPTION, STAGE, REASON, DELIVERY_COUNT, FIRST_FAILED_AT}
    | {LAST_FAILED_AT, HTTP_STATUS, HTTP_ERROR_CODE, HTTP_VALIDATION_ERRORS}
)
"""A header with this prefix and another name belongs to another tool, and stays."""

_VALIDATION_ERRORS: Final = msgspec.json.Decoder(tuple[str, ...])


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a record is refused. `delivery_count` counts the requests since the record was last read; `first_failed_ms`
    is the first failure among them if it was before `failed_ms`. Times are epoch ms."""

    stage: Stage
    reason: str
    message: str
    group: str
    failed_ms: int
    exception: str = ""
    delivery_count: int = 0
    first_failed_ms: int | None = None
    http_status: int | None = None
    error_code: str | None = None
    validation_errors: tuple[str, ...] = ()


class LetterHead(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a letter's headers: origin and time of its first refusal, and everything about its last one."""

    origin: Position
    group: str
    message: str
    exception: str
    stage: str
    reason: str
    delivery_count: int
    first_failed_ms: int
    last_failed_ms: int
    http_status: int | None
    error_code: str | None
    validation_errors: tuple[str, ...]


MESSAGE_CHARS_MAX: Final = 500
"""The longest message: it is a header, and lists show it. A message begins with what is special about its record."""


def shortened(message: str) -> str:
    """Returns the message cut to MESSAGE_CHARS_MAX."""
    return message if len(message) <= MESSAGE_CHARS_MAX else message[: MESSAGE_CHARS_MAX - 1] + "…"


def letter_headers(record: Record, refusal: Refusal) -> Headers:
    """Returns the headers of the letter for `record`. The letter has the record's own key, value and timestamp."""
    before = _ours(record.headers)
    first_failed_ms = refusal.failed_ms if refusal.first_failed_ms is None else refusal.first_failed_ms
    count = 0
    if refusal.reason != Reason.HELD:
        count = (_whole(before.get(DELIVERY_COUNT)) or 0) + refusal.delivery_count
    origin, first_failed = _origin(before), before.get(FIRST_FAILED_AT)
    if origin is None:
        origin, first_failed = record.position, None
    headers: Headers = [header for header in record.headers if header[0] not in OURS]
    headers += [
        (TOPIC, origin.topic.encode()),
        (PARTITION, b"%d" % origin.partition),
        (OFFSET, b"%d" % origin.offset),
        (GROUP, _utf8(refusal.group)),
        (MESSAGE, _utf8(shortened(refusal.message))),
        (EXCEPTION, _utf8(refusal.exception)),
        (STAGE, refusal.stage.value.encode()),
        (REASON, _utf8(refusal.reason)),
        (DELIVERY_COUNT, b"%d" % count),
        (FIRST_FAILED_AT, b"%d" % first_failed_ms if _whole(first_failed) is None else first_failed),
        (LAST_FAILED_AT, b"%d" % refusal.failed_ms),
    ]
    if refusal.http_status is not None:
        headers.append((HTTP_STATUS, b"%d" % refusal.http_status))
    if refusal.error_code is not None:
        headers.append((HTTP_ERROR_CODE, _utf8(refusal.error_code)))
    if refusal.validation_errors or refusal.http_status is not None:  # an answer without any: an empty array
        errors = [_utf8(error).decode() for error in refusal.validation_errors]
        headers.append((HTTP_VALIDATION_ERRORS, msgspec.json.encode(errors)))
    return headers


def letter_of(record: Record, refusal: Refusal, topic: str, partition: int | None = None) -> NewRecord:
    """Returns the dead letter of a record for a topic, in the record's partition if no other is given."""
    headers = letter_headers(record, refusal)
    number = record.partition if partition is None else partition
    return NewRecord(topic, number, record.key, record.value, headers, max(0, record.timestamp_ms))


def fitting_letter(
    record: Record, refusal: Refusal, topic: str, partition: int, bytes_max: int
) -> tuple[NewRecord, int]:
    """Returns the dead letter of a record for a transaction, and its size in bytes. A letter of more than `bytes_max`,
    the limit of its topic, goes without its value, because it would abort every transaction. Raises `Fatal` if it is
    too large even so: dropping it would lose a record, so a person has to act."""
    made = letter_of(record, refusal, topic, partition)
    size = record_bytes(made.key, made.value, made.headers)
    if size > bytes_max:
        headers = without_value(made.headers, made.value, topic, bytes_max)
        made = NewRecord(topic, made.partition, made.key, None, headers, made.timestamp_ms)
        size = record_bytes(made.key, None, headers)
    if size > bytes_max:
        raise Fatal(
            f"the dead letter of {record.position} needs {size} bytes without its value, and {topic} takes {bytes_max}"
            ": raise its max.message.bytes (`topics plan` shows how), then restart"
        )
    return made, size


def without_value(headers: Headers, value: bytes | None, topic: str, bytes_max: int | None) -> Headers:
    """Returns the headers of the same letter without its value: the reason is `too_large`, and the message begins with
    the old reason and message. For a letter that is without its value already, leaves out the validation errors too."""
    written = dict(headers)
    if written.get(EXCEPTION) == VALUE_LEFT_OUT.encode():
        return [header for header in headers if header[0] != HTTP_VALIDATION_ERRORS]
    limit = "is not known" if bytes_max is None else f"is {bytes_max}"
    reason, said = ((written.get(name) or b"").decode("utf-8", "replace") for name in (REASON, MESSAGE))
    message = (
        f"{reason}: {said}; the value of {len(value or b'')} bytes is left out, for {topic} does not take it (its "
        f"max.message.bytes {limit}): a replay takes it from where the record stands"
    )
    changed = {REASON: Reason.TOO_LARGE.value.encode(), MESSAGE: message.encode(), EXCEPTION: VALUE_LEFT_OUT.encode()}
    return [(name, changed.get(name, content)) for name, content in headers]


def letter_head(record: Record) -> LetterHead | None:
    """Returns the facts of a letter's headers; None if `record` has no origin or no reason and so is not ours."""
    ours = _ours(record.headers)
    origin, reason = _origin(ours), ours.get(REASON)
    if origin is None or reason is None:
        return None
    last_failed_ms = _whole(ours.get(LAST_FAILED_AT)) or 0
    first_failed_ms = _whole(ours.get(FIRST_FAILED_AT))
    return LetterHead(
        origin=origin,
        group=_text(ours.get(GROUP)),
        message=_text(ours.get(MESSAGE)),
        exception=_text(ours.get(EXCEPTION)),
        stage=_text(ours.get(STAGE)),
        reason=_text(reason),
        delivery_count=_whole(ours.get(DELIVERY_COUNT)) or 0,
        first_failed_ms=last_failed_ms if first_failed_ms is None else first_failed_ms,
        last_failed_ms=last_failed_ms,
        http_status=_whole(ours.get(HTTP_STATUS)),
        error_code=_text(ours[HTTP_ERROR_CODE]) if HTTP_ERROR_CODE in ours else None,
        validation_errors=_errors(ours.get(HTTP_VALIDATION_ERRORS)),
    )


def _ours(headers: Headers) -> dict[str, bytes | None]:
    """Returns our headers among these. If one stands twice, the first counts."""
    found: dict[str, bytes | None] = {}
    for name, value in headers:
        if name in OURS:
            found.setdefault(name, value)
    return found


def _origin(ours: Mapping[str, bytes | None]) -> Position | None:
    topic, partition, offset = _text(ours.get(TOPIC)), _whole(ours.get(PARTITION)), _whole(ours.get(OFFSET))
    return None if not topic or partition is None or offset is None else Position(topic, partition, offset)


def _whole(value: bytes | None) -> int | None:
    if value is None or len(value) > 19 or not value.removeprefix(b"-").isdigit():
        return None
    return int(value)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")


def _utf8(text: str) -> bytes:
    """Returns UTF-8, with `?` for a lone surrogate: an API may answer with one, and no header could hold it."""
    return text.encode("utf-8", "replace")


def _errors(value: bytes | None) -> tuple[str, ...]:
    if value is None:
        return ()
    try:
        return _VALIDATION_ERRORS.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ()
