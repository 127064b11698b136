"""written: the records on Kafka of an ending, before its offset is finished.

Pure. A delivered entry leaves a receipt; a refused one its letter and, if it holds its order, the hold; a held one its
letter. A superseded one leaves nothing: the newer entry is in the outbox.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from processor.api.verdicts import Delivered, Rejected
from processor.errors import BadRecord
from processor.letters.holds import Hold, encode_hold
from processor.letters.letter import Refusal, letter_of
from processor.letters.resolutions import Resolution, encode_resolution, resolution_key
from processor.moments import meant_ms
from processor.records import EntryType, NewRecord, OutboxEntry, Position, Reason, Record, Stage
from processor.send.pending import Ended


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """The value of a record on `hakuna.deliveries`, JSON. `latency_ms` is since the source record's timestamp."""

    order_id: str
    entry_id: str
    entry_type: EntryType
    event_id: str | None
    status: int
    attempts: int
    delivered_at: int
    latency_ms: int


_JSON: Final = msgspec.json.Encoder()


def receipt(ended: Ended[OutboxEntry], delivered: Delivered, topic: str) -> NewRecord:
    pending = ended.pending
    record = pending.record
    value = Receipt(
        pending.order_id,
        pending.entry_id,
        pending.entry.entry_type,
        delivered.event_id,
        delivered.status,
        pending.attempts,
        ended.at_ms,
        ended.at_ms - meant_ms(pending.occurred_at_ms),
    )
    return NewRecord(topic, record.partition, record.key, _JSON.encode(value), [])


def refused_letter(ended: Ended[Any], rejected: Rejected, topic: str, group: str) -> NewRecord:
    refusal = Refusal(
        stage=Stage.SEND,
        reason=rejected.reason,
        message=rejected.message,
        group=group,
        failed_ms=ended.at_ms,
        first_failed_ms=ended.pending.first_failed_ms,
        delivery_count=ended.pending.attempts,
        http_status=rejected.http_status,
        error_code=rejected.error_code,
        validation_errors=rejected.validation_errors,
    )
    return letter_of(ended.pending.record, refusal, topic)


def held_letter(ended: Ended[Any], topic: str, group: str) -> NewRecord:
    refusal = Refusal(
        stage=Stage.SEND,
        reason=Reason.HELD,
        message="an earlier entry of this order was refused and is not resolved yet",
        group=group,
        failed_ms=ended.at_ms,
    )
    return letter_of(ended.pending.record, refusal, topic)


def unreadable_letter(record: Record, bad: BadRecord, at_ms: int, topic: str, group: str) -> NewRecord:
    refusal = Refusal(stage=bad.stage, reason=bad.reason, message=str(bad), group=group, failed_ms=at_ms)
    return letter_of(record, refusal, topic)


def resolved(letter: Position, resolution: Resolution, topic: str, partition: int) -> NewRecord:
    return NewRecord(topic, partition, resolution_key(letter), encode_resolution(resolution), [])


def hold(record: Record, held: Hold, topic: str) -> NewRecord:
    return NewRecord(topic, record.partition, record.key, encode_hold(held), [])
